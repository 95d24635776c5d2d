//! Prompts that stand in files: the caller reads them, the playbook says which and complains with their place.

use super::diagnostics::{Diagnostics, Gather};
use super::schema::Playbook;
use crate::Result as Read;
use std::path::Path;

impl Playbook {
    /// Fills in the text of every prompt that stands in a file. `read` gets the path, resolved against the
    /// playbook's folder, and returns the file's text. White space at both ends of a file is no part of the
    /// prompt (as `oracle/gen_oracle.py` reads them).
    ///
    /// # Errors
    /// [`Diagnostics`] with every file that could not be read or holds nothing, at its line in the playbook.
    pub fn read_prompts(&mut self, read: &mut dyn FnMut(&Path) -> Read<String>) -> Result<(), Diagnostics> {
        let mut gather = Gather::new(&self.source);
        let folder = self.folder().to_path_buf();
        for (name, prompt) in self.prompts.iter_mut() {
            let Some(file) = &prompt.file else { continue };
            match read(&folder.join(&file.value)) {
                Ok(text) if text.trim().is_empty() => {
                    gather.add(file.at, format!("the file of the prompt `{}` is empty", name.value), None);
                }
                Ok(text) => prompt.text = Some(text.trim().to_owned()),
                Err(error) => {
                    let message = format!("the prompt `{}` cannot be read: {error}", name.value);
                    gather.add(file.at, message, Some("paths are relative to the playbook".into()));
                }
            }
        }
        gather.finish(())
    }
}

#[cfg(test)]
mod tests {
    use crate::Error;
    use std::path::PathBuf;

    #[test]
    fn files_are_read_where_the_playbook_says() {
        let text = "version: 1\nname: p\nmodels: {m: {source: m}}\nprompts:\n  a: {file: ../a.txt}\n  b: {text: b}\n  c: {file: c.txt}\nsuites: {s: [{gate: g}]}\n";
        let mut playbook = super::super::parse("dir/p.yaml", text).expect("valid");
        let mut asked = Vec::new();
        let error = playbook
            .read_prompts(&mut |path| {
                asked.push(path.to_path_buf());
                if path.ends_with("c.txt") {
                    Err(Error::malformed(path, "gone"))
                } else {
                    Ok(" hi \n".into())
                }
            })
            .expect_err("c.txt cannot be read");
        assert_eq!(asked, [PathBuf::from("dir/../a.txt"), PathBuf::from("dir/c.txt")]);
        assert_eq!((error.count(), error.items()[0].at.line), (1, 7));
        assert_eq!(playbook.prompts.get("a").and_then(|p| p.text.as_deref()), Some("hi"));
    }
}
