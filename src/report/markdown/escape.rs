//! Text of others inside Markdown: as a code span, a code block or an escaped table cell.

use super::super::text::{cut, one_line, plain};

/// A code span of at most `limit` bytes of text. Not for tables, where a pipe would end the cell.
pub(in crate::report) fn code(text: &str, limit: usize) -> String {
    let shown = cut(&one_line(text), limit);
    if shown.trim().is_empty() {
        return String::new();
    }
    let fence = "`".repeat(longest_run(&shown) + 1);
    let space = if shown.starts_with('`') || shown.ends_with('`') { " " } else { "" };
    format!("{fence}{space}{shown}{space}{fence}")
}

/// A code block of at most `limit` bytes of text, its fence longer than any run of backticks in it.
pub(super) fn block(text: &str, limit: usize) -> String {
    let shown = cut(plain(text).replace('\t', "    ").trim_end(), limit);
    let fence = "`".repeat(longest_run(&shown).max(2) + 1);
    format!("{fence}\n{shown}\n{fence}\n")
}

/// A table cell: a name as a code span where it is only letters and digits and the like, else plain text with
/// everything that Markdown or HTML could read written as an entity.
pub(super) fn cell(text: &str, limit: usize) -> String {
    let shown: Vec<char> = cut(&one_line(text), limit).chars().collect();
    let mut out = String::with_capacity(shown.len());
    for (n, c) in shown.iter().enumerate() {
        let inside_word = || {
            let letter = |m: Option<&char>| m.is_some_and(char::is_ascii_alphanumeric);
            letter(n.checked_sub(1).and_then(|m| shown.get(m))) && letter(shown.get(n + 1))
        };
        match c {
            // Harmless inside a cell: no construct of Markdown begins or ends with them there.
            '.' | ',' | '/' | ':' | '-' | '+' | '=' | ' ' | '%' | '(' | ')' => out.push(*c),
            '_' if inside_word() => out.push('_'),
            c if c.is_ascii_punctuation() => out.push_str(&format!("&#{};", u32::from(*c))),
            c => out.push(*c),
        }
    }
    // Bare addresses would become links.
    out.replace("://", "&#58;//").replace("www.", "www&#46;")
}

/// A name in a table: a code span if it can be one.
pub(in crate::report) fn name(text: &str, limit: usize) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '@' | ' ');
    if !text.is_empty() && text.len() <= limit && text.trim() == text && text.chars().all(safe) {
        format!("`{text}`")
    } else {
        cell(text, limit)
    }
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_longer_than_their_text() {
        assert_eq!(code("a", 99), "`a`");
        assert_eq!(code("a`b", 99), "``a`b``");
        assert_eq!(code("``x`", 99), "``` ``x` ```");
        assert_eq!(code(" \n", 99), "`⏎`".replace('⏎', " ⏎"));
        assert_eq!(code("  ", 99), "");
    }

    #[test]
    fn blocks_cannot_be_left() {
        assert_eq!(block("a\n```\nb", 99), "````\na\n```\nb\n````\n");
        assert_eq!(block("", 99), "```\n\n```\n");
    }

    #[test]
    fn cells_hold_nothing_to_interpret() {
        assert_eq!(
            cell("a|b\n<b>*x*@me [l](u) https://e", 99),
            "a&#124;b⏎&#60;b&#62;&#42;x&#42;&#64;me &#91;l&#93;(u) https&#58;//e"
        );
        assert_eq!(cell("tolerances.Q8_0 _x_", 99), "tolerances.Q8_0 &#95;x&#95;");
        assert_eq!(name("parity/x@label/apr-int8", 99), "`parity/x@label/apr-int8`");
        assert_eq!(name("a|b", 99), "a&#124;b");
    }
}
