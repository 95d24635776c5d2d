//! What the parts of a playbook say of each other, apart from its gates: artifacts, models, policy.

use super::backend_use::names_of;
use super::diagnostics::Gather;
use super::located::Located;
use super::names::Names;
use super::plan::{LONGEST_LINEAGE, SOURCE, lineage};
use super::schema::{Dialect, Format, Layout, Origin, Playbook};
use super::{Catalog, NAME_PATTERN};

/// Complains about every reference that leads nowhere or in a circle.
pub(super) fn check(playbook: &Playbook, catalog: &dyn Catalog, gather: &mut Gather) {
    let names = Names::of(playbook, catalog);
    artifacts(playbook, &names, gather);
    // A gate that names its own backends is complained about there.
    names.backends.select(Some(&names_of(&playbook.backends)), gather);
    names.suites.select(Some(&playbook.policy.required_suites), gather);
    for (runtime, _) in playbook.runtimes.iter() {
        if catalog.backend_names().contains(&runtime.value.as_str()) {
            let message = format!("the runtime `{}` has the name of a backend", runtime.value);
            gather.add(runtime.at, message, Some("give it another name".into()));
        }
    }
}

fn artifacts(playbook: &Playbook, names: &Names, gather: &mut Gather) {
    for (name, artifact) in playbook.artifacts.iter() {
        if let Some(claimed) = &artifact.models {
            names.models.select(Some(claimed), gather);
        }
        let Some(origin) = artifact.origin() else {
            let message = format!("`{}` mixes `source`, `from` and `file`", name.value);
            gather.add(name.at, message, Some("an artifact is exactly one of the three".into()));
            continue;
        };
        if name.value == SOURCE && origin != Origin::Source {
            let hint = Some(format!("choose another name (`{NAME_PATTERN}`)"));
            gather.add(name.at, "the name `source` always means the model's source", hint);
        }
        let made_here = matches!(origin, Origin::Converted { .. });
        let conversion_keys = [
            ("format", artifact.format.is_some()),
            ("quantize", artifact.quantize.is_some()),
            ("names", artifact.names.is_some()),
            ("dialect", artifact.dialect.is_some()),
            ("layout", artifact.layout.is_some()),
            ("allow_lossy", artifact.allow_lossy),
        ];
        for (key, given) in conversion_keys {
            if given && !made_here {
                let message = format!("`{}` is not converted, so `{key}` says nothing", name.value);
                gather.add(name.at, message, Some(format!("leave `{key}` out")));
            }
        }
        if let Origin::Converted { from, format } = origin {
            let of_apr = artifact.names.is_some() || artifact.dialect.is_some() || artifact.layout.is_some();
            if format != Format::Apr && of_apr {
                let what = "`names`, `dialect` and `layout` belong to APR files";
                gather.add(name.at, format!("{what}, and `{}` is none", name.value), None);
            }
            if artifact.dialect == Some(Dialect::Aprender) && artifact.layout == Some(Layout::Tiled) {
                let message = format!("`{}` cannot be tiled: aprender's files have no row tiles", name.value);
                gather.add(name.at, message, Some("leave out `dialect` or `layout`".into()));
            }
            if names.artifacts.known(from, gather).is_some() {
                lineage_ends(playbook, name, from, gather);
            }
        }
    }
}

/// Complains where following `from` leads back to `name`, or on and on.
fn lineage_ends(playbook: &Playbook, name: &Located<String>, from: &Located<String>, gather: &mut Gather) {
    let chain = lineage(playbook, &name.value);
    if chain.iter().any(|a| a.from.as_ref().is_some_and(|from| from.value == name.value)) {
        let message = format!("`{}` is made from itself", name.value);
        gather.add(from.at, message, Some("one artifact of the circle must come from `source`".into()));
    } else if chain.len() > LONGEST_LINEAGE {
        let message = format!("`{}` is made by more than {LONGEST_LINEAGE} conversions", name.value);
        gather.add(from.at, message, Some("an earlier artifact, or `source`, would do".into()));
    }
}
