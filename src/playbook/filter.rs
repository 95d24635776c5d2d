//! Selection of cases by name: `--suite`, `--gate`, `--model`, `--artifact`, `--backend`, `--prompt`, `--case`.

use super::{Case, suggest};
use crate::error::{Error, Kind, Result};

/// Names to select by. A case is selected if every kind that names something names the case's own; an empty
/// filter selects all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Suite names.
    pub suites: Vec<String>,
    /// Gate ids.
    pub gates: Vec<String>,
    /// Model names.
    pub models: Vec<String>,
    /// Artifact names.
    pub artifacts: Vec<String>,
    /// Backend names.
    pub backends: Vec<String>,
    /// Prompt names.
    pub prompts: Vec<String>,
    /// Whole case ids.
    pub cases: Vec<String>,
}

impl Filter {
    /// Whether the case is selected.
    pub fn matches(&self, case: &Case) -> bool {
        self.kinds()
            .iter()
            .all(|(_, wanted, of)| wanted.is_empty() || of(case).is_some_and(|n| wanted.contains(&n)))
    }

    /// The selected cases in their order; none where the names exclude each other.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a name that no case of the plan has: a misspelled filter must not look like a
    /// selection.
    pub fn select(&self, cases: Vec<Case>) -> Result<Vec<Case>> {
        for (flag, wanted, of) in self.kinds() {
            let mut known: Vec<String> = cases.iter().filter_map(of).collect();
            known.sort();
            known.dedup();
            if let Some(name) = wanted.iter().find(|name| !known.contains(name)) {
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                let error = Error::new(Kind::Usage, flag, format!("no case of this playbook has `{name}`"));
                return Err(match suggest::hint(name, &known) {
                    Some(hint) => error.hint(hint),
                    None => error,
                });
            }
        }
        Ok(cases.into_iter().filter(|case| self.matches(case)).collect())
    }

    /// Each kind with its flag, its names and where a case has such a name.
    fn kinds(&self) -> [KindOfName<'_>; 7] {
        [
            ("--suite", &self.suites, |c| Some(c.suite.clone())),
            ("--gate", &self.gates, |c| Some(c.gate.clone())),
            ("--model", &self.models, |c| Some(c.model.clone())),
            ("--artifact", &self.artifacts, |c| Some(c.artifact.clone())),
            ("--backend", &self.backends, |c| Some(c.backend.clone()).filter(|b| !b.is_empty())),
            ("--prompt", &self.prompts, |c| c.prompt.as_ref().map(|p| p.0.clone())),
            ("--case", &self.cases, |c| Some(c.id.clone())),
        ]
    }
}

type KindOfName<'a> = (&'static str, &'a Vec<String>, fn(&Case) -> Option<String>);

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn ids(filter: &Filter) -> Vec<String> {
        let cases = filter.select(fixture::cases()).expect("known names");
        cases.into_iter().map(|c| c.id).collect()
    }

    #[test]
    fn kinds_are_joined_by_and_names_by_or() {
        let all = fixture::cases();
        assert_eq!(ids(&Filter::default()).len(), all.len());
        let filter = Filter {
            artifacts: vec!["apr-int8".into(), "gguf".into()],
            prompts: vec!["hello".into()],
            ..Filter::default()
        };
        let chosen = ids(&filter);
        assert!(!chosen.is_empty());
        assert!(chosen.iter().all(|id| id.ends_with("/hello") && !id.contains("/apr-int4/")), "{chosen:?}");
        let one = Filter { cases: vec![all[3].id.clone()], ..Filter::default() };
        assert_eq!(ids(&one), [all[3].id.clone()]);
        let nothing =
            Filter { suites: vec!["files".into()], gates: vec!["token-parity".into()], ..Filter::default() };
        assert_eq!(ids(&nothing), Vec::<String>::new());
    }

    #[test]
    fn a_name_that_matches_nothing_is_an_error() {
        let filter = Filter { gates: vec!["token-partiy".into()], ..Filter::default() };
        let error = filter.select(fixture::cases()).expect_err("misspelled");
        assert_eq!(error.kind, Kind::Usage);
        assert_eq!(
            error.to_string(),
            "--gate: no case of this playbook has `token-partiy`; did you mean `token-parity`?"
        );
    }
}
