//! What is known about a model beside its files: recorded oracles, the perplexity text, its ceiling.

use crate::gates::References;
use crate::oracle::{self, Oracle, OracleLogits};
use crate::playbook::{Model, Playbook};
use crate::record::Unable;
use crate::subject::Answer;
use crate::{Error, Kind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// The text that ships with the program, for models whose playbook names none.
pub const BUILT_IN_TEXT: &str = include_str!("../../oracle/text/prose.txt");

/// The references of one model of a playbook. Files are read when a gate asks.
pub struct ModelReferences {
    model: String,
    oracle: Option<PathBuf>,
    text: Option<PathBuf>,
    ceiling: Option<(f64, String)>,
    text_read: OnceLock<Answer<Arc<str>>>,
}

impl ModelReferences {
    /// What `playbook` says of `model`.
    pub fn new(playbook: &Playbook, name: &str, model: &Model) -> ModelReferences {
        let at = |line: u32| format!("{}:{line}", playbook.source.file());
        ModelReferences {
            model: name.to_owned(),
            oracle: model.oracle.as_ref().map(|path| playbook.resolve(&path.value)),
            text: model.text.as_ref().map(|path| playbook.resolve(&path.value)),
            ceiling: model.perplexity_ceiling.as_ref().map(|ceiling| (ceiling.value, at(ceiling.at.line))),
            text_read: OnceLock::new(),
        }
    }

    fn oracle_folder(&self) -> Answer<&Path> {
        self.oracle.as_deref().ok_or_else(|| self.not_named("oracle"))
    }

    fn not_named(&self, key: &str) -> Unable {
        let what = format!("this gate needs `{key}:`, which the playbook does not give");
        Unable::Reference(Error::new(Kind::Usage, format!("model `{}`", self.model), what))
    }

    fn read_text(&self) -> Answer<Arc<str>> {
        let Some(path) = self.text.as_deref() else { return Ok(BUILT_IN_TEXT.into()) };
        let text =
            std::fs::read_to_string(path).map_err(|error| Unable::Reference(Error::io(path, &error)))?;
        Ok(text.into())
    }
}

impl References for ModelReferences {
    fn oracle(&self, prompt: &str) -> Answer<(Arc<Oracle>, String)> {
        let folder = self.oracle_folder()?;
        let recorded = oracle::load(folder, prompt).map_err(Unable::Reference)?;
        Ok((Arc::new(recorded), oracle::path(folder, prompt).display().to_string()))
    }

    fn oracle_logits(&self, prompt: &str) -> Answer<(Arc<OracleLogits>, String)> {
        let folder = self.oracle_folder()?;
        let logits = oracle::load_logits(folder, prompt).map_err(Unable::Reference)?;
        Ok((
            Arc::new(logits),
            oracle::path(folder, prompt).with_extension("logits.json").display().to_string(),
        ))
    }

    fn text(&self) -> Answer<(Arc<str>, String)> {
        let text = self.text_read.get_or_init(|| self.read_text()).clone()?;
        let shown = self.text.as_deref().map(|path| path.display().to_string());
        Ok((text, shown.unwrap_or_else(|| "built-in text".to_owned())))
    }

    fn perplexity_ceiling(&self) -> Option<(f64, String)> {
        self.ceiling.clone()
    }
}
