//! The playbook of a comparison: one reference, its candidates, and the gates that hold each pair against each other.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What is compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Name of the playbook.
    pub name: String,
    /// What the candidates are held against.
    pub reference: PathBuf,
    /// What is judged, in the order of the reports.
    pub candidates: Vec<PathBuf>,
    /// Text to score; none: the one that ships with this program.
    pub text: Option<PathBuf>,
    /// What is asked, in the order of the cases; the gates of one suite stand together.
    pub gates: Vec<Asked>,
    /// Name and text of each prompt.
    pub prompts: Vec<(String, String)>,
}

/// One gate of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The suite that it belongs to.
    pub suite: String,
    /// Its id.
    pub gate: String,
    /// Its limits, by name.
    pub limits: Vec<(String, f64)>,
}

impl Comparison {
    /// The playbook as YAML, for a file in `folder`: paths below it are written relative to it.
    ///
    /// Strings are written as JSON strings, which YAML reads as they are.
    pub fn to_yaml(&self, folder: &Path) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let path = |path: &Path| quoted(&path.strip_prefix(folder).unwrap_or(path).to_string_lossy());
        let mut yaml = format!(
            "version: 1\nname: {}\ndescription: {}\n\nmodels:\n  {REFERENCE}:\n    source: {}\n",
            quoted(&self.name),
            quoted("Every gate that holds a candidate against its reference, whoever made it."),
            path(&self.reference)
        );
        // Writing to a string cannot fail.
        if let Some(text) = &self.text {
            let _ = writeln!(yaml, "    text: {}", path(text));
        }
        yaml.push_str("\nprompts:\n");
        for (name, text) in &self.prompts {
            let _ = writeln!(yaml, "  {name}: {{ text: {} }}", quoted(text));
        }
        yaml.push_str("\nartifacts:\n");
        for (name, file) in self.names().iter().zip(&self.candidates) {
            let _ = writeln!(yaml, "  {name}: {{ file: {}, models: [{REFERENCE}] }}", path(file));
        }
        yaml.push_str("\nsuites:\n");
        let mut last = "";
        for Asked { suite, gate, limits } in &self.gates {
            if suite != last {
                let _ = writeln!(yaml, "  {suite}:");
                last = suite;
            }
            // A gate that does not apply to a pair (an unknown family, a silent reference) is a Skip with its reason.
            let _ = writeln!(yaml, "    - gate: {gate}\n      optional: true");
            let limits: Vec<String> = limits.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            if !limits.is_empty() {
                let _ = writeln!(yaml, "      limits: {{ {} }}", limits.join(", "));
            }
        }
        yaml
    }

    /// The names of the candidates: what their files are called, made unique and fit for a playbook.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for candidate in &self.candidates {
            let base = name_of(candidate);
            let mut name = base.clone();
            let mut n = 2;
            while names.contains(&name) || name == SOURCE {
                name = format!("{base}-{n}");
                n += 1;
            }
            names.push(name);
        }
        names
    }
}

/// The name of the model that a comparison is about.
pub const REFERENCE: &str = "reference";

/// The artifact name that always means the model's source.
const SOURCE: &str = "source";

/// What a file or folder is called, without its ending.
fn name_of(path: &Path) -> String {
    let stem = if path.is_dir() { path.file_name() } else { path.file_stem() };
    fitting(&stem.unwrap_or_default().to_string_lossy()).unwrap_or_else(|| "candidate".into())
}

/// `words` in the letters and the length that a playbook's names may have; `None` where nothing is left.
pub fn fitting(words: &str) -> Option<String> {
    let fit = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let name: String = words.to_lowercase().chars().map(fit).collect();
    let name: String = name.trim_matches('-').chars().take(60).collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(candidates: &[&str]) -> Comparison {
        Comparison {
            name: "compare".into(),
            reference: "/a/ref \"1\".gguf".into(),
            candidates: candidates.iter().map(PathBuf::from).collect(),
            text: Some("/a/b/text.txt".into()),
            gates: [
                ("contract", "weights-check"),
                ("contract", "config-parity"),
                ("logits", "perplexity-drift"),
            ]
            .map(|(suite, gate)| Asked {
                suite: suite.into(),
                gate: gate.into(),
                limits: if suite == "logits" { vec![("max_drift".into(), 0.5)] } else { vec![] },
            })
            .to_vec(),
            prompts: vec![("one".into(), "a: \"b\"\n# c".into())],
        }
    }

    #[test]
    fn what_is_written_reads_back_whatever_the_names_hold() {
        let yaml = comparison(&["/a/b/Model_Q8_0.gguf", "/c/model-q8-0.apr", "/d/源.gguf"]);
        let text = yaml.to_yaml(Path::new("/a/b"));
        let playbook = crate::playbook::parse("/a/b/compare.yaml", &text).expect("valid");
        let model = playbook.models.get(REFERENCE).expect("named");
        assert_eq!(model.source.value, "/a/ref \"1\".gguf");
        assert_eq!(model.text.as_ref().map(|t| t.value.as_str()), Some("text.txt"));
        let files: Vec<_> = playbook.artifacts.iter().map(|(n, a)| (&*n.value, a.file.clone())).collect();
        let file = |i: usize| files[i].1.as_ref().map(|f| f.value.as_str());
        assert_eq!((files[0].0, file(0)), ("model-q8-0", Some("Model_Q8_0.gguf")));
        assert_eq!((files[1].0, file(1)), ("model-q8-0-2", Some("/c/model-q8-0.apr")));
        assert_eq!((files[2].0, file(2)), ("candidate", Some("/d/源.gguf")));
        assert_eq!(playbook.prompts.get("one").and_then(|p| p.text.as_deref()), Some("a: \"b\"\n# c"));
        let suites: Vec<usize> = playbook.suites.iter().map(|(_, gates)| gates.len()).collect();
        assert_eq!(suites, [2, 1]);
    }

    #[test]
    fn no_candidate_is_called_source() {
        assert_eq!(comparison(&["source.gguf", "source.apr"]).names(), ["source-2", "source-3"]);
    }
}
