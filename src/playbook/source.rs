//! The text of a playbook with its name, shared by everything that may have to quote it.

use std::sync::Arc;

/// A playbook's file name and text. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    file: Arc<str>,
    text: Arc<str>,
}

impl Source {
    /// `file` as it is to be shown, relative to where the program runs.
    pub fn new(file: &str, text: &str) -> Self {
        Source { file: file.into(), text: text.into() }
    }

    /// The name to show.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line `number` (1-based) without its end, empty past the end.
    pub fn line(&self, number: u32) -> &str {
        let index = (number as usize).saturating_sub(1);
        self.text.lines().nth(index).unwrap_or("")
    }
}

impl Default for Source {
    fn default() -> Self {
        Source::new("", "")
    }
}
