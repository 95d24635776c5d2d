//! A playbook becomes its cases: gate × model × artifact × backend (× prompt), in the order of the file.
//!
//! Every name is settled here, before anything runs: a misspelled gate is an error on its line and never a check
//! that silently did not happen.

use super::backend_use::names_of;
use super::diagnostics::{Diagnostics, Gather};
use super::located::{At, Located};
use super::names::Names;
use super::schema::{Artifact, DEFAULT_TOKENS, Expect, GateUse, Origin, Playbook};
use super::{AgainstRule, Case, Catalog, GateInfo};
use std::collections::{BTreeMap, HashMap};

/// Expands the playbook into cases with unique ids, in a fixed order: suite, gate, model, artifact, backend,
/// prompt, each as the playbook lists it.
///
/// # Errors
/// Every unknown name, limit that the gate does not know or that has the wrong type, `against:` that breaks the
/// gate's rule, circle of conversions, `expect: fail` without a reason, and every gate that is left without a case.
pub fn plan(playbook: &Playbook, catalog: &dyn Catalog) -> Result<Vec<Case>, Diagnostics> {
    let mut gather = Gather::new(&playbook.source);
    super::references::check(playbook, catalog, &mut gather);
    let mut planner =
        Planner { playbook, catalog, gather, cases: Vec::new(), ids: HashMap::new(), full: false };
    for (suite, uses) in playbook.suites.iter() {
        if uses.is_empty() {
            let message = format!("the suite `{}` has no gate", suite.value);
            planner.gather.add(suite.at, message, Some("name at least one, or leave the suite out".into()));
        }
        for gate in uses {
            planner.gate(&suite.value, gate);
        }
    }
    if let Some(detection) = &playbook.detection {
        let drawn = super::detection::plan(playbook, detection, catalog, &mut planner.gather);
        planner.cases.extend(drawn);
    }
    planner.gather.finish(planner.cases)
}

/// Most cases of one playbook: a matrix beyond this is a slip.
const MOST_CASES: usize = 20_000;

struct Planner<'a> {
    playbook: &'a Playbook,
    catalog: &'a dyn Catalog,
    gather: Gather,
    cases: Vec<Case>,
    /// Where each id was first given.
    ids: HashMap<String, At>,
    /// Whether [`MOST_CASES`] was complained about.
    full: bool,
}

/// What one use of a gate selects, every name known.
struct Selection<'a> {
    models: Vec<&'a str>,
    artifacts: Vec<&'a str>,
    /// One empty name for a gate that runs no model.
    backends: Vec<&'a str>,
    prompts: Vec<(String, String)>,
    against: Option<&'a str>,
}

impl<'a> Planner<'a> {
    fn gate(&mut self, suite: &str, gate: &'a GateUse) {
        let Some(info) = self.catalog.gate(&gate.gate.value) else {
            let hint = self.gather.suggest(&gate.gate.value, &self.catalog.gate_ids());
            return self.gather.add(gate.gate.at, format!("unknown gate `{}`", gate.gate.value), hint);
        };
        super::settings::check(gate, &info, &mut self.gather);
        // Expand even after a complaint about limits: all complaints of a gate at once.
        let Some(selection) = self.selection(gate, &info) else { return };
        let before = self.cases.len();
        for model in &selection.models {
            for artifact in &selection.artifacts {
                if !self.applies(artifact, model) || !self.compares(artifact, model, &selection, &info) {
                    continue;
                }
                for backend in &selection.backends {
                    if info.against == AgainstRule::BackendOrRuntime && selection.against == Some(*backend) {
                        continue;
                    }
                    if info.per_prompt {
                        for prompt in &selection.prompts {
                            self.case(suite, gate, &selection, (model, artifact, backend), Some(prompt));
                        }
                    } else {
                        self.case(suite, gate, &selection, (model, artifact, backend), None);
                    }
                }
            }
        }
        if self.cases.len() == before && !self.full {
            let hint =
                "no selected artifact applies to a selected model, or each would be compared with itself";
            let message = format!("the gate `{}` is left without a case", info.id);
            self.gather.add(gate.gate.at, message, Some(hint.into()));
        }
    }

    fn case(
        &mut self,
        suite: &str,
        gate: &GateUse,
        selection: &Selection,
        (model, artifact, backend): (&str, &str, &str),
        prompt: Option<&(String, String)>,
    ) {
        if self.cases.len() >= MOST_CASES {
            if !std::mem::replace(&mut self.full, true) {
                let message = format!("the playbook expands to more than {MOST_CASES} cases");
                self.gather.add(gate.gate.at, message, None);
            }
            return;
        }
        let id = case_id(suite, gate, model, artifact, backend, prompt.map(|p| p.0.as_str()));
        let at = gate.gate.at;
        if let Some(first) = self.ids.insert(id.clone(), at) {
            let message = format!("the case `{id}` stands already on line {}", first.line);
            self.gather.add(at, message, Some("give one of the two gates a `label:`".into()));
            return;
        }
        let playbook = self.playbook;
        let wants_fail = gate.expect.as_ref().is_some_and(|e| e.value == Expect::Fail);
        let prompts = if prompt.is_some() { Vec::new() } else { selection.prompts.clone() };
        self.cases.push(Case {
            id,
            suite: suite.to_owned(),
            gate: gate.gate.value.clone(),
            model: model.to_owned(),
            artifact: artifact.to_owned(),
            backend: backend.to_owned(),
            prompt: prompt.cloned(),
            prompts,
            against: selection.against.map(str::to_owned),
            tokens: gate.tokens.as_ref().map_or(DEFAULT_TOKENS, |t| t.value) as usize,
            limits: gate.limits.iter().map(|(k, v)| (k.value.clone(), v.clone())).collect::<BTreeMap<_, _>>(),
            expect_fail: gate.reason.as_ref().filter(|_| wants_fail).map(|r| r.value.clone()),
            optional: gate.optional
                || playbook.models.get(model).is_some_and(|m| m.optional)
                || self.optional_artifact(artifact)
                || selection.against.is_some_and(|a| self.optional_against(a)),
            optional_backends: self.optional_backends(gate, backend, selection.against),
            timeout_s: gate.timeout.unwrap_or(playbook.policy.case_timeout).0,
            at,
            probe: None,
        });
    }

    fn selection(&mut self, gate: &'a GateUse, info: &GateInfo) -> Option<Selection<'a>> {
        let playbook = self.playbook;
        let names = Names::of(playbook, self.catalog);
        let models = names.models.select(gate.models.as_deref(), &mut self.gather);
        let artifacts = names.artifacts.select(gate.artifacts.as_deref(), &mut self.gather);
        let prompt_names = names.prompts.select(gate.prompts.as_deref(), &mut self.gather);
        let backends = if info.needs_backend {
            let listed = gate.backends.as_ref().unwrap_or(&playbook.backends);
            names.backends.select(Some(&names_of(listed)), &mut self.gather)
        } else {
            if let Some(first) = gate.backends.as_ref().and_then(|b| b.first()) {
                let message = format!("the gate `{}` runs no model and has no backends", info.id);
                self.gather.add(first.name.at, message, Some("leave `backends` out".into()));
            }
            Some(vec![""])
        };
        let against = self.against(gate, info, &names);
        if prompt_names.as_ref().is_some_and(Vec::is_empty) && info.per_prompt {
            let message = format!("the gate `{}` needs prompts and the playbook has none", info.id);
            self.gather.add(gate.gate.at, message, Some("add `prompts:` to the playbook".into()));
            return None;
        }
        let (models, artifacts, backends, against) = (models?, artifacts?, backends?, against?);
        self.not_with_itself(gate, info, against);
        let prompts = self.prompts(&prompt_names?);
        Some(Selection { models, artifacts, backends, prompts, against })
    }

    /// Name and text of each prompt. A prompt from a file that nobody read would be an empty prompt in disguise.
    fn prompts(&mut self, names: &[&str]) -> Vec<(String, String)> {
        let mut prompts = Vec::new();
        for name in names {
            let Some(prompt) = self.playbook.prompts.get(name) else { continue };
            match (&prompt.text, &prompt.file) {
                (Some(text), _) => prompts.push(((*name).to_owned(), text.clone())),
                (None, Some(file)) => {
                    let message = format!("the file of the prompt `{name}` was not read");
                    self.gather.add(file.at, message, None);
                }
                (None, None) => {}
            }
        }
        prompts
    }

    /// What the gate compares with; `None` after a complaint.
    fn against(&mut self, gate: &'a GateUse, info: &GateInfo, names: &Names<'a>) -> Option<Option<&'a str>> {
        let gather = &mut self.gather;
        match (&gate.against, info.against) {
            (None, AgainstRule::None) => Some(None),
            (None, AgainstRule::ArtifactOrSource) => Some(Some(SOURCE)),
            (None, AgainstRule::Artifact | AgainstRule::BackendOrRuntime) => {
                let what = match info.against {
                    AgainstRule::BackendOrRuntime => "a backend or a runtime",
                    AgainstRule::None | AgainstRule::ArtifactOrSource | AgainstRule::Artifact => {
                        "an artifact"
                    }
                };
                let message = format!("the gate `{}` compares with {what}: `against` is missing", info.id);
                gather.add(gate.gate.at, message, None);
                None
            }
            (Some(given), AgainstRule::None) => {
                let message = format!("the gate `{}` compares with nothing that could be named", info.id);
                gather.add(given.at, message, Some("leave `against` out".into()));
                None
            }
            (Some(given), AgainstRule::ArtifactOrSource | AgainstRule::Artifact) => {
                names.artifacts.known(given, gather).map(Some)
            }
            (Some(given), AgainstRule::BackendOrRuntime) => names.runners.known(given, gather).map(Some),
        }
    }

    /// Comparing a thing with itself measures nothing. Where the playbook asks for it by name it is an error;
    /// where it comes from a default list it is left out.
    fn not_with_itself(&mut self, gate: &GateUse, info: &GateInfo, against: Option<&str>) {
        let Some(against) = against else { return };
        let listed = match info.against {
            AgainstRule::None => return,
            AgainstRule::ArtifactOrSource | AgainstRule::Artifact => gate.artifacts.clone(),
            AgainstRule::BackendOrRuntime => gate.backends.as_deref().map(names_of),
        };
        for name in listed.iter().flatten() {
            let same = match info.against {
                AgainstRule::BackendOrRuntime => name.value == against,
                AgainstRule::None | AgainstRule::ArtifactOrSource | AgainstRule::Artifact => {
                    self.same_artifact(&name.value, against)
                }
            };
            if same {
                let message = format!("`{}` would be compared with itself", name.value);
                self.gather.add(name.at, message, Some("name another one in `against`".into()));
            }
        }
    }

    /// Whether an artifact of this model can be held against what the gate names.
    fn compares(&self, artifact: &str, model: &str, selection: &Selection, info: &GateInfo) -> bool {
        match (info.against, selection.against) {
            (AgainstRule::ArtifactOrSource | AgainstRule::Artifact, Some(against)) => {
                self.applies(against, model) && !self.same_artifact(artifact, against)
            }
            (AgainstRule::None | AgainstRule::BackendOrRuntime, _)
            | (AgainstRule::ArtifactOrSource | AgainstRule::Artifact, None) => true,
        }
    }

    fn same_artifact(&self, a: &str, b: &str) -> bool {
        a == b || (self.is_source(a) && self.is_source(b))
    }

    fn is_source(&self, name: &str) -> bool {
        let origin = self.playbook.artifacts.get(name).and_then(Artifact::origin);
        name == SOURCE || origin == Some(Origin::Source)
    }

    /// Whether the artifact, and all that it is made from, applies to the model.
    fn applies(&self, artifact: &str, model: &str) -> bool {
        lineage(self.playbook, artifact)
            .iter()
            .all(|a| a.models.as_ref().is_none_or(|claimed| claimed.iter().any(|m| m.value == model)))
    }

    fn optional_artifact(&self, name: &str) -> bool {
        lineage(self.playbook, name).iter().any(|a| a.optional)
    }

    /// Which of the two backends of a case may lack their adapter.
    fn optional_backends(&self, gate: &GateUse, backend: &str, against: Option<&str>) -> Vec<String> {
        let backends = self.catalog.backend_names();
        let of_case = [Some(backend), against].into_iter().flatten();
        let of_gate = gate.backends.iter().flatten().filter(|b| b.optional).map(|b| b.name.value.as_str());
        let marked: Vec<&str> = of_gate.chain(self.playbook.optional_backends()).collect();
        let optional = |name: &&str| backends.contains(name) && (gate.optional || marked.contains(name));
        of_case.filter(optional).map(str::to_owned).collect()
    }

    fn optional_against(&self, name: &str) -> bool {
        self.optional_artifact(name) || self.playbook.runtimes.get(name).is_some_and(|r| r.optional)
    }
}

/// The name that always means the model's source.
pub(super) const SOURCE: &str = "source";

/// Most conversions one after the other: a chain beyond this is a slip.
pub(super) const LONGEST_LINEAGE: usize = 32;

/// The artifact of that name and those that it is made from, as far as they are known; ends in a circle too, and
/// after [`LONGEST_LINEAGE`].
pub(super) fn lineage<'a>(playbook: &'a Playbook, name: &str) -> Vec<&'a Artifact> {
    let mut chain = Vec::new();
    let mut next = playbook.artifacts.get(name);
    while let Some(artifact) = next {
        if chain.len() > LONGEST_LINEAGE {
            break;
        }
        chain.push(artifact);
        next = artifact.from.as_ref().and_then(|from: &Located<String>| playbook.artifacts.get(&from.value));
    }
    chain
}

/// `suite/gate[@label]/model/artifact[/backend][/prompt]`.
fn case_id(
    suite: &str,
    gate: &GateUse,
    model: &str,
    artifact: &str,
    backend: &str,
    prompt: Option<&str>,
) -> String {
    let mut id = format!("{suite}/{}", gate.gate.value);
    if let Some(label) = &gate.label {
        id.push('@');
        id.push_str(&label.value);
    }
    for part in [Some(model), Some(artifact), Some(backend), prompt] {
        if let Some(part) = part.filter(|p| !p.is_empty()) {
            id.push('/');
            id.push_str(part);
        }
    }
    id
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, PLAYBOOK, Shapes};
    use super::super::{ParamValue, parse};
    use super::*;

    fn ids() -> Vec<String> {
        fixture::cases().into_iter().map(|c| c.id).collect()
    }

    #[test]
    fn the_order_is_the_playbooks() {
        let expected = "\
parity/token-parity/tiny-llama/safetensors/cpu/hello
parity/token-parity/tiny-llama/safetensors/cpu/code
parity/token-parity/tiny-llama/apr-int8/cpu/hello
parity/token-parity/tiny-llama/apr-int8/cpu/code
parity/token-parity/tiny-llama/apr-int4/cpu/hello
parity/token-parity/tiny-llama/apr-int4/cpu/code
parity/token-parity/tiny-llama/gguf/cpu/hello
parity/token-parity/tiny-llama/gguf/cpu/code
parity/token-parity/real/safetensors/cpu/hello
parity/token-parity/real/safetensors/cpu/code
parity/token-parity/real/apr-int8/cpu/hello
parity/token-parity/real/apr-int8/cpu/code
parity/token-parity/real/apr-int4/cpu/hello
parity/token-parity/real/apr-int4/cpu/code
parity/token-parity/real/gguf/cpu/hello
parity/token-parity/real/gguf/cpu/code
parity/token-parity/real/vendor/cpu/hello
parity/token-parity/real/vendor/cpu/code
parity/quant-drift/tiny-llama/apr-int8/cpu
parity/quant-drift/real/apr-int8/cpu
parity/runtime-parity/tiny-llama/gguf/cpu/hello
parity/runtime-parity/tiny-llama/gguf/reference/hello
files/tensor-names/tiny-llama/apr-int8
files/tensor-names/tiny-llama/apr-int4
files/tensor-names/tiny-llama/gguf
files/tensor-names/real/apr-int8
files/tensor-names/real/apr-int4
files/tensor-names/real/gguf
files/tensor-names/real/vendor
files/round-trip/tiny-llama/apr-int4/cpu
files/round-trip/real/apr-int4/cpu";
        assert_eq!(ids(), expected.lines().collect::<Vec<_>>());
    }

    #[test]
    fn a_case_carries_what_its_gate_says() {
        let cases = fixture::cases();
        let find = |id: &str| cases.iter().find(|c| c.id == id).expect("planned");
        let parity = find("parity/token-parity/tiny-llama/gguf/cpu/code");
        assert_eq!(parity.prompt, Some(("code".into(), "def f(n):".into())));
        assert_eq!(
            (parity.tokens, parity.timeout_s, parity.optional, &parity.against),
            (32, 90, false, &None)
        );
        assert_eq!(parity.limits["max_mismatches"].value, ParamValue::Number(3.0));
        assert_eq!((parity.at, parity.prompts.len()), (At { line: 19, column: 13 }, 0));
        let drift = find("parity/quant-drift/real/apr-int8/cpu");
        assert_eq!(
            (drift.against.as_deref(), drift.prompts.len(), drift.timeout_s),
            (Some("apr-int4"), 2, 300)
        );
        assert!(drift.optional, "its model is");
        let runtime = find("parity/runtime-parity/tiny-llama/gguf/cpu/hello");
        assert_eq!(
            (runtime.against.as_deref(), runtime.optional),
            (Some("llama"), true),
            "its runtime is optional"
        );
        let trip = find("files/round-trip/tiny-llama/apr-int4/cpu");
        assert_eq!(trip.expect_fail.as_deref(), Some("four bits are too few for this model"));
        assert_eq!(trip.against.as_deref(), Some("source"));
    }

    /// What stands instead of `from` in the fixture, and the first complaint that it must bring.
    #[test]
    fn every_wrong_name_is_found() {
        let rows = [
            ("gate: token-parity", "gate: token-partiy", "unknown gate `token-partiy`"),
            ("artifacts: [apr-int8]", "artifacts: [apr-int9]", "unknown artifact `apr-int9`"),
            ("against: apr-int4", "against: apr-int9", "unknown artifact `apr-int9`"),
            (
                "      against: apr-int4\n",
                "",
                "the gate `quant-drift` compares with an artifact: `against` is missing",
            ),
            ("against: llama", "against: lama", "unknown backend or runtime `lama`"),
            ("models: [tiny-llama]", "models: [tiny-lama]", "unknown model `tiny-lama`"),
            ("prompts: [hello]", "prompts: [helo]", "unknown prompt `helo`"),
            ("backends: [cpu, reference]", "backends: [gpu]", "unknown backend `gpu`"),
            ("backends: [cpu, reference]", "backends: [cpu, cpu]", "the backend `cpu` is listed twice"),
            ("max_mismatches: 3", "max_mismatch: 3", "the gate `token-parity` has no limit `max_mismatch`"),
            ("max_mismatches: 3", "max_mismatches: few", "`max_mismatches`: expected a number, found `few`"),
            ("teacher_forced", "teacher_forcd", "`counting`: unknown value `teacher_forcd`"),
            ("max_mismatches: 3, ", "", "the gate `token-parity` needs the limit `max_mismatches`"),
            ("counting: teacher_forced", "ceiling: nine", "`ceiling`: expected a number, found `nine`"),
            ("counting: teacher_forced", "encoding: 8", "`encoding`: expected a word, found 8"),
            ("teacher_forced", "7", "`counting`: expected a word, found 7"),
            ("from: apr-int8", "from: gguf", "`gguf` is made from itself"),
            ("from: apr-int8", "from: nowhere", "unknown artifact `nowhere`"),
            ("models: [real]}", "models: [reel]}", "unknown model `reel`"),
            ("      reason: four bits are too few for this model\n", "", "`expect: fail` needs a reason"),
            ("      expect: fail\n", "", "`reason` explains an expected failure, and none is expected"),
            (
                "- gate: tensor-names",
                "- {gate: tensor-names, against: nowhere}",
                "unknown artifact `nowhere`",
            ),
            (
                "- gate: tensor-names",
                "- {gate: tensor-names, backends: [cpu]}",
                "the gate `tensor-names` runs no model and has no backends",
            ),
            (
                "- gate: tensor-names",
                "- {gate: tensor-names, artifacts: [safetensors]}",
                "`safetensors` would be compared with itself",
            ),
            (
                "- gate: tensor-names",
                "- {gate: token-parity, against: gguf}",
                "the gate `token-parity` compares with nothing that could be named",
            ),
            (
                "- gate: tensor-names",
                "- {gate: tensor-names, models: [tiny-llama], artifacts: [vendor]}",
                "the gate `tensor-names` is left without a case",
            ),
            (
                "- gate: tensor-names",
                "- gate: tensor-names\n    - gate: tensor-names",
                "the case `files/tensor-names/tiny-llama/apr-int8` stands already on line 32",
            ),
            (
                "{source: true}",
                "{source: true, quantize: int8}",
                "`safetensors` is not converted, so `quantize` says nothing",
            ),
            (
                "format: gguf}",
                "format: gguf, names: hf}",
                "`names`, `dialect` and `layout` belong to APR files, and `gguf` is none",
            ),
            (
                "format: gguf}",
                "format: apr, dialect: aprender, layout: tiled}",
                "`gguf` cannot be tiled: aprender's files have no row tiles",
            ),
            (
                "safetensors: {source: true}",
                "source: {from: apr-int8, format: gguf}",
                "the name `source` always means the model's source",
            ),
            ("runtimes:\n  llama:", "runtimes:\n  cpu:", "the runtime `cpu` has the name of a backend"),
            ("suites:\n", "policy: {required_suites: [fils]}\nsuites:\n", "unknown suite `fils`"),
            ("suites:\n", "suites:\n  empty: []\n", "the suite `empty` has no gate"),
            (
                "hello: {text: Hello}",
                "hello: {file: hello.txt}",
                "the file of the prompt `hello` was not read",
            ),
        ];
        for (from, to, expected) in rows {
            assert!(PLAYBOOK.contains(from), "{from}");
            let text = PLAYBOOK.replacen(from, to, 1);
            let playbook = parse("p.yaml", &text).unwrap_or_else(|e| panic!("{to}: {e}"));
            let error = plan(&playbook, &Shapes).expect_err(expected);
            let messages: Vec<&str> = error.items().iter().map(|d| d.message.as_str()).collect();
            assert!(messages.contains(&expected), "{to}: {messages:?}");
            let item = error.items().iter().find(|d| d.message == expected).expect("just found");
            let line = playbook.source.line(item.at.line);
            let place = line.chars().skip(item.at.column as usize - 1).collect::<String>();
            assert!(!place.trim().is_empty(), "{to}: no text at {:?}", item.at);
        }
    }

    #[test]
    fn a_label_tells_two_uses_apart() {
        let twice = "- gate: tensor-names\n    - {gate: tensor-names, label: again}";
        let text = PLAYBOOK.replacen("- gate: tensor-names", twice, 1);
        let cases = plan(&parse("p.yaml", &text).expect("valid"), &Shapes).expect("valid");
        assert!(cases.iter().any(|c| c.id == "files/tensor-names@again/tiny-llama/gguf"));
    }

    #[test]
    fn a_conversion_of_an_outside_file_applies_where_the_file_does() {
        let text = PLAYBOOK.replacen("from: apr-int8", "from: vendor", 1);
        let cases = plan(&parse("p.yaml", &text).expect("valid"), &Shapes);
        let error = cases.expect_err("runtime-parity asks for gguf of tiny-llama");
        assert_eq!(error.items()[0].message, "the gate `runtime-parity` is left without a case");
    }

    #[test]
    fn a_matrix_beyond_reason_is_refused() {
        let many = |prefix: &str, value: &str| -> String {
            (0..200).map(|n| format!("  {prefix}{n}: {value}\n")).collect()
        };
        let text = format!(
            "version: 1\nname: p\nmodels:\n{}artifacts:\n{}suites: {{s: [{{gate: tensor-names}}]}}\n",
            many("m", "{source: x}"),
            many("a", "{from: source, format: apr}")
        );
        let error = plan(&parse("p.yaml", &text).expect("valid"), &Shapes).expect_err("40000 cases");
        assert_eq!(error.items()[0].message, "the playbook expands to more than 20000 cases");
    }
}
