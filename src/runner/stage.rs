//! Who takes part in which case: subjects are opened once, shared, and dropped after their last case.

use super::artifacts::{SOURCE, Workshop};
use super::devices::Devices;
use super::localise::Sides;
use super::outside::Outside;
use super::schedule::Demand;
use crate::engine;
use crate::gates;
use crate::playbook::{AgainstRule, Artifact, Case, Format, Model, Origin, Playbook};
use crate::record::Unable;
use crate::subject::{Answer, Opened, OutsideRuntime, Place, Role, Subject};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Everything that takes part in one case.
pub struct Cast {
    /// The artifact under test.
    pub subject: Arc<dyn Subject>,
    /// What it is compared with.
    pub against: Option<Opponent>,
    /// Who is walked where a gate about numbers fails, or why nobody can be; none for other gates.
    pub sides: Option<Result<Sides, String>>,
}

impl Cast {
    /// Everyone of ours who takes part.
    pub fn subjects(&self) -> Vec<Arc<dyn Subject>> {
        let against = match &self.against {
            Some(Opponent::Subject(subject)) => Some(subject),
            Some(Opponent::Runtime(_)) | None => None,
        };
        [Some(&self.subject), against].into_iter().flatten().map(Arc::clone).collect()
    }
}

/// The other side of a comparison.
pub enum Opponent {
    /// Another artifact or backend.
    Subject(Arc<dyn Subject>),
    /// A program that is not ours.
    Runtime(Arc<dyn OutsideRuntime>),
}

/// What a detection case needs: the artifact to be broken, and what it is held against.
pub struct Bench {
    /// The sound artifact.
    pub artifact: PathBuf,
    /// The model's source.
    pub source: PathBuf,
    /// How the artifact is made, where it is a conversion of the source.
    pub conversion: Option<(Artifact, Format)>,
    /// The source as the reference of every gate.
    pub reference: Arc<dyn Subject>,
    /// Threads of the engine.
    pub threads: usize,
    /// The adapter that a GPU backend is asked to use.
    pub adapter: Option<String>,
}

/// Opens subjects for cases and knows how long each is needed.
pub struct Stage<'a> {
    playbook: &'a Playbook,
    workshop: Workshop<'a>,
    threads: usize,
    /// The adapter that GPU backends are asked to use, and whether it is there.
    adapter: Option<String>,
    devices: Devices,
    shelf: Mutex<Shelf>,
    /// Bytes of each model's source.
    sizes: HashMap<String, u64>,
}

#[derive(Default)]
struct Shelf {
    open: HashMap<Part, Opened>,
    /// How many cases still need it.
    uses: HashMap<Part, usize>,
}

/// A source of fewer bytes runs on one thread, and its cases side by side: what threads hand each other costs more than
/// such a model computes between two of their meetings.
const SMALL: u64 = 16 << 20;

/// One artifact on one backend, whatever its role in a case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Part {
    /// Model name in the playbook.
    pub model: String,
    /// Artifact name in the playbook.
    pub artifact: String,
    /// The backend; empty for the files alone.
    pub backend: String,
}

/// What a case compares with, by name.
enum Against {
    Nothing,
    /// A part, and the role it has here.
    Part(Part, Role),
    Runtime(String),
}

impl<'a> Stage<'a> {
    /// A stage for `cases`.
    pub fn new(
        playbook: &'a Playbook,
        workshop: Workshop<'a>,
        (threads, adapter, devices): (usize, Option<String>, Devices),
        cases: &[Case],
    ) -> Stage<'a> {
        let mut shelf = Shelf::default();
        for case in cases {
            for part in parts(case) {
                *shelf.uses.entry(part).or_insert(0) += 1;
            }
        }
        let size = |model: &Model| bytes_of(&playbook.resolve(&model.source.value));
        let sizes = playbook.models.iter().map(|(name, model)| (name.value.clone(), size(model))).collect();
        Stage { playbook, workshop, threads, adapter, devices, shelf: Mutex::new(shelf), sizes }
    }

    /// What `case` needs while it runs: every thread where it measures time, or uses them all itself (a large model that
    /// computes, or that is still to be made); one thread otherwise.
    pub fn demand(&self, case: &Case) -> Demand {
        let parts = parts(case);
        let to_make = || parts.iter().any(|part| !self.workshop.is_placed(&part.model, &part.artifact));
        let large = self.threads_of(&case.model) > 1;
        let many = measures_time(case) || large && (computes(case) || to_make());
        Demand { threads: if many { self.threads } else { 1 }, parts }
    }

    /// Whether `case` is one of a large model and takes every thread, even where its artifacts are made.
    pub fn takes_all(&self, case: &Case) -> bool {
        self.threads_of(&case.model) > 1 && (measures_time(case) || computes(case))
    }

    /// Threads of the engine that runs `model`.
    fn threads_of(&self, model: &str) -> usize {
        if self.sizes.get(model).is_some_and(|bytes| *bytes < SMALL) { 1 } else { self.threads }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        // Whoever panicked left whole entries.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cast of `case`.
    ///
    /// # Errors
    /// Why a side cannot take part.
    pub fn cast(&self, case: &Case) -> Answer<Cast> {
        self.devices.check(case)?;
        let subject = self.subject(under_test(case), Role::UnderTest)?;
        let against = match against(case) {
            Against::Nothing => None,
            Against::Part(part, role) => Some(Opponent::Subject(self.subject(part, role)?)),
            Against::Runtime(name) => Some(Opponent::Runtime(self.runtime(case, &name)?)),
        };
        let localises = case.expect_fail.is_none() && gates::find(&case.gate).is_some_and(|g| g.localises());
        let sides = localises.then(|| self.sides(case));
        Ok(Cast { subject, against, sides })
    }

    /// The artifact under test and the one that it is compared with, else the model's source.
    fn sides(&self, case: &Case) -> Result<Sides, String> {
        let own = under_test(case);
        let other = match against(case) {
            Against::Part(part, _) if part != own => part,
            Against::Part(..) | Against::Runtime(_) | Against::Nothing => {
                Part { artifact: SOURCE.to_owned(), ..own.clone() }
            }
        };
        if other == own {
            return Err("the artifact is the original itself".to_owned());
        }
        let candidate = self.opened(own)?;
        Ok(Sides { candidate, reference: self.opened(other)? })
    }

    /// A part as it is open already, or opened for this once; nothing is read before it is used.
    fn opened(&self, part: Part) -> Result<Opened, String> {
        if let Some(open) = self.shelf().open.get(&part) {
            return Ok(open.clone());
        }
        self.open(&part, Role::Reference).map_err(|unable| why(&unable))
    }

    /// Nothing but the place is looked at.
    fn open(&self, part: &Part, role: Role) -> Answer<Opened> {
        let place = self.workshop.place(&part.model, &part.artifact)?;
        Ok(Opened::new(Place {
            model: part.model.clone(),
            artifact: part.artifact.clone(),
            shown: place.path.display().to_string(),
            path: place.path,
            backend: part.backend.clone(),
            threads: self.threads_of(&part.model),
            adapter: self.adapter.clone(),
            role,
            kept: self.workshop.distributions(),
        }))
    }

    /// What the detection case `case` needs.
    ///
    /// # Errors
    /// Why the artifact or the source cannot take part.
    pub fn bench(&self, case: &Case) -> Answer<Bench> {
        self.devices.check(case)?;
        let reference = self.subject(source_of(case), Role::Reference)?;
        let source = self.workshop.place(&case.model, SOURCE)?.path;
        let artifact = self.workshop.place(&case.model, &case.artifact)?.path;
        let made = self.playbook.artifacts.get(&case.artifact);
        let conversion = made.and_then(|artifact| match artifact.origin() {
            Some(Origin::Converted { from, format }) if from.value == SOURCE => {
                Some((artifact.clone(), format))
            }
            Some(Origin::Converted { .. } | Origin::Source | Origin::File(_)) | None => None,
        });
        let threads = self.threads_of(&case.model);
        Ok(Bench { artifact, source, conversion, reference, threads, adapter: self.adapter.clone() })
    }

    /// Counts `case` as done and drops subjects that no later case needs.
    pub fn done(&self, case: &Case) {
        for part in parts(case) {
            let mut shelf = self.shelf();
            let left = shelf.uses.entry(part.clone()).or_insert(0);
            *left = left.saturating_sub(1);
            let gone = if *left == 0 { shelf.open.remove(&part) } else { None };
            // A model is unmapped, and its threads are joined, while nobody waits for the shelf.
            drop(shelf);
            drop(gone);
        }
    }

    /// Forgets the subjects of `case`: a case that was left behind may hold their locks for ever.
    pub fn abandon(&self, case: &Case) {
        for part in parts(case) {
            self.shelf().open.remove(&part);
        }
    }

    /// The workshop, for provenance.
    pub fn workshop(&self) -> &Workshop<'a> {
        &self.workshop
    }

    fn subject(&self, part: Part, role: Role) -> Answer<Arc<dyn Subject>> {
        if let Some(open) = self.shelf().open.get(&part) {
            return Ok(open.in_role(role));
        }
        let opened = self.open(&part, role)?;
        let subject = opened.in_role(role);
        self.shelf().open.insert(part, opened);
        Ok(subject)
    }

    fn runtime(&self, case: &Case, name: &str) -> Answer<Arc<dyn OutsideRuntime>> {
        let runtime = self.playbook.runtimes.get(name).ok_or_else(|| Unable::Failed {
            kind: "usage".into(),
            message: format!("the playbook has no runtime `{name}`"),
        })?;
        Ok(Arc::new(Outside::new(name, runtime, case.timeout_s)))
    }
}

/// Bytes of a file, or of the files of a folder; 0 for what cannot be looked at, which is told where it is read.
fn bytes_of(path: &Path) -> u64 {
    let of = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    match fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| of(&entry.path())).sum(),
        Err(_) => of(path),
    }
}

fn why(unable: &Unable) -> String {
    match unable {
        Unable::NotApplicable(why)
        | Unable::UnknownFamily(why)
        | Unable::Missing(why)
        | Unable::Vacuous(why)
        | Unable::Failed { message: why, .. } => why.clone(),
        Unable::Refused(error) | Unable::Reference(error) => error.to_string(),
    }
}

fn under_test(case: &Case) -> Part {
    Part { model: case.model.clone(), artifact: case.artifact.clone(), backend: case.backend.clone() }
}

/// Whether what it finds is a speed.
fn measures_time(case: &Case) -> bool {
    gates::find(&case.gate).is_some_and(|gate| gate.is_timed())
        || matches!(against(case), Against::Runtime(_))
}

/// Whether an engine runs.
fn computes(case: &Case) -> bool {
    case.probe.is_some() || gates::find(&case.gate).is_some_and(|gate| gate.info().needs_backend)
}

fn against(case: &Case) -> Against {
    let rule = gates::find(&case.gate).map_or(AgainstRule::None, |gate| gate.info().against);
    let other = |artifact: &str| {
        Against::Part(Part { artifact: artifact.to_owned(), ..under_test(case) }, Role::Reference)
    };
    match (rule, case.against.as_deref()) {
        (AgainstRule::None, _) => Against::Nothing,
        (AgainstRule::ArtifactOrSource, name) => other(name.unwrap_or(SOURCE)),
        (AgainstRule::Artifact, Some(name)) => other(name),
        (AgainstRule::BackendOrRuntime, Some(name)) if engine::backend_names().contains(&name) => {
            Against::Part(Part { backend: name.to_owned(), ..under_test(case) }, Role::UnderTest)
        }
        (AgainstRule::BackendOrRuntime, Some(name)) => Against::Runtime(name.to_owned()),
        (AgainstRule::Artifact | AgainstRule::BackendOrRuntime, None) => Against::Nothing,
    }
}

/// The reference of a detection case.
fn source_of(case: &Case) -> Part {
    Part { artifact: SOURCE.to_owned(), ..under_test(case) }
}

/// The backends that take part in `case`; none where only files are read.
pub fn backends(case: &Case) -> Vec<String> {
    let named = parts(case).into_iter().map(|part| part.backend);
    named.filter(|name| !name.is_empty()).collect()
}

fn parts(case: &Case) -> Vec<Part> {
    if case.probe.is_some() {
        return vec![source_of(case)];
    }
    let mut parts = vec![under_test(case)];
    if let Against::Part(part, _) = against(case)
        && part != parts[0]
    {
        parts.push(part);
    }
    parts
}
