//! Where each value of each gate comes from, how many cases it makes, and what they will cost. No model is read.

use super::backend_use::names_of;
use super::estimate::{self, Estimate};
use super::schema::{GateUse, Origin, Playbook};
use super::{Case, Catalog, DEFAULT_TOKENS, Param, ParamDefault};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Sizes in bytes that the caller found; what is missing could not be found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileSizes {
    /// By model name: all files of its source.
    pub models: BTreeMap<String, u64>,
    /// By artifact name: an outside file.
    pub files: BTreeMap<String, u64>,
    /// By model name: its perplexity text.
    pub texts: BTreeMap<String, u64>,
}

/// The text and the numbers in it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Explanation {
    /// For people.
    pub text: String,
    /// How many cases.
    pub cases: usize,
    /// What they will cost.
    pub estimate: Estimate,
}

/// Explains the `cases` of a playbook, which may be a selection of its plan.
pub fn explain(playbook: &Playbook, cases: &[Case], catalog: &dyn Catalog, sizes: &FileSizes) -> Explanation {
    let estimate = estimate::estimate(playbook, cases, catalog, sizes);
    let mut text = format!("playbook {} ({})\n", playbook.name.value, playbook.source.file());
    if let Some(description) = &playbook.description {
        push(&mut text, format_args!("  {}", description.trim().replace('\n', "\n  ")));
    }
    models(&mut text, playbook, sizes);
    artifacts(&mut text, playbook, sizes);
    for (suite, uses) in playbook.suites.iter() {
        push(&mut text, format_args!("\nsuite {} (line {})", suite.value, suite.at.line));
        for gate in uses {
            let of_gate: Vec<&Case> = cases.iter().filter(|c| c.at == gate.gate.at).collect();
            explain_gate(&mut text, playbook, gate, &of_gate, catalog);
        }
    }
    let noun = if cases.len() == 1 { "case" } else { "cases" };
    push(&mut text, format_args!("\n{} {noun}", cases.len()));
    text.push_str(&estimate.to_string());
    Explanation { text, cases: cases.len(), estimate }
}

fn models(text: &mut String, playbook: &Playbook, sizes: &FileSizes) {
    text.push_str("\nmodels\n");
    for (name, model) in playbook.models.iter() {
        let size = match sizes.models.get(&name.value) {
            Some(bytes) => estimate::in_bytes(*bytes),
            None if model.optional => "not found; its cases will be skipped".to_owned(),
            None => "not found".to_owned(),
        };
        row(text, &name.value, &format!("{} ({size})", model.source.value), &line(name.at.line));
    }
}

fn artifacts(text: &mut String, playbook: &Playbook, sizes: &FileSizes) {
    text.push_str("\nartifacts\n");
    for (name, artifact) in playbook.artifacts.iter() {
        let what = match artifact.origin() {
            Some(Origin::Source) => "the source as it lies there".to_owned(),
            Some(Origin::Converted { from, format }) => {
                let encoding = artifact.quantize.map_or("weights keep their encoding", |q| q.name());
                format!("{} made from {}, {encoding}", format.as_str(), from.value)
            }
            Some(Origin::File(file)) => match sizes.files.get(&name.value) {
                Some(bytes) => format!("{} ({})", file.value, estimate::in_bytes(*bytes)),
                None => format!("{} (not found)", file.value),
            },
            None => "unclear".to_owned(),
        };
        row(text, &name.value, &what, &line(name.at.line));
    }
}

fn explain_gate(
    text: &mut String,
    playbook: &Playbook,
    gate: &GateUse,
    cases: &[&Case],
    catalog: &dyn Catalog,
) {
    let label = gate.label.as_ref().map(|l| format!("@{}", l.value)).unwrap_or_default();
    let noun = if cases.len() == 1 { "case" } else { "cases" };
    push(
        text,
        format_args!("\n  {}{label} (line {}): {} {noun}", gate.gate.value, gate.gate.at.line, cases.len()),
    );
    let Some(info) = catalog.gate(&gate.gate.value) else { return };
    let Some(first) = cases.first() else { return };
    let own = |list: &Option<Vec<super::Located<String>>>, silent: &str| {
        list.as_ref().and_then(|l| l.first()).map_or(silent.to_owned(), |l| line(l.at.line))
    };
    row(text, "models", &unique(cases, |c| vec![&c.model]), &own(&gate.models, "all of the playbook"));
    row(text, "artifacts", &unique(cases, |c| vec![&c.artifact]), &own(&gate.artifacts, "all that apply"));
    if info.needs_backend {
        let of_playbook = playbook.backends.first().map_or(0, |b| b.name.at.line);
        let silent = if of_playbook == 0 { "default".to_owned() } else { line(of_playbook) };
        let own_backends = gate.backends.as_deref().map(names_of);
        row(text, "backends", &unique(cases, |c| vec![&c.backend]), &own(&own_backends, &silent));
        let prompts = unique(cases, |c| match &c.prompt {
            Some(prompt) => vec![&prompt.0],
            None => c.prompts.iter().map(|p| &p.0).collect(),
        });
        row(text, "prompts", &prompts, &own(&gate.prompts, "all of the playbook"));
        let silent = format!("default ({DEFAULT_TOKENS}, as the oracles hold)");
        let from = gate.tokens.as_ref().map_or(silent, |t| line(t.at.line));
        row(text, "tokens", &first.tokens.to_string(), &from);
    }
    if let Some(against) = &first.against {
        let from = gate.against.as_ref().map_or("gate default".to_owned(), |a| line(a.at.line));
        row(text, "against", against, &from);
    }
    let timeout = super::Seconds(first.timeout_s).to_string();
    row(text, "timeout", &timeout, if gate.timeout.is_some() { "the gate" } else { "the policy" });
    for param in info.params {
        let (value, from) = limit(first, param);
        row(text, param.name, &value, &format!("{from}: {}", param.doc));
    }
    if let (Some(expect), Some(reason)) = (&gate.expect, &first.expect_fail) {
        row(text, "expect", &format!("fail: {reason}"), &line(expect.at.line));
    }
}

/// A limit's value and where it comes from.
fn limit(case: &Case, param: &Param) -> (String, String) {
    if let Some(given) = case.limits.get(param.name) {
        return (given.value.to_string(), line(given.at.line));
    }
    let value = match param.default {
        Some(ParamDefault::Number(n)) => n.to_string(),
        Some(ParamDefault::Text(t)) => t.to_owned(),
        Some(ParamDefault::Choice(words)) => words.first().copied().unwrap_or("").to_owned(),
        Some(ParamDefault::DerivedWord) | None => {
            return ("-".to_owned(), "from the contract or the model".to_owned());
        }
        // The plan has refused a gate without it.
        Some(ParamDefault::Required) => return ("-".to_owned(), "must be given".to_owned()),
    };
    (value, "gate default".to_owned())
}

/// The distinct names of the cases, in their order.
fn unique(cases: &[&Case], names: impl for<'a> Fn(&'a Case) -> Vec<&'a String>) -> String {
    let mut seen: Vec<&str> = Vec::new();
    for case in cases {
        for name in names(case) {
            if !seen.contains(&name.as_str()) {
                seen.push(name);
            }
        }
    }
    seen.join(", ")
}

fn row(text: &mut String, what: &str, value: &str, from: &str) {
    push(text, format_args!("    {what:<16} {value:<40} {from}"));
}

fn line(number: u32) -> String {
    format!("line {number}")
}

fn push(text: &mut String, line: std::fmt::Arguments) {
    writeln!(text, "{line}").expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, Shapes};
    use super::*;

    #[test]
    fn says_where_each_value_comes_from() {
        let sizes =
            FileSizes { models: [("tiny-llama".to_owned(), 10_000_000)].into(), ..FileSizes::default() };
        let explained = explain(&fixture::playbook(), &fixture::cases(), &Shapes, &sizes);
        assert_eq!(explained.cases, 31);
        let has = |needle: &[&str]| {
            explained
                .text
                .lines()
                .any(|l| l.split_whitespace().collect::<Vec<_>>().join(" ") == needle.join(" "))
        };
        let rows: &[&[&str]] = &[
            &["tiny-llama ../oracle/models/tiny-llama (10.0 MB) line 4"],
            &["real ../models/real (not found; its cases will be skipped) line 5"],
            &["gguf gguf made from apr-int8, weights keep their encoding line 13"],
            &["token-parity (line 19): 18 cases"],
            &["backends cpu default"],
            &["max_mismatches 3 line 20: most differing tokens"],
            &["tolerance 0.5 gate default: most that may differ"],
            &["counting teacher_forced line 20: which text is compared"],
            &["ceiling - from the contract or the model: most"],
            &["encoding - from the contract or the model: the coarsest"],
            &["timeout 90s the gate"],
            &["timeout 5m the policy"],
            &["against source gate default"],
            &["expect fail: four bits are too few for this model line 35"],
        ];
        for needle in rows {
            assert!(has(needle), "{needle:?} is not in\n{}", explained.text);
        }
    }
}
