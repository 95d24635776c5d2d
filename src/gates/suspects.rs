//! A weight that is off, and the classic mistakes that explain it: the same question from every gate that compares
//! weights.

use crate::inspect::cause::{Cause, Heads, Suspect, causes};
use crate::subject::{Subject, TensorFacts};

/// The mistakes that turn `original`'s weight into `candidate`'s, best first. `before` and `after` are its values,
/// row-major in canonical order; the other tensors of both are looked at where its own values explain nothing.
pub(super) fn explain(
    facts: &TensorFacts,
    (original, before): (&dyn Subject, &[f32]),
    (candidate, after): (&dyn Subject, &[f32]),
) -> Vec<Cause> {
    causes(&Suspect {
        name: &facts.name,
        shape: &facts.shape,
        heads: heads_of(candidate),
        original: before,
        found: after,
        dtype: facts.dtype,
        over: true,
        originals: &|name| original.values(name).ok(),
        candidates: &|name| candidate.values(name).ok(),
    })
}

/// Heads as the file gives them; none where it does not, which only leaves causes about heads unnamed.
fn heads_of(subject: &dyn Subject) -> Option<Heads> {
    let settings = subject.hyperparameters().ok()?;
    let number = |name: &str| settings.get(name)?.parse().ok();
    Some(Heads { queries: number("n_heads")?, keys: number("n_kv_heads")?, width: number("head_dim")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::fake::FakeSubject;

    #[test]
    fn a_turned_sign_is_explained_and_equal_weights_need_no_explanation() {
        let (original, mut candidate) = (FakeSubject::new("source"), FakeSubject::new("int8"));
        let (facts, before) = original.weights[1].clone();
        candidate.weights[1].1.iter_mut().for_each(|v| *v = -*v);
        let after = candidate.weights[1].1.clone();
        let named = explain(&facts, (&original, &before), (&candidate, &after));
        assert_eq!(named.first().map(|cause| cause.id), Some("sign-flipped"), "{named:?}");
        assert!(explain(&facts, (&original, &before), (&original, &before)).is_empty());
    }
}
