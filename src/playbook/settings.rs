//! What one use of a gate says beside its selection: limits of the right type, and an expected failure with its
//! reason.

use super::diagnostics::Gather;
use super::schema::{Expect, GateUse, ParamValue};
use super::{GateInfo, ParamDefault};

/// Complains about limits that the gate does not know, that have the wrong type or are missing, and about an
/// expectation that is not stated whole.
pub(super) fn check(gate: &GateUse, info: &GateInfo, gather: &mut Gather) {
    limits(gate, info, gather);
    expectation(gate, gather);
}

fn limits(gate: &GateUse, info: &GateInfo, gather: &mut Gather) {
    let known: Vec<&str> = info.params.iter().map(|p| p.name).collect();
    for (name, value) in gate.limits.iter() {
        let Some(param) = info.params.iter().find(|p| p.name == name.value) else {
            let message = format!("the gate `{}` has no limit `{}`", info.id, name.value);
            let hint = gather.suggest(&name.value, &known);
            gather.add(name.at, message, hint);
            continue;
        };
        let wrong = match (&value.value, param.default) {
            (ParamValue::Text(text), Some(ParamDefault::Choice(words)))
                if !words.contains(&text.as_str()) =>
            {
                let message = format!("`{}`: unknown value `{text}`", name.value);
                let hint = gather.suggest(text, words);
                gather.add(value.at, message, hint);
                continue;
            }
            (
                ParamValue::Number(n),
                Some(ParamDefault::Text(_) | ParamDefault::Choice(_) | ParamDefault::DerivedWord),
            ) => format!("expected a word, found {n}"),
            (ParamValue::Text(text), Some(ParamDefault::Number(_) | ParamDefault::Required) | None) => {
                format!("expected a number, found `{text}`")
            }
            (ParamValue::Number(_), Some(ParamDefault::Number(_) | ParamDefault::Required) | None)
            | (
                ParamValue::Text(_),
                Some(ParamDefault::Text(_) | ParamDefault::Choice(_) | ParamDefault::DerivedWord),
            ) => continue,
        };
        gather.add(value.at, format!("`{}`: {wrong}", name.value), None);
    }
    for param in info.params.iter().filter(|p| p.default == Some(ParamDefault::Required)) {
        if gate.limits.get(param.name).is_none() {
            let message = format!("the gate `{}` needs the limit `{}`", info.id, param.name);
            let hint = format!("add `limits: {{{}: …}}`: {}", param.name, param.doc);
            gather.add(gate.gate.at, message, Some(hint));
        }
    }
}

fn expectation(gate: &GateUse, gather: &mut Gather) {
    match (&gate.expect, &gate.reason) {
        (Some(expect), None) if expect.value == Expect::Fail => {
            let hint = Some("add `reason:`, so that a known weakness is stated".to_owned());
            gather.add(expect.at, "`expect: fail` needs a reason", hint);
        }
        (expect, Some(reason)) if expect.as_ref().is_none_or(|e| e.value == Expect::Pass) => {
            let hint = Some("add `expect: fail` or leave `reason` out".to_owned());
            gather.add(reason.at, "`reason` explains an expected failure, and none is expected", hint);
        }
        (Some(_), _) | (None, _) => {}
    }
}
