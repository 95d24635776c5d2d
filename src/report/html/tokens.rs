//! The most diverging tokens in their context, whitespace made visible.

use super::super::text::{cut, number, plain};
use super::element::{Element, el};
use super::left_out;
use super::room::Room;
use crate::record::Departure;

/// The table of departures, most diverging first as they come; none without any.
pub(super) fn table(departures: &[Departure], room: Room) -> Option<Element> {
    if departures.is_empty() {
        return None;
    }
    let heads = ["position", "context", "expected", "found", "KL, nats"]
        .map(|head| el("th").at("scope", "col").text(head));
    let rows = departures.iter().take(room.each).map(|d| row(d, room));
    let table = el("table").class("tokens").put(el("caption").text("Most diverging tokens in their context"));
    let table = table.put(el("thead").put(el("tr").put_all(heads))).put(el("tbody").put_all(rows));
    let legend =
        el("p").class("note").text("Visible whitespace: ").put(space("·")).text(" space, ").put(space("⏎"));
    let legend = legend.text(" line end, ").put(space("⇥")).text(" tab.");
    let more = left_out(departures.len(), room.each, "tokens");
    Some(el("div").put(table).put(legend).put_all(more))
}

fn row(d: &Departure, room: Room) -> Element {
    let cell = |label: &str| el("td").at("data-label", label);
    el("tr")
        .put(el("th").at("scope", "row").at("data-label", "position").text(d.position.to_string()))
        .put(cell("context").put(context(&d.context, room.text)))
        .put(cell("expected").put(token(&d.expected, room.text)))
        .put(cell("found").put(token(&d.found, room.text)))
        .put(cell("KL, nats").class("n").text(number(d.kl)))
}

/// A token: every space of it is seen.
fn token(text: &str, limit: usize) -> Element {
    shown(text, limit, |_, _| true).class("token")
}

/// Text before a token: single spaces between words stay, those that could be overlooked are seen.
fn context(text: &str, limit: usize) -> Element {
    shown(text, limit, |before, after| {
        let overlooked = |c: Option<char>| c.is_none_or(char::is_whitespace);
        overlooked(before) || overlooked(after)
    })
}

/// `text` with line ends and tabs as signs, and a space as a sign where `seen` says so of its neighbors.
fn shown(text: &str, limit: usize, seen: impl Fn(Option<char>, Option<char>) -> bool) -> Element {
    let mut code = el("code");
    if text.is_empty() {
        return code.put(el("span").class("w").text("nothing"));
    }
    let text: Vec<char> = cut(&plain(text), limit).chars().collect();
    let mut run = String::new();
    for (n, c) in text.iter().enumerate() {
        let before = n.checked_sub(1).and_then(|m| text.get(m)).copied();
        let sign = match c {
            '\n' => "⏎",
            '\t' => "⇥",
            ' ' if seen(before, text.get(n + 1).copied()) => "·",
            c if blank(*c) => {
                run.push_str(&format!("\\u{{{:x}}}", u32::from(*c)));
                continue;
            }
            c => {
                run.push(*c);
                continue;
            }
        };
        code = code.text(std::mem::take(&mut run)).put(space(sign));
    }
    code.text(run)
}

/// The sign for a character that shows nothing, told from a letter by its looks.
fn space(sign: &str) -> Element {
    el("span").class("w").text(sign)
}

/// Characters without a shape that `plain` leaves alone: other spaces, joiners, soft hyphens, selectors.
fn blank(c: char) -> bool {
    (c.is_whitespace() && c != ' ')
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whitespace_is_seen() {
        let w = |sign: &str| format!("<span class=\"w\">{sign}</span>");
        assert_eq!(token(" the", 99).to_string(), format!("<code class=\"token\">{}the</code>", w("·")));
        assert_eq!(
            token("\n\t", 99).to_string(),
            format!("<code class=\"token\">{}{}</code>", w("⏎"), w("⇥"))
        );
        assert_eq!(token("", 99).to_string(), format!("<code class=\"token\">{}</code>", w("nothing")));
        let dot = w("·");
        assert_eq!(context("a b  c ", 99).to_string(), format!("<code>a b{dot}{dot}c{dot}</code>"));
        assert_eq!(context("a\u{a0}b\u{200b}<", 99).to_string(), "<code>a\\u{a0}b\\u{200b}&lt;</code>");
    }
}
