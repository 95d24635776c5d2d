//! Who takes part in which case: subjects are opened once, shared, and dropped after their last case.

use super::artifacts::{SOURCE, Workshop};
use super::localise::Sides;
use super::outside::Outside;
use crate::engine;
use crate::gates;
use crate::playbook::{AgainstRule, Artifact, Case, Format, Origin, Playbook};
use crate::record::Unable;
use crate::subject::{Answer, Opened, OutsideRuntime, Place, Role, Subject};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Everything that takes part in one case.
pub struct Cast {
    /// The artifact under test.
    pub subject: Arc<dyn Subject>,
    /// What it is compared with.
    pub against: Option<Opponent>,
    /// Who is walked where a gate about numbers fails, or why nobody can be; none for other gates.
    pub sides: Option<Result<Sides, String>>,
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
}

/// Opens subjects for cases and knows how long each is needed.
pub struct Stage<'a> {
    playbook: &'a Playbook,
    workshop: Workshop<'a>,
    threads: usize,
    open: HashMap<Part, Opened>,
    uses: HashMap<Part, usize>,
}

/// One artifact on one backend, whatever its role in a case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Part {
    model: String,
    artifact: String,
    backend: String,
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
    pub fn new(playbook: &'a Playbook, workshop: Workshop<'a>, threads: usize, cases: &[Case]) -> Stage<'a> {
        let mut uses = HashMap::new();
        for case in cases {
            for part in parts(case) {
                *uses.entry(part).or_insert(0) += 1;
            }
        }
        Stage { playbook, workshop, threads, open: HashMap::new(), uses }
    }

    /// The cast of `case`.
    ///
    /// # Errors
    /// Why a side cannot take part.
    pub fn cast(&mut self, case: &Case) -> Answer<Cast> {
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
    fn sides(&mut self, case: &Case) -> Result<Sides, String> {
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
    fn opened(&mut self, part: Part) -> Result<Opened, String> {
        if let Some(open) = self.open.get(&part) {
            return Ok(open.clone());
        }
        let place = self.workshop.place(&part.model, &part.artifact).map_err(|unable| why(&unable))?;
        Ok(Opened::new(Place {
            model: part.model,
            artifact: part.artifact,
            shown: place.path.display().to_string(),
            path: place.path,
            backend: part.backend,
            threads: self.threads,
            role: Role::Reference,
            kept: Some(self.workshop.distributions()),
        }))
    }

    /// What the detection case `case` needs.
    ///
    /// # Errors
    /// Why the artifact or the source cannot take part.
    pub fn bench(&mut self, case: &Case) -> Answer<Bench> {
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
        Ok(Bench { artifact, source, conversion, reference, threads: self.threads })
    }

    /// Counts `case` as done and drops subjects that no later case needs.
    pub fn done(&mut self, case: &Case) {
        for part in parts(case) {
            let left = self.uses.entry(part.clone()).or_insert(0);
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.open.remove(&part);
            }
        }
    }

    /// Forgets the subjects of `case`: a case that was left behind may hold their locks for ever.
    pub fn abandon(&mut self, case: &Case) {
        for part in parts(case) {
            self.open.remove(&part);
        }
    }

    /// The workshop, for provenance.
    pub fn workshop(&self) -> &Workshop<'a> {
        &self.workshop
    }

    fn subject(&mut self, part: Part, role: Role) -> Answer<Arc<dyn Subject>> {
        if let Some(open) = self.open.get(&part) {
            return Ok(open.in_role(role));
        }
        let place = self.workshop.place(&part.model, &part.artifact)?;
        let opened = Opened::new(Place {
            model: part.model.clone(),
            artifact: part.artifact.clone(),
            shown: place.path.display().to_string(),
            path: place.path,
            backend: part.backend.clone(),
            threads: self.threads,
            role,
            kept: Some(self.workshop.distributions()),
        });
        let subject = opened.in_role(role);
        self.open.insert(part, opened);
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
