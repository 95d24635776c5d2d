//! The files under test: found where the playbook says, or made by the converter, once each.
//!
//! A made file's name holds a key over the content of its source, the conversion asked for and this program, so it
//! is used again by the next run exactly as long as nothing changed.

use super::digest;
use crate::convert::{self, ConvertOptions, NameDialect};
use crate::formats::{self, AprDialect, AprLayout, FormatKind};
use crate::playbook::{Artifact, Dialect, Format, Layout, Model, Names, Origin, Playbook};
use crate::record::Unable;
use crate::subject::Answer;
use crate::{Error, Kind, models};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A file or folder that a case can open.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Where it is.
    pub path: PathBuf,
    /// A key over its content and how it was made.
    pub key: String,
}

/// Makes the artifacts of one run and remembers them.
pub struct Workshop<'a> {
    playbook: &'a Playbook,
    /// Where made files go.
    folder: PathBuf,
    /// The digest of this program: another converter makes other files.
    program: String,
    known: HashMap<(String, String), Answer<Place>>,
}

/// The artifact name that always means the model's source.
pub const SOURCE: &str = "source";

impl<'a> Workshop<'a> {
    /// A workshop that makes files in `folder`.
    pub fn new(playbook: &'a Playbook, folder: PathBuf, program: String) -> Workshop<'a> {
        Workshop { playbook, folder, program, known: HashMap::new() }
    }

    /// The place of `artifact` of `model`, made on first use.
    ///
    /// # Errors
    /// Whose fault it is: a missing optional file, a source that cannot be used, a conversion that failed.
    pub fn place(&mut self, model: &str, artifact: &str) -> Answer<Place> {
        let name = (model.to_owned(), artifact.to_owned());
        if let Some(known) = self.known.get(&name) {
            return known.clone();
        }
        let made = self.make(model, artifact);
        self.known.insert(name, made.clone());
        made
    }

    /// Where distributions are kept between runs: apart for every program, since another engine may round otherwise.
    pub fn distributions(&self) -> PathBuf {
        self.folder.join("distributions").join(self.program.get(..16).unwrap_or(&self.program))
    }

    /// The digests of all sources and outside files used so far, by what they are.
    pub fn digests(&self) -> impl Iterator<Item = (String, &str)> {
        self.known.iter().filter_map(|((model, artifact), place)| {
            let place = place.as_ref().ok()?;
            Some((format!("{model}/{artifact}"), place.key.as_str()))
        })
    }

    fn make(&mut self, model: &str, artifact: &str) -> Answer<Place> {
        let of_model = self.playbook.models.get(model).ok_or_else(|| unknown("model", model))?;
        if artifact == SOURCE {
            return self.source(model, of_model);
        }
        let of_artifact =
            self.playbook.artifacts.get(artifact).ok_or_else(|| unknown("artifact", artifact))?;
        match of_artifact.origin() {
            None => Err(unknown("origin of artifact", artifact)),
            Some(Origin::Source) => self.place(model, SOURCE),
            Some(Origin::File(file)) => self.outside(&file.value, of_artifact.optional || of_model.optional),
            Some(Origin::Converted { from, format }) => {
                let base = self.place(model, &from.value)?;
                self.convert(model, artifact, of_artifact, &base, format)
            }
        }
    }

    fn source(&self, name: &str, model: &Model) -> Answer<Place> {
        let path = self.playbook.resolve(&model.source.value);
        if !path.exists() {
            let at = format!("{}:{}", self.playbook.source.file(), model.source.at.line);
            let error = Error::new(Kind::Io, path.display().to_string(), "there is no such file or folder")
                .hint(format!("model `{name}` names it at {at}; `make pull` gets the real models"));
            return Err(if model.optional {
                Unable::Missing(error.to_string())
            } else {
                Unable::Reference(error)
            });
        }
        let key = digest::of_path(&path).map_err(Unable::Reference)?;
        // Opened here whatever the case asks: a reference that cannot be read is never a conversion's fault.
        let checkpoint = formats::open(&path).map_err(Unable::Reference)?;
        if let Some(claim) = &model.family {
            let family = match models::unknown_family(&checkpoint) {
                Some(unknown) => unknown,
                None => models::family_of(&checkpoint).map_err(Unable::Reference)?.id().to_owned(),
            };
            if family != claim.value {
                let what = format!("its family is {family}, the playbook claims {}", claim.value);
                let error = Error::new(Kind::Contract, path.display().to_string(), what);
                return Err(Unable::Reference(error.at(format!("playbook line {}", claim.at.line))));
            }
        }
        Ok(Place { path, key })
    }

    fn outside(&self, file: &str, optional: bool) -> Answer<Place> {
        let path = self.playbook.resolve(file);
        if !path.exists() {
            let message = format!("{}: there is no such file or folder", path.display());
            let required = Unable::Failed { kind: "missing".into(), message: message.clone() };
            return Err(if optional { Unable::Missing(message) } else { required });
        }
        let key = digest::of_path(&path).map_err(Unable::Refused)?;
        Ok(Place { path, key })
    }

    fn convert(
        &self,
        model: &str,
        name: &str,
        artifact: &Artifact,
        base: &Place,
        format: Format,
    ) -> Answer<Place> {
        if let Some(family) = formats::open(&base.path).ok().as_ref().and_then(models::unknown_family) {
            let why = format!("no family answers to `{family}`, so there is no conversion of it to judge");
            return Err(Unable::UnknownFamily(why));
        }
        let options = options(artifact, format);
        let key = digest::of_text(&format!("{} {options:?} {}", base.key, self.program));
        let folder = self.folder.join(model);
        let ending = match format {
            Format::Safetensors => "",
            Format::Gguf => ".gguf",
            Format::Apr => ".apr",
        };
        // 64 bits of the digest: enough to tell the versions of one artifact apart.
        let path = folder.join(format!("{name}-{}{ending}", &key[..16]));
        if !path.exists() {
            let failed =
                |error: Error| Unable::Failed { kind: "conversion".into(), message: error.to_string() };
            fs::create_dir_all(&folder).map_err(|error| failed(Error::io(&folder, &error)))?;
            remove_older(&folder, name, &path);
            convert::convert(&base.path, &path, &options).map_err(failed)?;
        }
        Ok(Place { path, key })
    }
}

/// How a conversion to this artifact is asked for.
pub fn options(artifact: &Artifact, format: Format) -> ConvertOptions {
    ConvertOptions {
        quantize: artifact.quantize,
        names: match artifact.names {
            Some(Names::Hf) => NameDialect::Hf,
            Some(Names::GgufShort) | None => NameDialect::GgufShort,
        },
        dialect: match artifact.dialect {
            Some(Dialect::Aprender) => AprDialect::Aprender,
            None => AprDialect::Contract,
        },
        layout: match artifact.layout {
            Some(Layout::Tiled) => AprLayout::Tiled,
            Some(Layout::Plain) | None => AprLayout::Plain,
        },
        allow_lossy: artifact.allow_lossy,
        to: Some(match format {
            Format::Safetensors => FormatKind::HfFolder,
            Format::Gguf => FormatKind::Gguf,
            Format::Apr => FormatKind::Apr,
        }),
        ..ConvertOptions::default()
    }
}

/// Removes earlier versions of the artifact `name`: they are never used again. A leftover costs only disk.
fn remove_older(folder: &Path, name: &str, keep: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path != keep) {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let key = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
        let is_version = key.is_some_and(|key| {
            let key = key.trim_end_matches(".gguf").trim_end_matches(".apr");
            key.len() == 16 && key.bytes().all(|b| b.is_ascii_hexdigit())
        });
        if is_version {
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}

/// The planner has checked every name; this answers for a caller that did not ask it.
fn unknown(what: &str, name: &str) -> Unable {
    Unable::Failed { kind: "usage".into(), message: format!("the playbook has no {what} `{name}`") }
}
