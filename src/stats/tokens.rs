//! Comparing two token sequences.

/// Positions that differ in the common prefix length, plus the difference of the lengths.
///
/// This is the count of the ground-truth suite: one early slip in free-running text counts for every later token
/// that it drags along.
pub fn count_mismatches(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).filter(|(x, y)| x != y).count() + a.len().abs_diff(b.len())
}

/// The first position at which the two differ, the end of the shorter one included; `None` where they are equal.
pub fn first_difference(a: &[u32], b: &[u32]) -> Option<usize> {
    let common = a.len().min(b.len());
    (0..common).find(|&i| a[i] != b[i]).or((a.len() != b.len()).then_some(common))
}

/// The period of the loop that `ids` ends in: at least [`LEAST_REPEATS`] times the same at most [`LONGEST_PERIOD`]
/// ids over at least half of the sequence. `None` where it ends in no loop.
pub fn loop_period(ids: &[u32]) -> Option<usize> {
    (1..=LONGEST_PERIOD).find(|&period| {
        let repeated =
            ids.iter().rev().zip(ids.iter().rev().skip(period)).take_while(|(a, b)| a == b).count();
        let covered = repeated + period;
        repeated > 0 && covered >= LEAST_REPEATS * period && 2 * covered >= ids.len()
    })
}

/// A sentence said twice is style; said four times it is a loop.
const LEAST_REPEATS: usize = 4;

/// A longer phrase cannot come back often enough in the few tokens that gates generate.
const LONGEST_PERIOD: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids() -> impl Strategy<Value = Vec<u32>> {
        proptest::collection::vec(0u32..4, 0..12)
    }

    proptest! {
        #[test]
        fn a_sequence_does_not_differ_from_itself(a in ids()) {
            prop_assert_eq!(count_mismatches(&a, &a), 0);
            prop_assert_eq!(first_difference(&a, &a), None);
        }

        #[test]
        fn the_count_is_symmetric_and_bounded(a in ids(), b in ids()) {
            let n = count_mismatches(&a, &b);
            prop_assert_eq!(n, count_mismatches(&b, &a));
            prop_assert!(n <= a.len().max(b.len()));
            prop_assert!(n >= a.len().abs_diff(b.len()));
            prop_assert_eq!(n == 0, first_difference(&a, &b).is_none());
        }

        #[test]
        fn against_nothing_everything_differs(a in ids()) {
            prop_assert_eq!(count_mismatches(&a, &[]), a.len());
        }

        #[test]
        fn equal_lengths_obey_the_triangle(
            (a, b, c) in (1usize..9).prop_flat_map(|n| {
                let s = || proptest::collection::vec(0u32..4, n);
                (s(), s(), s())
            })
        ) {
            prop_assert!(count_mismatches(&a, &c) <= count_mismatches(&a, &b) + count_mismatches(&b, &c));
        }

        #[test]
        fn what_repeats_four_times_is_a_loop_and_what_never_repeats_is_none(
            phrase in proptest::collection::vec(0u32..9, 1..7),
            n in 4usize..9,
        ) {
            let looped = phrase.repeat(n);
            let period = loop_period(&looped).unwrap();
            prop_assert!(phrase.len() % period == 0 || looped.len() >= LEAST_REPEATS * period);
            let counting: Vec<u32> = (0..looped.len() as u32).collect();
            prop_assert_eq!(loop_period(&counting), None);
            // A long text that only ends in a short stammer is no loop.
            let mut text: Vec<u32> = (100..100 + 2 * looped.len() as u32).collect();
            text.extend(&looped);
            prop_assert_eq!(loop_period(&text), None);
        }

        #[test]
        fn everything_before_the_first_difference_is_equal(a in ids(), b in ids()) {
            if let Some(i) = first_difference(&a, &b) {
                prop_assert_eq!(&a[..i], &b[..i]);
                prop_assert_ne!(a.get(i), b.get(i));
            }
        }
    }
}
