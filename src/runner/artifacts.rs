//! The files under test: found where the playbook says, or made by the converter, once each.
//!
//! Different artifacts are made side by side; whoever asks for one that is being made waits for it.

use super::cache::{self, Making, Why};
use super::digest;
use crate::convert::{self, ConvertOptions, NameDialect};
use crate::formats::{self, AprDialect, AprLayout, FormatKind};
use crate::playbook::{Artifact, Dialect, Format, Layout, Model, Names, Origin, Playbook};
use crate::record::Unable;
use crate::subject::Answer;
use crate::{Error, Kind, models};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A file or folder that a case can open.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Where it is.
    pub path: PathBuf,
    /// A key over its content and how it was made.
    pub key: String,
}

/// A conversion of this run: was it made, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// Model name in the playbook.
    pub model: String,
    /// Artifact name in the playbook.
    pub artifact: String,
    /// Where it is.
    pub path: PathBuf,
    /// Whether it was made, and why.
    pub why: Why,
}

/// Makes the artifacts of one run and remembers them.
pub struct Workshop<'a> {
    playbook: &'a Playbook,
    /// Where made files go.
    folder: PathBuf,
    /// Whether files of earlier runs are used.
    kept: bool,
    /// The digest of this program.
    program: String,
    threads: usize,
    known: Mutex<Known>,
    made: Mutex<BTreeMap<(String, String), Made>>,
}

/// By model and artifact; a cell that is empty is being filled.
type Known = BTreeMap<(String, String), Arc<OnceLock<Answer<Place>>>>;

/// The artifact name that always means the model's source.
pub const SOURCE: &str = "source";

impl<'a> Workshop<'a> {
    /// A workshop that makes files in `folder` with `threads` threads, and with `kept` uses what is there already.
    pub fn new(
        playbook: &'a Playbook,
        folder: PathBuf,
        kept: bool,
        program: String,
        threads: usize,
    ) -> Workshop<'a> {
        let (known, made) = (Mutex::default(), Mutex::default());
        Workshop { playbook, folder, kept, program, threads, known, made }
    }

    /// The place of `artifact` of `model`, made on first use.
    ///
    /// # Errors
    /// Whose fault it is: a missing optional file, a source that cannot be used, a conversion that failed.
    pub fn place(&self, model: &str, artifact: &str) -> Answer<Place> {
        let name = (model.to_owned(), artifact.to_owned());
        let cell = Arc::clone(self.known().entry(name).or_default());
        cell.get_or_init(|| self.make(model, artifact)).clone()
    }

    /// Whether the place of `artifact` of `model` is known already, or that it has none.
    pub fn is_placed(&self, model: &str, artifact: &str) -> bool {
        self.known().get(&(model.to_owned(), artifact.to_owned())).is_some_and(|cell| cell.get().is_some())
    }

    /// Where distributions are kept between runs: apart for every program, since another engine may round otherwise.
    pub fn distributions(&self) -> Option<PathBuf> {
        let program = self.program.get(..16).unwrap_or(&self.program);
        self.kept.then(|| self.folder.join("distributions").join(program))
    }

    /// The digests of all sources and outside files used so far, by what they are.
    pub fn digests(&self) -> Vec<(String, String)> {
        let known = self.known();
        let placed = known.iter().filter_map(|((model, artifact), cell)| {
            let place = cell.get()?.as_ref().ok()?;
            Some((format!("{model}/{artifact}"), place.key.clone()))
        });
        placed.collect()
    }

    /// Every conversion so far, by model and artifact.
    pub fn made(&self) -> Vec<Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// A map of whole entries, whoever panicked.
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self, model: &str, artifact: &str) -> Answer<Place> {
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
        let making = Making {
            source: base.key.clone(),
            recipe: format!("{options:?}"),
            program: self.program.clone(),
        };
        let key = making.key();
        let folder = self.folder.join(model);
        let ending = match format {
            Format::Safetensors => "",
            Format::Gguf => ".gguf",
            Format::Apr => ".apr",
        };
        // 64 bits of the digest: enough to tell the versions of one artifact apart.
        let path = folder.join(format!("{name}-{}{ending}", &key[..16]));
        let why = if self.kept { cache::look(&path, name, &making) } else { Why::Asked };
        if why != Why::Kept {
            let failed =
                |error: Error| Unable::Failed { kind: "conversion".into(), message: error.to_string() };
            fs::create_dir_all(&folder).map_err(|error| failed(Error::io(&folder, &error)))?;
            cache::remove(&path, name).map_err(failed)?;
            let options = ConvertOptions { threads: Some(self.threads), ..options };
            convert::convert(&base.path, &path, &options).map_err(failed)?;
            cache::write_down(&path, name, &making).map_err(failed)?;
        }
        let made = Made { model: model.to_owned(), artifact: name.to_owned(), path: path.clone(), why };
        let of = (model.to_owned(), name.to_owned());
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(of, made);
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

/// The planner has checked every name; this answers for a caller that did not ask it.
fn unknown(what: &str, name: &str) -> Unable {
    Unable::Failed { kind: "usage".into(), message: format!("the playbook has no {what} `{name}`") }
}
