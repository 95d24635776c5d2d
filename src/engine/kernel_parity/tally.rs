//! What was compared, operation by operation: how many elements, how much of the tolerance the worst one took, and which
//! calls left it.

use crate::contract::kernels::{Kernel, KernelTolerance};
use crate::{Error, Kind, Result};
use std::collections::BTreeMap;

/// One operation of a backend under one contract.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelResult {
    /// As [`Backend`](crate::engine::Backend) calls it.
    pub operation: &'static str,
    /// The contract whose tolerance it is held to, a file of `contracts/kernels/`; empty where nothing was compared.
    pub contract: &'static str,
    /// Elements compared.
    pub compared: u64,
    /// The largest share of its tolerance that an element took: above 1 it left the contract.
    pub worst: f64,
    /// The worst calls that left it, worst first, [`MOST_FAULTS`] at most.
    pub faults: Vec<KernelFault>,
}

/// A call of an operation that left its contract.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelFault {
    /// Tensor, encoding and sizes.
    pub place: String,
    /// Row of the output, that is token, and column.
    pub at: (usize, usize),
    /// What the backend gave there.
    pub found: f32,
    /// What the reference gives.
    pub expected: f32,
    /// How far from it the contract lets a backend be.
    pub bound: f64,
    /// Elements of this call that left the contract, of how many.
    pub outside: (u64, u64),
    /// The share of its tolerance that the worst element took.
    pub share: f64,
}

impl std::fmt::Display for KernelFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let KernelFault { at: (token, column), found, expected, bound, outside: (outside, of), .. } = self;
        let error = (f64::from(*found) - f64::from(*expected)).abs();
        write!(
            f,
            "token {token}, column {column}: found {found:e}, expected {expected:e}, {error:.3e} off, bound {bound:.3e}; \
             {outside} of {of} elements are outside"
        )
    }
}

/// Faults that are kept of an operation.
pub const MOST_FAULTS: usize = 8;

/// Everything compared so far.
pub(super) struct Tally {
    results: BTreeMap<(&'static str, &'static str), KernelResult>,
    tolerances: BTreeMap<&'static str, KernelTolerance>,
    /// What any element may be off: a device may take a subnormal number for zero.
    floor: f64,
}

/// One call.
pub(super) struct Call<'a> {
    pub operation: &'static str,
    pub contract: &'static str,
    /// Tensor, encoding and sizes.
    pub place: &'a str,
    /// Columns of what the backend gave.
    pub width: usize,
    /// Those of them that are compared; all where there is none.
    pub columns: Option<&'a [usize]>,
}

impl Tally {
    /// Nothing yet; `on_device` is not the processor.
    pub fn new(on_device: bool) -> Tally {
        let floor = if on_device { f64::from(f32::MIN_POSITIVE) } else { 0.0 };
        Tally { results: BTreeMap::new(), tolerances: BTreeMap::new(), floor }
    }

    /// Holds `found` `[n, width]` against `expected` `[n, columns]`, of which every element may be off by what the contract
    /// says and by its element of `doubt`, where there is one. What is expected to be no number must be none.
    ///
    /// # Errors
    /// [`Kind::Internal`] where the sizes do not belong together; those of [`Kernel::load`].
    pub fn hold(&mut self, call: Call<'_>, expected: &[f32], doubt: &[f64], found: &[f32]) -> Result<()> {
        let Call { operation, contract, place, width, columns } = call;
        let every: Vec<usize>;
        let columns = match columns {
            Some(columns) => columns,
            None => {
                every = (0..width).collect();
                &every
            }
        };
        if found.len() * columns.len() != expected.len() * width || !found.len().is_multiple_of(width.max(1))
        {
            let what =
                format!("{place}: {} outputs of {width} columns are not as many as expected", found.len());
            return Err(Error::new(Kind::Internal, format!("kernel parity of `{operation}`"), what));
        }
        if !self.tolerances.contains_key(contract) {
            self.tolerances.insert(contract, Kernel::load(contract)?.tolerance);
        }
        let numbers: Vec<f32> = expected.iter().copied().filter(|e| e.is_finite()).collect();
        let bound = self.tolerances[contract].bound(&numbers) + self.floor;

        let n = expected.len() as u64;
        let (mut outside, mut worst): (u64, Option<KernelFault>) = (0, None);
        for (i, e) in expected.iter().enumerate() {
            let at = (i / columns.len(), columns[i % columns.len()]);
            let found = found[at.0 * width + at.1];
            let bound = bound + doubt.get(i).copied().unwrap_or(0.0);
            let share = share(*e, found, bound);
            outside += u64::from(share > 1.0);
            if worst.as_ref().is_none_or(|w| share > w.share) {
                let (place, outside) = (place.to_owned(), (0, n));
                worst = Some(KernelFault { place, at, found, expected: *e, bound, outside, share });
            }
        }
        let empty = KernelResult { operation, contract, compared: 0, worst: 0.0, faults: Vec::new() };
        let result = self.results.entry((operation, contract)).or_insert(empty);
        result.compared += n;
        if let Some(worst) = worst {
            result.worst = result.worst.max(worst.share);
            if outside > 0 {
                result.faults.push(KernelFault { outside: (outside, n), ..worst });
                result.faults.sort_by(|a, b| b.share.total_cmp(&a.share));
                result.faults.truncate(MOST_FAULTS);
            }
        }
        Ok(())
    }

    /// Every operation of `operations` and everything else compared; an operation that nothing was compared of stands
    /// there with no element.
    pub fn results(self, operations: &[&'static str]) -> Vec<KernelResult> {
        let mut results: Vec<KernelResult> = self.results.into_values().collect();
        for operation in operations {
            if !results.iter().any(|r| r.operation == *operation) {
                let (contract, faults) = ("", Vec::new());
                results.push(KernelResult { operation, contract, compared: 0, worst: 0.0, faults });
            }
        }
        results
    }
}

/// How much of `bound` is between `expected` and `found`: infinitely much where one of them is a number and the other is
/// none, or where nothing is allowed and something is there.
fn share(expected: f32, found: f32, bound: f64) -> f64 {
    let error = (f64::from(found) - f64::from(expected)).abs();
    match (expected.is_finite(), found.is_finite()) {
        (false, false) => 0.0,
        (true, true) if error == 0.0 => 0.0,
        (true, true) if bound > 0.0 => error / bound,
        (true, true) | (true, false) | (false, true) => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Call<'_> =
        Call { operation: "linear", contract: "matmul", place: "w", width: 4, columns: Some(&[0, 3]) };

    fn held(expected: &[f32], found: &[f32]) -> KernelResult {
        let mut tally = Tally::new(false);
        tally.hold(CALL, expected, &[], found).expect("sizes that fit");
        tally.results(&["linear"]).remove(0)
    }

    #[test]
    fn the_worst_element_is_named_with_its_share_of_the_tolerance() {
        // The tolerance is 2e-6 of the largest.
        let sound = held(&[1.0, 2.0, -4.0, 8.0], &[1.0, 9.0, 9.0, 2.0, -4.000_004, 9.0, 9.0, 8.0]);
        assert_eq!((sound.compared, sound.faults.len()), (4, 0));
        assert!((0.2..0.3).contains(&sound.worst), "{sound:?}");
        let broken = held(&[1.0, 2.0, -4.0, 8.0], &[1.0, 9.0, 9.0, 2.0, -4.1, 9.0, 9.0, 8.0]);
        assert!(broken.worst > 1000.0);
        let fault = &broken.faults[0];
        assert_eq!((fault.at, fault.found, fault.expected, fault.outside), ((1, 0), -4.1, -4.0, (1, 4)));
        assert!(fault.to_string().contains("token 1, column 0: found -4.1e0, expected -4e0"), "{fault}");
    }

    #[test]
    fn no_number_is_found_where_none_is_expected_and_only_there() {
        assert_eq!(held(&[f32::NAN, 1.0], &[f32::INFINITY, 0.0, 0.0, 1.0]).worst, 0.0);
        assert_eq!(held(&[f32::NAN, 1.0], &[1.0, 0.0, 0.0, 1.0]).worst, f64::INFINITY);
        assert_eq!(held(&[1.0, 1.0], &[f32::NAN, 0.0, 0.0, 1.0]).worst, f64::INFINITY);
        // Nothing but zero is near zeros.
        assert_eq!(held(&[0.0, 0.0], &[1e-20, 0.0, 0.0, 0.0]).worst, f64::INFINITY);
    }

    #[test]
    fn an_operation_without_an_element_is_told_and_sizes_must_fit() {
        let nothing = Tally::new(false).results(&["head"]);
        assert_eq!((nothing[0].operation, nothing[0].compared), ("head", 0));
        let refused = Tally::new(false).hold(CALL, &[1.0, 2.0], &[], &[1.0, 2.0]);
        assert_eq!(refused.expect_err("half a row").kind, Kind::Internal);
    }
}
