//! "Did you mean": the nearest of the known names, by edit distance.

/// A hint for a `name` that is none of `known`: the nearest one, or all of them where none is near.
pub fn hint(name: &str, known: &[&str]) -> Option<String> {
    if let Some(near) = nearest(name, known) {
        return Some(format!("did you mean `{near}`?"));
    }
    match known.len() {
        0 => None,
        1..=MOST_LISTED => Some(format!("known: {}", quoted(known))),
        more => Some(format!("known: {} and {} more", quoted(&known[..MOST_LISTED]), more - MOST_LISTED)),
    }
}

/// The known name that is at most a third of its length away, the first of the nearest.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    // A name longer than any real one is nobody's misspelling, and comparing it would cost.
    if name.chars().count() > 64 || known.len() > MOST_COMPARED {
        return None;
    }
    let scored = known.iter().map(|k| (distance(&name.to_lowercase(), &k.to_lowercase()), *k));
    scored.filter(|(d, k)| *d <= (k.chars().count().max(3)) / 3).min_by_key(|(d, _)| *d).map(|(_, near)| near)
}

/// `a`, `b` and `c`, each in backticks.
pub fn quoted(names: &[&str]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

/// Among more names than these no near one is sought.
const MOST_COMPARED: usize = 256;

/// More than these are not listed in a hint.
const MOST_LISTED: usize = 24;

/// Edits between two strings: insert, delete, replace, or swap of neighbors (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut next = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = row[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            next[j] = replaced.min(row[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                next[j] = next[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        for (a, b, edits) in
            [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("partiy", "parity", 1), ("é", "e", 1)]
        {
            assert_eq!(distance(a, b), edits, "{a} {b}");
            assert_eq!(distance(b, a), edits, "{b} {a}");
        }
    }

    #[test]
    fn suggests_only_what_is_near() {
        let known = ["token-parity", "quant-drift", "canary"];
        assert_eq!(nearest("token-partiy", &known), Some("token-parity"));
        assert_eq!(nearest("Canary", &known), Some("canary"));
        assert_eq!(nearest("speed", &known), None);
        assert_eq!(hint("speed", &known).as_deref(), Some("known: `token-parity`, `quant-drift`, `canary`"));
        assert_eq!(hint("x", &[]), None);
    }
}
