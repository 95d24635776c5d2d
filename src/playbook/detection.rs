//! `detection:` becomes cases: each an instance of a defect in an artifact, or an unbroken artifact, drawn by seed.
//! Nothing is read: a defect is drawn where the playbook alone says that it can be.

use super::diagnostics::Gather;
use super::located::Located;
use super::names::Names;
use super::plan::{SOURCE, lineage};
use super::schema::{Detection, Format, KnownMiss, Origin, Playbook};
use super::{Case, Catalog, Ground};
use crate::quant::Quantize;
use crate::stats::Dice;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// The suite, and the gate, of instances with a defect.
pub const DETECTION: &str = "detection";
/// The suite, and the gate, of unbroken instances.
pub const CLEAN: &str = "clean";

/// One instance, as its case carries it.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// The defect to plant; none for an unbroken artifact.
    pub defect: Option<String>,
    /// Where it is planted.
    pub seed: u64,
    /// For an unbroken artifact: the encoding that is asked for instead of the artifact's own.
    pub recipe: Option<Quantize>,
    /// The gates that are asked, in order.
    pub gates: Vec<String>,
    /// Whether all are asked, or none after the first that speaks.
    pub every_gate: bool,
}

/// The cases of `detection:`, defects first.
pub(super) fn plan(
    playbook: &Playbook,
    detection: &Located<Detection>,
    catalog: &dyn Catalog,
    gather: &mut Gather,
) -> Vec<Case> {
    let Some(draw) = Draw::new(playbook, detection, catalog, gather) else { return Vec::new() };
    let mut planner = Planner { draw, ids: HashSet::new(), cases: Vec::new() };
    planner.defects(catalog, gather);
    planner.clean();
    planner.cases
}

/// Everything that instances are drawn from, every name known.
struct Draw<'a> {
    playbook: &'a Playbook,
    detection: &'a Located<Detection>,
    defects: Vec<&'a str>,
    /// Models that are drawn from, and the number of further instances of others.
    models: Vec<&'a str>,
    extra: Vec<(&'a str, u32)>,
    artifacts: Vec<&'a str>,
    gates: Vec<String>,
}

impl<'a> Draw<'a> {
    fn new(
        playbook: &'a Playbook,
        detection: &'a Located<Detection>,
        catalog: &dyn Catalog,
        gather: &mut Gather,
    ) -> Option<Draw<'a>> {
        let given = &detection.value;
        let names = Names::of(playbook, catalog);
        let extra: Option<Vec<_>> =
            given.extra.iter().map(|(name, n)| Some((names.models.known(name, gather)?, *n))).collect();
        let artifacts = names.artifacts.select(given.artifacts.as_deref(), gather);
        let models = names.models.select(given.models.as_deref(), gather);
        let defects = chosen("defect", given.defects.as_deref(), catalog.defects(), gather);
        let gates = match &given.gates {
            None => Some(catalog.battery()),
            Some(_) => chosen("gate", given.gates.as_deref(), catalog.gate_ids(), gather),
        };
        for miss in &given.known_misses {
            chosen("defect", Some(std::slice::from_ref(&miss.defect)), catalog.defects(), gather);
            names.models.select(miss.models.as_deref(), gather);
            names.artifacts.select(miss.artifacts.as_deref(), gather);
        }
        let (extra, artifacts, mut models) = (extra?, artifacts?, models?);
        if given.models.is_none() {
            models.retain(|model| !extra.iter().any(|(other, _)| other == model));
        }
        let gates: Vec<String> = gates?.into_iter().map(str::to_owned).collect();
        if gates.is_empty() {
            gather.add(detection.at, "no gate would be asked", None);
            return None;
        }
        Some(Draw { playbook, detection, defects: defects?, models, extra, artifacts, gates })
    }

    /// Model and artifact of every place in `models` where `accepts` the ground.
    fn places(&self, models: &[&'a str], accepts: &dyn Fn(&Ground) -> bool) -> Vec<(&'a str, &'a str)> {
        let mut places = Vec::new();
        for model in models {
            for artifact in &self.artifacts {
                if applies(self.playbook, artifact, model)
                    && ground(self.playbook, artifact, model).is_some_and(|ground| accepts(&ground))
                {
                    places.push((*model, *artifact));
                }
            }
        }
        places
    }
}

struct Planner<'a> {
    draw: Draw<'a>,
    ids: HashSet<String>,
    cases: Vec<Case>,
}

impl<'a> Planner<'a> {
    fn defects(&mut self, catalog: &dyn Catalog, gather: &mut Gather) {
        let models = self.draw.models.clone();
        self.instances(&models, self.draw.detection.value.instances, catalog, gather);
        for (model, n) in self.draw.extra.clone() {
            self.instances(&[model], n, catalog, gather);
        }
    }

    /// Draws `n` instances: the defects in turn, so that each has its share, model and artifact by the dice.
    fn instances(&mut self, models: &[&'a str], n: u32, catalog: &dyn Catalog, gather: &mut Gather) {
        let mut possible: Vec<(&str, Vec<(&str, &str)>)> = Vec::new();
        for defect in self.draw.defects.clone() {
            let places = self.draw.places(models, &|ground| catalog.defect_applies(defect, ground));
            if !places.is_empty() {
                possible.push((defect, places));
            } else if let Some(named) = self.named(defect) {
                let message = format!("the defect `{defect}` can be in none of the selected artifacts");
                gather.add(named.at, message, Some("select others, or leave it out".into()));
            }
        }
        if possible.is_empty() {
            return;
        }
        // Where fewer are drawn than there are defects, which ones is the seed's choice as well.
        let turn = if (n as usize) < possible.len() {
            Dice::new(self.draw.detection.value.seed, models.first().copied().unwrap_or_default())
                .below(possible.len())
        } else {
            0
        };
        let step = coprime_step(possible.len());
        for i in 0..n as usize {
            let at = if turn == 0 { i } else { turn + i * step } % possible.len();
            let (defect, places) = &possible[at];
            let mut dice = Dice::new(self.draw.detection.value.seed.wrapping_add((i as u64) << 32), defect);
            let Some((model, artifact)) = dice.pick(places).copied() else { continue };
            self.add(DETECTION, Some(defect), (model, artifact), None, &mut dice);
        }
    }

    fn named(&self, defect: &str) -> Option<&'a Located<String>> {
        self.draw.detection.value.defects.as_ref()?.iter().find(|d| d.value == defect)
    }

    fn clean(&mut self) {
        let places = self.draw.places(&self.draw.models, &|_| true);
        for i in 0..self.draw.detection.value.clean {
            let mut dice = Dice::new(self.draw.detection.value.seed.wrapping_add(u64::from(i) << 32), CLEAN);
            let Some((model, artifact)) = dice.pick(&places).copied() else { return };
            let recipe = self.recipe(model, artifact, &mut dice);
            self.add(CLEAN, None, (model, artifact), recipe, &mut dice);
        }
    }

    /// Another encoding for an unbroken conversion, where it is one of the source that any encoding can be asked of.
    fn recipe(&self, model: &str, artifact: &str, dice: &mut Dice) -> Option<Quantize> {
        let of_model = self.draw.playbook.models.get(model)?;
        let of_artifact = self.draw.playbook.artifacts.get(artifact)?;
        let from_source = of_artifact.from.as_ref().is_some_and(|from| from.value == SOURCE);
        let any = from_source
            && !of_model.optional
            && of_artifact.dialect.is_none()
            && of_artifact.format != Some(Format::Safetensors);
        dice.pick(Quantize::ALL).copied().filter(|_| any && dice.below(3) > 0)
    }

    fn add(
        &mut self,
        suite: &str,
        defect: Option<&str>,
        (model, artifact): (&str, &str),
        recipe: Option<Quantize>,
        dice: &mut Dice,
    ) {
        let playbook = self.draw.playbook;
        let detection = &self.draw.detection.value;
        let mut seed = dice.bits() % SEEDS;
        let what = match (defect, recipe) {
            (Some(defect), _) => format!("{suite}/{defect}/{model}/{artifact}"),
            (None, Some(recipe)) => format!("{suite}/{model}/{artifact}/{}", recipe.name()),
            (None, None) => format!("{suite}/{model}/{artifact}"),
        };
        let mut id = format!("{what}/{seed}");
        while !self.ids.insert(id.clone()) {
            seed = (seed + 1) % SEEDS;
            id = format!("{what}/{seed}");
        }
        let miss = |miss: &&KnownMiss| {
            defect == Some(miss.defect.value.as_str())
                && miss.models.as_ref().is_none_or(|list| list.iter().any(|m| m.value == model))
                && miss.artifacts.as_ref().is_none_or(|list| list.iter().any(|a| a.value == artifact))
        };
        let prompts = playbook.prompts.iter();
        let prompts = prompts.filter_map(|(name, p)| Some((name.value.clone(), p.text.clone()?))).collect();
        let optional_artifact = lineage(playbook, artifact).iter().any(|a| a.optional);
        self.cases.push(Case {
            id,
            suite: suite.to_owned(),
            gate: suite.to_owned(),
            model: model.to_owned(),
            artifact: artifact.to_owned(),
            backend: playbook.backends.first().map_or_else(String::new, |b| b.name.value.clone()),
            prompt: None,
            prompts,
            against: None,
            tokens: super::DEFAULT_TOKENS as usize,
            limits: BTreeMap::new(),
            expect_fail: detection.known_misses.iter().find(miss).map(|m| m.reason.value.clone()),
            optional: optional_artifact || playbook.models.get(model).is_some_and(|m| m.optional),
            optional_backends: playbook.optional_backends().map(str::to_owned).collect(),
            timeout_s: detection.timeout.unwrap_or(playbook.policy.case_timeout).0,
            at: self.draw.detection.at,
            probe: Some(Probe {
                defect: defect.map(str::to_owned),
                seed,
                recipe,
                gates: self.draw.gates.clone(),
                every_gate: detection.every_gate,
            }),
        });
    }
}

/// Seeds stay short enough to be read in an id.
const SEEDS: u64 = 100_000;

/// A step that visits every one of `n` before it repeats one.
fn coprime_step(n: usize) -> usize {
    fn gcd(a: usize, b: usize) -> usize {
        if b == 0 { a } else { gcd(b, a % b) }
    }
    (n * 5 / 8..n).find(|step| gcd(*step, n) == 1).unwrap_or(1)
}

/// The listed ones, or all; `None` after a complaint.
fn chosen<'a>(
    what: &str,
    listed: Option<&[Located<String>]>,
    all: Vec<&'static str>,
    gather: &mut Gather,
) -> Option<Vec<&'a str>>
where
    'static: 'a,
{
    let Some(listed) = listed else { return Some(all) };
    let mut found = Vec::new();
    for name in listed {
        match all.iter().find(|known| **known == name.value) {
            Some(known) => found.push(*known),
            None => {
                let hint = gather.suggest(&name.value, &all);
                gather.add(name.at, format!("unknown {what} `{}`", name.value), hint);
            }
        }
    }
    (found.len() == listed.len()).then_some(found)
}

/// Whether the artifact, and all that it is made from, applies to the model.
fn applies(playbook: &Playbook, artifact: &str, model: &str) -> bool {
    let claimed = |list: &Option<Vec<Located<String>>>| {
        list.as_ref().is_none_or(|list| list.iter().any(|m| m.value == model))
    };
    lineage(playbook, artifact).iter().all(|a| claimed(&a.models))
}

/// What the playbook alone says of the artifact.
fn ground<'a>(playbook: &'a Playbook, artifact: &str, model: &str) -> Option<Ground<'a>> {
    let of_model = playbook.models.get(model)?;
    let family = of_model.family.as_ref().map(|f| f.value.as_str());
    let chain = lineage(playbook, artifact);
    let first = chain.first()?;
    let by_name = |path: &str| match Path::new(path).extension().and_then(|e| e.to_str()) {
        Some("gguf") => Format::Gguf,
        Some("apr") => Format::Apr,
        Some(_) | None => Format::Safetensors,
    };
    let format = match first.origin()? {
        Origin::Source => by_name(&of_model.source.value),
        Origin::File(file) => by_name(&file.value),
        Origin::Converted { format, .. } => format,
    };
    Some(Ground { format, family, quantize: chain.iter().find_map(|a| a.quantize), dialect: first.dialect })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{PLAYBOOK, Shapes};
    use super::super::{parse, plan};
    use super::*;

    fn cases(detection: &str) -> Result<Vec<Case>, String> {
        let text = format!("{PLAYBOOK}detection: {detection}\n");
        let playbook = parse("p.yaml", &text).map_err(|e| e.to_string())?;
        let cases = plan(&playbook, &Shapes).map_err(|e| e.to_string())?;
        Ok(cases.into_iter().filter(|case| case.probe.is_some()).collect())
    }

    fn ids(detection: &str) -> Vec<String> {
        cases(detection).unwrap_or_else(|e| panic!("{e}")).into_iter().map(|case| case.id).collect()
    }

    #[test]
    fn draws_follow_from_the_seed_alone() {
        let drawn = ids("{seed: 3, instances: 40, clean: 10}");
        assert_eq!(drawn, ids("{seed: 3, instances: 40, clean: 10}"));
        assert_ne!(drawn, ids("{seed: 4, instances: 40, clean: 10}"));
        // More of them leave the first ones as they are.
        assert_eq!(drawn[..40], ids("{seed: 3, instances: 60, clean: 10}")[..40]);
        assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), 50, "ids are unique");
        let of =
            |defect: &str| drawn.iter().filter(|id| id.starts_with(&format!("detection/{defect}/"))).count();
        assert_eq!((of("everywhere"), of("gguf-only")), (20, 20), "every defect has its share");
        assert!(
            drawn
                .iter()
                .filter(|id| id.contains("/gguf-only/"))
                .all(|id| id.contains("/gguf/") || id.contains("/vendor/"))
        );
        assert_eq!(drawn.iter().filter(|id| id.starts_with("clean/")).count(), 10);
    }

    #[test]
    fn a_case_carries_what_its_judge_needs() {
        let drawn = cases(
            "{seed: 1, instances: 2, models: [tiny-llama], artifacts: [gguf], gates: [tensor-names], every_gate: true, \
             known_misses: [{defect: gguf-only, reason: no gate looks}]}",
        );
        let drawn = drawn.unwrap_or_else(|e| panic!("{e}"));
        let probe = drawn[0].probe.as_ref().expect("a probe");
        assert_eq!((probe.defect.as_deref(), probe.every_gate), (Some("everywhere"), true));
        assert_eq!(
            (probe.gates.as_slice(), drawn[0].backend.as_str()),
            (&["tensor-names".to_owned()][..], "cpu")
        );
        assert_eq!(drawn[1].expect_fail.as_deref(), Some("no gate looks"));
        assert_eq!((drawn[0].gate.as_str(), drawn[0].prompts.len()), (DETECTION, 2));
    }

    #[test]
    fn further_models_have_their_own_number() {
        let drawn = cases("{seed: 1, instances: 6, extra: {real: 3}}").unwrap_or_else(|e| panic!("{e}"));
        let real: Vec<&Case> = drawn.iter().filter(|case| case.model == "real").collect();
        assert_eq!((drawn.len(), real.len()), (9, 3));
        assert!(real.iter().all(|case| case.optional));
    }

    #[test]
    fn wrong_names_are_errors_on_their_line() {
        for (detection, said) in [
            ("{instances: 1, defects: [evrywhere]}", "unknown defect `evrywhere`"),
            ("{instances: 1, gates: [no-gate]}", "unknown gate `no-gate`"),
            ("{instances: 1, models: [nobody]}", "unknown model `nobody`"),
            ("{instances: 1, artifacts: [apr-int8], defects: [gguf-only]}", "can be in none of the selected"),
            ("{instances: 1, known_misses: [{defect: x, reason: y}]}", "unknown defect `x`"),
        ] {
            let error = cases(detection).expect_err("refused");
            assert!(error.contains(said) && error.contains("p.yaml:37:"), "{error}");
        }
    }
}
