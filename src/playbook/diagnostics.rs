//! Complaints about a playbook, all at once, each with its line, a caret and what to write instead.

use super::located::At;
use super::source::Source;
use super::suggest;
use crate::error::{Error, Kind};
use serde::Serialize;
use std::fmt;

/// One complaint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Where; line 0 for the file as a whole.
    pub at: At,
    /// What is wrong: a fragment in lower case without a period.
    pub message: String,
    /// What to do now, if there is something.
    pub hint: Option<String>,
}

/// At least one complaint about one playbook, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    source: Source,
    items: Vec<Diagnostic>,
}

/// Gathers complaints; [`Gather::finish`] decides.
pub(super) struct Gather {
    source: Source,
    items: Vec<Diagnostic>,
}

impl Diagnostics {
    /// A single complaint.
    pub(super) fn one(source: &Source, at: At, message: impl Into<String>, hint: Option<String>) -> Self {
        let item = Diagnostic { at, message: message.into(), hint };
        Diagnostics { source: source.clone(), items: vec![item] }
    }

    /// How many complaints there are; never 0.
    pub fn count(&self) -> usize {
        self.items.len()
    }

    /// The complaints, in the order of their lines.
    pub fn items(&self) -> &[Diagnostic] {
        &self.items
    }

    /// The playbook's name as it is shown.
    pub fn file(&self) -> &str {
        self.source.file()
    }
}

impl Gather {
    pub(super) fn new(source: &Source) -> Self {
        Gather { source: source.clone(), items: Vec::new() }
    }

    pub(super) fn add(&mut self, at: At, message: impl Into<String>, hint: Option<String>) {
        self.items.push(Diagnostic { at, message: message.into(), hint });
    }

    /// What to say of a `name` that is none of `known`: searched for as many complaints as are shown, since a search
    /// costs the square of what a playbook holds.
    pub(super) fn suggest(&self, name: &str, known: &[&str]) -> Option<String> {
        if self.items.len() < MOST_SHOWN { suggest::hint(name, known) } else { None }
    }

    pub(super) fn finish<T>(mut self, value: T) -> Result<T, Diagnostics> {
        if self.items.is_empty() {
            return Ok(value);
        }
        self.items.sort_by_key(|d| d.at);
        self.items.dedup();
        Err(Diagnostics { source: self.source, items: self.items })
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for item in self.items.iter().take(MOST_SHOWN) {
            item.show(&self.source, f)?;
            f.write_str("\n")?;
        }
        let count = self.items.len();
        if count > MOST_SHOWN {
            writeln!(f, "({} more not shown)", count - MOST_SHOWN)?;
        }
        let noun = if count == 1 { "error" } else { "errors" };
        write!(f, "{count} {noun} in {}; nothing was run", printable(self.source.file()))
    }
}

impl std::error::Error for Diagnostics {}

/// Nothing is lost: the error's text holds every complaint with its line.
impl From<Diagnostics> for Error {
    fn from(diagnostics: Diagnostics) -> Error {
        let what = format!("not a valid playbook\n\n{diagnostics}");
        Error::new(Kind::Usage, printable(diagnostics.source.file()), what)
    }
}

impl Diagnostic {
    /// As a compiler would: the message, the place, the line with a caret under it, the hint.
    fn show(&self, source: &Source, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", printable(&self.message))?;
        let file = printable(source.file());
        if self.at.line == 0 {
            writeln!(f, "  --> {file}")?;
        } else {
            let (text, offset, width) = excerpt(source.line(self.at.line), self.at.column);
            let number = self.at.line.to_string();
            let margin = " ".repeat(number.len());
            writeln!(f, "{margin}--> {file}:{}:{}", self.at.line, self.at.column)?;
            writeln!(f, "{margin} |")?;
            writeln!(f, "{number} | {text}")?;
            writeln!(f, "{margin} | {}{}", " ".repeat(offset), "^".repeat(width))?;
        }
        if let Some(hint) = &self.hint {
            writeln!(f, "  help: {}", printable(hint))?;
        }
        Ok(())
    }
}

/// More are counted, not shown.
const MOST_SHOWN: usize = 50;
/// Widest excerpt of a line, in characters.
const WIDEST: usize = 120;

/// The part of `line` around `column`, where the caret begins in it, and how wide it is: the token there.
fn excerpt(line: &str, column: u32) -> (String, usize, usize) {
    let chars: Vec<char> = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let caret = (column as usize).saturating_sub(1).min(chars.len());
    let start = if caret + 40 > WIDEST { caret - 40 } else { 0 };
    let end = chars.len().min(start + WIDEST);
    let width = token_width(&chars[caret..end]);
    let mut text: String = chars[start..end].iter().collect();
    let mut offset = caret - start;
    if start > 0 {
        text.insert(0, '…');
        offset += 1;
    }
    if end < chars.len() {
        text.push('…');
    }
    (text, offset, width)
}

/// How many characters the token at the start of `rest` takes, at least one.
fn token_width(rest: &[char]) -> usize {
    let quote = rest.first().copied().filter(|c| *c == '"' || *c == '\'');
    let end = match quote {
        Some(q) => rest.iter().skip(1).position(|c| *c == q).map(|p| p + 2),
        None => rest.iter().position(|c| c.is_whitespace() || matches!(c, ',' | ':' | ']' | '}')),
    };
    end.unwrap_or(rest.len()).max(1)
}

/// `text` on one line, control characters replaced and no longer than a reader bears.
fn printable(text: &str) -> String {
    const LONGEST: usize = 400;
    let shown: String =
        text.chars().take(LONGEST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() { shown + "…" } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32, column: u32) -> At {
        At { line, column }
    }

    #[test]
    fn shows_the_line_and_the_token() {
        let source = Source::new("p.yaml", "a: 1\ngates: [one, tow]\n");
        let shown =
            Diagnostics::one(&source, at(2, 14), "unknown gate `tow`", Some("did you mean `two`?".into()));
        let expected = "error: unknown gate `tow`\n --> p.yaml:2:14\n  |\n2 | gates: [one, tow]\n  |              ^^^\n  help: did you mean `two`?\n\n1 error in p.yaml; nothing was run";
        assert_eq!(shown.to_string(), expected);
    }

    #[test]
    fn survives_any_place_and_any_line() {
        let long = "x".repeat(10_000);
        let source = Source::new("p\u{1b}[31m.yaml", &format!("é\u{1b}\u{7}\n{long}\n"));
        for place in [at(0, 0), at(1, 1), at(1, 900), at(2, 1), at(2, 5000), at(2, u32::MAX), at(u32::MAX, 3)]
        {
            let shown = Diagnostics::one(&source, place, "m\u{1b}", None).to_string();
            assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
            assert!(shown.lines().all(|l| l.chars().count() < 200), "{place:?}");
        }
    }

    #[test]
    fn counts_what_it_does_not_show() {
        let mut gather = Gather::new(&Source::new("p.yaml", "a\n"));
        for column in 1..=60 {
            gather.add(at(1, column), "wrong", None);
        }
        let all = gather.finish(()).expect_err("60 complaints");
        assert_eq!(all.count(), 60);
        assert!(all.to_string().contains("(10 more not shown)\n60 errors in p.yaml"));
        let text = all.to_string();
        let error = Error::from(all);
        assert_eq!(
            (error.kind, error.to_string()),
            (Kind::Usage, format!("p.yaml: not a valid playbook\n\n{text}"))
        );
    }
}
