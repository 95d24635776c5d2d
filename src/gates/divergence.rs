//! The first point at which two generations part, in its context, for a person.

use crate::stats::first_difference;
use crate::subject::{Answer, Subject};

/// How many tokens of common text are shown before the difference.
const CONTEXT: usize = 8;
/// How many characters of each side are shown where texts part.
const EXCERPT: usize = 48;

/// Where `found` leaves `expected`: the common text before, then both alternatives with their ids; empty where the
/// two are equal. `reader` turns ids into text.
pub fn of_tokens(reader: &dyn Subject, expected: &[u32], found: &[u32]) -> Answer<String> {
    let Some(at) = first_difference(expected, found) else { return Ok(String::new()) };
    let before = reader.decode(&expected[at.saturating_sub(CONTEXT)..at], false)?;
    let side = |ids: &[u32]| -> Answer<String> {
        match ids.get(at) {
            None => Ok("ends here".into()),
            Some(id) => Ok(format!("{:?} (id {id})", reader.decode(&[*id], false)?)),
        }
    };
    let ellipsis = if at > CONTEXT { "…" } else { "" };
    Ok(format!(
        "first differing token: position {at}, after {ellipsis}{before:?}\n  expected {}\n  found    {}",
        side(expected)?,
        side(found)?
    ))
}

/// Characters that differ in the common length, plus the difference of the lengths.
pub fn differing_chars(a: &str, b: &str) -> usize {
    let pairs = a.chars().zip(b.chars()).filter(|(x, y)| x != y).count();
    pairs + a.chars().count().abs_diff(b.chars().count())
}

/// Where two texts part: both from a little before the first differing character; empty where they are equal.
pub fn of_texts(expected: &str, found: &str) -> String {
    if expected == found {
        return String::new();
    }
    let at = expected.chars().zip(found.chars()).take_while(|(x, y)| x == y).count();
    let from = at.saturating_sub(EXCERPT / 2);
    let show = |text: &str| {
        let cut: String = text.chars().skip(from).take(EXCERPT).collect();
        let (left, right) =
            (if from > 0 { "…" } else { "" }, if text.chars().count() > from + EXCERPT { "…" } else { "" });
        format!("{left}{cut:?}{right}")
    };
    format!("texts part at character {at}\n  expected {}\n  found    {}", show(expected), show(found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::fake::FakeSubject;

    #[test]
    fn the_first_differing_token_is_shown_with_what_stood_before() {
        let reader = FakeSubject::new("x");
        let told = of_tokens(&reader, &[0, 1, 2], &[0, 1, 3]).unwrap();
        assert!(told.contains("position 2") && told.contains("\"ab\""), "{told}");
        assert!(told.contains("\"c\" (id 2)") && told.contains("\"d\" (id 3)"), "{told}");
        let short = of_tokens(&reader, &[0, 1], &[0]).unwrap();
        assert!(short.contains("found    ends here"), "{short}");
        assert_eq!(of_tokens(&reader, &[1], &[1]).unwrap(), "");
    }

    #[test]
    fn texts_part_where_they_part_and_white_space_counts() {
        assert_eq!(differing_chars(" Paris", "Paris"), 6);
        assert_eq!(differing_chars("é", "é!"), 1);
        assert_eq!(of_texts("same", "same"), "");
        let told = of_texts("one two three", "one two\nthree");
        assert!(told.contains("character 7") && told.contains("\\n"), "{told}");
    }
}
