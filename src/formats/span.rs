//! Where tensors lie in a file: inside it, and not on top of each other.

use crate::tensor::Shape;
use crate::{Error, Result};
use std::ops::Range;
use std::path::Path;

/// The bytes `start .. start + size` of a file of `file_len` bytes.
///
/// # Errors
/// [`crate::Kind::Malformed`], naming the tensor and both ends, where they do not lie inside.
pub(super) fn within(
    path: &Path,
    name: &str,
    start: Option<u64>,
    size: usize,
    file_len: usize,
) -> Result<Range<usize>> {
    let start = start.and_then(|s| usize::try_from(s).ok());
    let range = start.and_then(|start| Some(start..start.checked_add(size)?));
    match range {
        Some(range) if range.end <= file_len => Ok(range),
        Some(range) => {
            let what = format!(
                "data is bytes {} to {}, out of bounds: the file has {file_len}",
                range.start, range.end
            );
            Err(Error::malformed(path, what).at(format!("tensor `{name}`")))
        }
        None => {
            let what = format!("data offset overflows, out of bounds: the file has {file_len} bytes");
            Err(Error::malformed(path, what).at(format!("tensor `{name}`")))
        }
    }
}

/// Refuses a tensor of no elements whose dimensions claim more than the file could hold: nothing bounds them, and
/// who walks its rows would walk for ever.
///
/// # Errors
/// [`crate::Kind::Malformed`], naming the tensor.
pub(super) fn check_empty(path: &Path, name: &str, shape: &Shape, file_len: usize) -> Result<()> {
    if !shape.0.contains(&0) {
        return Ok(());
    }
    let outer = shape.0.iter().filter(|&&d| d != 0).try_fold(1usize, |n, &d| n.checked_mul(d));
    if outer.is_some_and(|n| n <= file_len) {
        return Ok(());
    }
    let what = format!("shape {shape} has no elements, but dimensions beyond the file's {file_len} bytes");
    Err(Error::malformed(path, what).at(format!("tensor `{name}`")))
}

/// Refuses two tensors that share a byte. `spans` are names and byte ranges, in any order.
///
/// # Errors
/// [`crate::Kind::Malformed`], naming both.
pub(super) fn check_disjoint(path: &Path, spans: &mut [(&str, Range<usize>)]) -> Result<()> {
    spans.sort_by_key(|(_, range)| (range.start, range.end));
    for pair in spans.windows(2) {
        let ((first, a), (second, b)) = (&pair[0], &pair[1]);
        if b.start < a.end {
            let what = format!(
                "data at bytes {} to {} overlaps tensor `{first}` ({} to {})",
                b.start, b.end, a.start, a.end
            );
            return Err(Error::malformed(path, what).at(format!("tensor `{second}`")));
        }
    }
    Ok(())
}

/// `value` rounded up to a multiple of `alignment`, or `None` where that overflows.
pub(super) fn align_up(value: u64, alignment: u64) -> Option<u64> {
    value.checked_next_multiple_of(alignment)
}
