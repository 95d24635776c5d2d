//! The names that a playbook may refer to, by kind, and what to say of one that is not among them.

use super::Catalog;
use super::diagnostics::Gather;
use super::located::Located;
use super::plan::SOURCE;
use super::schema::Playbook;

/// Every name of a playbook, by kind.
pub(super) struct Names<'a> {
    pub(super) models: Kind<'a>,
    pub(super) artifacts: Kind<'a>,
    pub(super) prompts: Kind<'a>,
    pub(super) backends: Kind<'a>,
    /// Backends and runtimes.
    pub(super) runners: Kind<'a>,
    pub(super) suites: Kind<'a>,
}

/// The names of one kind, in the playbook's order.
pub(super) struct Kind<'a> {
    what: &'static str,
    names: Vec<&'a str>,
    /// A name that may be referred to but is not in the default selection.
    beside: Option<&'a str>,
}

impl<'a> Names<'a> {
    pub(super) fn of(playbook: &'a Playbook, catalog: &dyn Catalog) -> Self {
        let kind = |what, names: Vec<&'a str>| Kind { what, names, beside: None };
        let backends = catalog.backend_names();
        let mut runners: Vec<&str> = backends.clone();
        runners.extend(playbook.runtimes.names());
        Names {
            models: kind("model", playbook.models.names().collect()),
            artifacts: Kind {
                beside: Some(SOURCE),
                ..kind("artifact", playbook.artifacts.names().collect())
            },
            prompts: kind("prompt", playbook.prompts.names().collect()),
            backends: kind("backend", backends),
            runners: kind("backend or runtime", runners),
            suites: kind("suite", playbook.suites.names().collect()),
        }
    }
}

impl<'a> Kind<'a> {
    /// The name as it is known; a complaint if it is not.
    pub(super) fn known(&self, name: &Located<String>, gather: &mut Gather) -> Option<&'a str> {
        let mut all = self.names.clone();
        if let Some(beside) = self.beside.filter(|b| !all.contains(b)) {
            all.push(beside);
        }
        let found = all.iter().find(|known| **known == name.value).copied();
        if found.is_none() {
            let message = format!("unknown {} `{}`", self.what, name.value);
            let hint = gather.suggest(&name.value, &all);
            gather.add(name.at, message, hint);
        }
        found
    }

    /// The listed names, or all where nothing is listed; `None` after a complaint.
    pub(super) fn select(
        &self,
        listed: Option<&[Located<String>]>,
        gather: &mut Gather,
    ) -> Option<Vec<&'a str>> {
        let Some(listed) = listed else { return Some(self.names.clone()) };
        let mut chosen = Vec::new();
        let mut all_known = true;
        for name in listed {
            match self.known(name, gather) {
                Some(known) if chosen.contains(&known) => {
                    gather.add(name.at, format!("the {} `{known}` is listed twice", self.what), None);
                    all_known = false;
                }
                Some(known) => chosen.push(known),
                None => all_known = false,
            }
        }
        all_known.then_some(chosen)
    }
}
