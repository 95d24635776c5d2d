//! What a gate is given: the subject, what to compare it with, its prompts, its limits, its references.

use crate::contract::Contract;
use crate::oracle::{Oracle, OracleLogits};
use crate::playbook::{Located, Param, ParamDefault, ParamValue};
use crate::record::Unable;
use crate::subject::{Answer, Generated, OutsideRuntime, Subject};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// One case, ready to be judged.
pub struct Trial<'a> {
    /// The artifact under test.
    pub subject: &'a dyn Subject,
    /// What `against:` names, where the gate compares.
    pub against: Option<Against<'a>>,
    /// Name and text, for a gate that runs once per prompt.
    pub prompt: Option<(&'a str, &'a str)>,
    /// Names and texts. Of a gate that runs once over all prompts, all of them; of one that runs once per prompt, those
    /// of the cases that differ from this one in the prompt alone, its own among them.
    pub prompts: &'a [(String, String)],
    /// Tokens to generate.
    pub tokens: usize,
    /// Limits and settings.
    pub settings: &'a Settings,
    /// Recorded oracles, texts and ceilings of the model.
    pub references: &'a dyn References,
    /// The format contract.
    pub contract: &'a Contract,
    /// An empty folder for copies; it is removed after the case.
    pub scratch: &'a Path,
}

/// The other side of a comparison.
pub enum Against<'a> {
    /// Another artifact or another backend.
    Subject(&'a dyn Subject),
    /// A program that is not ours.
    Runtime(&'a dyn OutsideRuntime),
}

/// What is known about a model beside its files.
pub trait References {
    /// The recorded generation for a prompt, and where it stands.
    fn oracle(&self, prompt: &str) -> Answer<(Arc<Oracle>, String)>;
    /// The recorded numbers for a prompt, and where they stand.
    fn oracle_logits(&self, prompt: &str) -> Answer<(Arc<OracleLogits>, String)>;
    /// The text that perplexity is measured on, and where it stands.
    fn text(&self) -> Answer<(Arc<str>, String)>;
    /// The model's highest allowed perplexity on that text, and where it is written.
    fn perplexity_ceiling(&self) -> Option<(f64, String)>;
}

/// The limits and settings of one use of a gate: the playbook's, else the gate's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    given: BTreeMap<String, Located<ParamValue>>,
    params: &'static [Param],
    file: String,
}

impl Settings {
    /// Settings of a gate with `params`, as `file` gives them.
    pub fn new(
        params: &'static [Param],
        given: BTreeMap<String, Located<ParamValue>>,
        file: &str,
    ) -> Settings {
        Settings { given, params, file: file.to_owned() }
    }

    /// A number that the playbook gives, and where.
    pub fn given_number(&self, name: &str) -> Option<(f64, String)> {
        match self.given.get(name).map(|l| (&l.value, l.at)) {
            Some((ParamValue::Number(n), at)) => Some((*n, format!("{}:{}", self.file, at.line))),
            Some((ParamValue::Text(_), _)) | None => None,
        }
    }

    /// A number, and where it is written: the playbook or the gate's default.
    ///
    /// # Errors
    /// [`Unable::Failed`] of kind `usage` where neither gives it.
    pub fn number(&self, name: &str) -> Answer<(f64, String)> {
        if let Some(given) = self.given_number(name) {
            return Ok(given);
        }
        match self.default_of(name) {
            Some(ParamDefault::Number(n)) => Ok((n, "gate default".to_owned())),
            Some(
                ParamDefault::Text(_)
                | ParamDefault::Choice(_)
                | ParamDefault::DerivedWord
                | ParamDefault::Required,
            )
            | None => Err(self.missing(name)),
        }
    }

    /// A word that the playbook gives.
    pub fn given_word(&self, name: &str) -> Option<&str> {
        match self.given.get(name).map(|l| &l.value) {
            Some(ParamValue::Text(word)) => Some(word),
            Some(ParamValue::Number(_)) | None => None,
        }
    }

    /// A word: the playbook's or the gate's default.
    ///
    /// # Errors
    /// [`Unable::Failed`] of kind `usage` where neither gives it.
    pub fn word(&self, name: &str) -> Answer<&str> {
        if let Some(word) = self.given_word(name) {
            return Ok(word);
        }
        match self.default_of(name) {
            Some(ParamDefault::Text(word)) => Ok(word),
            Some(ParamDefault::Choice(words)) => words.first().copied().ok_or_else(|| self.missing(name)),
            Some(ParamDefault::Number(_) | ParamDefault::DerivedWord | ParamDefault::Required) | None => {
                Err(self.missing(name))
            }
        }
    }

    fn default_of(&self, name: &str) -> Option<ParamDefault> {
        self.params.iter().find(|p| p.name == name).and_then(|p| p.default)
    }

    fn missing(&self, name: &str) -> Unable {
        usage(format!("{}: the limit `{name}` must be given", self.file))
    }
}

/// Prompts that are continued for one case at most: it must not take the time of a hundred.
const TOGETHER: usize = 16;

impl<'a> Trial<'a> {
    /// The other artifact or backend.
    ///
    /// # Errors
    /// [`Unable::Failed`] of kind `usage` where there is none: the planner should have seen that.
    pub fn reference(&self) -> Answer<&'a dyn Subject> {
        match &self.against {
            Some(Against::Subject(subject)) => Ok(*subject),
            Some(Against::Runtime(runtime)) => {
                Err(usage(format!("runtime `{}` is no artifact to compare files with", runtime.name())))
            }
            None => Err(usage("nothing is named to compare with".into())),
        }
    }

    /// The one prompt of this case: name and text.
    ///
    /// # Errors
    /// [`Unable::Failed`] of kind `usage` where there is none.
    pub fn one_prompt(&self) -> Answer<(&'a str, &'a str)> {
        self.prompt.ok_or_else(|| usage("this gate needs a prompt".into()))
    }

    /// What `subject` generates after the prompt of this case. The cases beside it will ask the same of their prompts:
    /// those are continued in the same passes, and the subject remembers.
    ///
    /// # Errors
    /// Those of [`Subject::generate`], of this case's prompt alone, and of [`Trial::one_prompt`].
    pub fn generate(&self, subject: &dyn Subject, tokens: usize) -> Answer<Arc<Generated>> {
        let (own, prompt) = self.one_prompt()?;
        let is_own = |(name, _): &(String, String)| name == own;
        let group = self.prompts.chunks(TOGETHER).find(|group| group.iter().any(is_own)).unwrap_or_default();
        let beside = group.iter().filter(|other| !is_own(other)).map(|(_, text)| text.as_str());
        let together: Vec<&str> = std::iter::once(prompt).chain(beside).collect();
        subject.generate_many(&together, tokens).swap_remove(0)
    }

    /// What `subject` generates after each of [`Trial::all_prompts`], in order.
    ///
    /// # Errors
    /// Those of [`Trial::all_prompts`]; what cannot be answered is an error in its place.
    pub fn generate_all(&self, subject: &dyn Subject) -> Answer<Vec<Answer<Arc<Generated>>>> {
        let prompts: Vec<&str> = self.all_prompts()?.iter().map(|(_, text)| text.as_str()).collect();
        Ok(subject.generate_many(&prompts, self.tokens))
    }

    /// The prompts of a gate that runs once over all of them.
    ///
    /// # Errors
    /// [`Unable::Vacuous`] where there is none.
    pub fn all_prompts(&self) -> Answer<&'a [(String, String)]> {
        if self.prompts.is_empty() {
            return Err(Unable::Vacuous("there is no prompt to compare on".into()));
        }
        Ok(self.prompts)
    }

    /// The recorded oracle of this case's prompt, checked against the prompt's text, and where it stands.
    ///
    /// # Errors
    /// [`Unable::Reference`] where it is missing, broken or was recorded for another text.
    pub fn oracle(&self) -> Answer<(Arc<Oracle>, String)> {
        let (name, text) = self.one_prompt()?;
        let (oracle, source) = self.references.oracle(name)?;
        if oracle.prompt != text {
            let what =
                format!("it was recorded for the prompt {:?}, the playbook has {text:?}", oracle.prompt);
            return Err(Unable::Reference(crate::Error::malformed(&source, what)));
        }
        Ok((oracle, source))
    }
}

/// An [`Unable`] for a case that was put together wrongly.
pub fn usage(message: String) -> Unable {
    Unable::Failed { kind: "usage".into(), message }
}

/// Trials for tests of gates: fake subjects, references held in memory.
#[cfg(test)]
pub mod testing {
    use super::*;
    use crate::gates::Gate;
    use crate::playbook::At;
    use crate::record::{Judgement, Verdict};
    use crate::subject::fake::FakeSubject;

    /// References held in memory.
    pub struct Shelf {
        /// The recorded generation.
        pub oracle: Option<Oracle>,
        /// The recorded numbers.
        pub logits: Option<OracleLogits>,
        /// The text for perplexity.
        pub text: String,
        /// Its ceiling.
        pub ceiling: Option<f64>,
    }

    impl Default for Shelf {
        /// The oracle of a sound [`FakeSubject`] for the prompt `a`.
        fn default() -> Shelf {
            let oracle = Oracle {
                model: "fake".into(),
                model_slug: "fake".into(),
                prompt: "a".into(),
                prompt_file: "a.txt".into(),
                runtime: "transformers".into(),
                format: "float32".into(),
                transformers_version: "1".into(),
                torch_version: "1".into(),
                tokens: vec![1, 2, 3, 8],
                text: "bcd".into(),
                token_count: 4,
                max_new_tokens: 8,
                do_sample: false,
            };
            Shelf { oracle: Some(oracle), logits: None, text: "some text".into(), ceiling: Some(20.0) }
        }
    }

    impl References for Shelf {
        fn oracle(&self, prompt: &str) -> Answer<(Arc<Oracle>, String)> {
            let missing = || Unable::Reference(crate::Error::malformed(prompt, "missing"));
            self.oracle.clone().map(|o| (Arc::new(o), "oracle/fake/a.json".into())).ok_or_else(missing)
        }

        fn oracle_logits(&self, prompt: &str) -> Answer<(Arc<OracleLogits>, String)> {
            let missing = || Unable::Reference(crate::Error::malformed(prompt, "missing"));
            self.logits.clone().map(|o| (Arc::new(o), "oracle/fake/a.logits.json".into())).ok_or_else(missing)
        }

        fn text(&self) -> Answer<(Arc<str>, String)> {
            Ok((self.text.as_str().into(), "oracle/text.txt".into()))
        }

        fn perplexity_ceiling(&self) -> Option<(f64, String)> {
            self.ceiling.map(|c| (c, "playbook.yaml:3".into()))
        }
    }

    /// A case on fakes.
    #[derive(Default)]
    pub struct Bench {
        /// What is known beside the files.
        pub shelf: Shelf,
        /// What the playbook says.
        pub limits: BTreeMap<String, Located<ParamValue>>,
    }

    impl Bench {
        /// Gives a limit, on line 41.
        pub fn limit(mut self, name: &str, value: f64) -> Bench {
            let at = At { line: 41, column: 9 };
            self.limits.insert(name.into(), Located { value: ParamValue::Number(value), at });
            self
        }

        /// Gives a setting, on line 42.
        pub fn word(mut self, name: &str, value: &str) -> Bench {
            let at = At { line: 42, column: 9 };
            self.limits.insert(name.into(), Located { value: ParamValue::Text(value.into()), at });
            self
        }

        /// Judges `subject`, alone or against another side.
        pub fn judge(
            &self,
            gate: &dyn Gate,
            subject: &FakeSubject,
            against: Option<Against>,
        ) -> Answer<Judgement> {
            let settings = Settings::new(gate.info().params, self.limits.clone(), "playbook.yaml");
            let prompts = [("a".to_string(), "a".to_string()), ("b".to_string(), "b".to_string())];
            gate.judge(&Trial {
                subject,
                against,
                prompt: gate.info().per_prompt.then_some(("a", "a")),
                prompts: &prompts,
                tokens: 8,
                settings: &settings,
                references: &self.shelf,
                contract: Contract::builtin(),
                scratch: Path::new("unused"),
            })
        }

        /// Judges `subject` against another fake.
        pub fn compare(
            &self,
            gate: &dyn Gate,
            subject: &FakeSubject,
            other: &FakeSubject,
        ) -> Answer<Judgement> {
            self.judge(gate, subject, Some(Against::Subject(other)))
        }
    }

    /// The judgement of a case that passes.
    #[track_caller]
    pub fn passes(answer: Answer<Judgement>) -> Judgement {
        let judged = answer.expect("measured");
        assert_eq!(judged.verdict, Verdict::Pass, "{judged:?}");
        assert!(judged.measurements[0].n >= 1 && judged.measurements[0].limit.is_some(), "{judged:?}");
        judged
    }

    /// The judgement of a case that fails by `metric`.
    #[track_caller]
    pub fn fails(answer: Answer<Judgement>, metric: &str) -> Judgement {
        let judged = answer.expect("measured");
        let Verdict::Fail { kind, message } = &judged.verdict else { panic!("{judged:?}") };
        assert_eq!(kind, metric, "{judged:?}");
        assert!(message.starts_with("measured ") && message.contains("(source "), "{message}");
        judged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::playbook::At;

    const PARAMS: &[Param] = &[
        Param { name: "max", doc: "most", default: Some(ParamDefault::Number(3.0)) },
        Param { name: "counting", doc: "how", default: Some(ParamDefault::Choice(&["forced", "free"])) },
        Param { name: "needed", doc: "must be given", default: None },
    ];

    #[test]
    fn the_playbook_overrides_the_default_and_both_say_where_they_stand() {
        let given = Located { value: ParamValue::Number(5.0), at: At { line: 7, column: 3 } };
        let settings = Settings::new(PARAMS, BTreeMap::from([("max".into(), given)]), "ci.yaml");
        assert_eq!(settings.number("max").unwrap(), (5.0, "ci.yaml:7".into()));
        let silent = Settings::new(PARAMS, BTreeMap::new(), "ci.yaml");
        assert_eq!(silent.number("max").unwrap(), (3.0, "gate default".into()));
        assert_eq!(silent.word("counting").unwrap(), "forced");
        assert!(silent.number("needed").is_err() && silent.number("counting").is_err());
    }
}
