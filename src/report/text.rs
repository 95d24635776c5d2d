//! Text that others wrote (models, files, programs) made fit to show, and numbers made fit to read.

use crate::record::{Finding, Limit, LimitOp, Measurement};

/// `text` without terminal escapes and without characters that hide, reorder or end something: control
/// characters (newline and tab stay), bidirectional overrides, and what XML 1.0 forbids. What is taken out is
/// shown as `\u{…}`, except escape sequences, which are dropped.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' | '\u{9b}' => skip_escape(c, &mut chars),
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' | '\t' => out.push(c),
            c if c.is_control() || hides(c) => out.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

/// [`plain`] on one line: line ends and tabs become visible.
pub(super) fn one_line(text: &str) -> String {
    plain(text).replace('\n', "⏎").replace('\t', " ")
}

/// `text` in at most `limit` bytes; what is missing is said at the end.
pub(super) fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    // Room for the note, whose number has at most 20 digits.
    let mut end = limit.saturating_sub(40);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let note = format!("… ({} bytes omitted)", text.len() - end);
    let cut = format!("{}{note}", &text[..end]);
    if cut.len() <= limit { cut } else { String::new() }
}

/// A number with at most six significant digits, exact where it is whole.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return value.to_string();
    }
    if value.fract() == 0.0 && size < 1e15 {
        return format!("{value:.0}");
    }
    if !(1e-4..1e9).contains(&size) {
        return format!("{value:.3e}");
    }
    // Digits before the point count too; size is below 1e9, so this is in 0..=9.
    let before = size.log10().floor().max(-4.0) as i32 + 1;
    let decimals = (6 - before).clamp(0, 9) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A value with its unit.
pub(super) fn value(m: &Measurement) -> String {
    if m.unit.is_empty() { number(m.value) } else { format!("{} {}", number(m.value), one_line(&m.unit)) }
}

/// A limit as it is read: `≤ 3`.
pub(super) fn limit(limit: &Limit) -> String {
    format!("{} {}", sign(limit.op), number(limit.value))
}

/// The ends of the interval: `0.0377 to 0.0451`.
pub(super) fn interval(m: &Measurement) -> Option<String> {
    m.interval.as_ref().map(|i| format!("{} to {}", number(i.low), number(i.high)))
}

/// How far what is judged is from breaking its limit, negative where it does: absolute, and in percent of the
/// limit. Judged is the value, or the end of its interval that is nearer to breaking the limit.
pub(super) fn headroom(m: &Measurement) -> Option<String> {
    let room = room(m)?;
    let signed = if room > 0.0 { format!("+{}", number(room)) } else { number(room) };
    Some(match headroom_percent(m) {
        Some(percent) if percent < -999.0 => format!("{signed} (< -999 %)"),
        Some(percent) if percent > 999.0 => format!("{signed} (> 999 %)"),
        Some(percent) => format!("{signed} ({percent:.0} %)"),
        None => signed,
    })
}

/// The headroom in percent of the limit; none where the limit is zero or has no sides.
pub(super) fn headroom_percent(m: &Measurement) -> Option<f64> {
    let limit = m.limit.as_ref().filter(|l| l.value != 0.0 && l.op != LimitOp::Equal)?;
    Some(100.0 * room(m)? / limit.value.abs()).filter(|percent| percent.is_finite())
}

fn room(m: &Measurement) -> Option<f64> {
    let limit = m.limit.as_ref()?;
    let (low, high) = m.interval.as_ref().map_or((m.value, m.value), |i| (i.low, i.high));
    let room = match limit.op {
        LimitOp::AtMost | LimitOp::Below => limit.value - high,
        LimitOp::AtLeast => low - limit.value,
        // 0 less the distance, so that no distance is 0 and not -0.
        LimitOp::Equal => 0.0 - (low - limit.value).abs().max((high - limit.value).abs()),
    };
    room.is_finite().then_some(room)
}

/// `measured mismatches 7 tokens (n 32), limit ≤ 5 (source playbooks/ci.yaml:41)`; with an interval
/// `measured kl_mean 0.0412 nats [0.0377, 0.0451] (n 2048), …, noise floor 0.0003`.
pub(super) fn measured(m: &Measurement) -> String {
    let mut line = format!("measured {} {}", one_line(&m.metric), value(m));
    if let Some(i) = &m.interval {
        line.push_str(&format!(" [{}, {}]", number(i.low), number(i.high)));
    }
    line.push_str(&format!(" (n {})", m.n));
    if let Some(l) = &m.limit {
        line.push_str(&format!(", limit {} (source {})", limit(l), one_line(&l.source)));
    }
    if let Some(floor) = m.floor {
        line.push_str(&format!(", noise floor {}", number(floor)));
    }
    line
}

/// `7.down_proj.weight: SQNR 11.2 dB, expected 19.8; likely cause: rows-permuted`, on one line.
pub(super) fn found(f: &Finding) -> String {
    let cause = f.cause.as_deref().map(|cause| format!("; likely cause: {cause}")).unwrap_or_default();
    one_line(&format!("{}: {}{cause}", f.subject, f.detail))
}

/// Seconds for people.
pub(super) fn seconds(s: f64) -> String {
    match s {
        s if s < 0.0005 => "0 s".to_owned(),
        s if s < 10.0 => format!("{s:.3} s"),
        s if s < 120.0 => format!("{s:.1} s"),
        s => format!("{:.0} min {:.0} s", (s / 60.0).floor(), (s % 60.0).floor()),
    }
}

fn sign(op: LimitOp) -> &'static str {
    match op {
        LimitOp::AtMost => "≤",
        LimitOp::Below => "<",
        LimitOp::AtLeast => "≥",
        LimitOp::Equal => "=",
    }
}

/// Drops a CSI sequence up to its final byte, an OSC and its kin up to their terminator, else one character.
fn skip_escape(first: char, chars: &mut std::iter::Peekable<std::str::Chars>) {
    let kind = if first == '\u{9b}' { Some('[') } else { chars.next_if(|c| !c.is_control()) };
    match kind {
        Some('[') => while chars.next_if(|c| matches!(c, '\u{20}'..='\u{3f}')).is_some() {},
        Some(']' | 'P' | 'X' | '^' | '_') => {
            // An unterminated one must not swallow the rest of the text: a line is the most it can take.
            while chars.next_if(|c| !matches!(c, '\u{7}' | '\u{1b}' | '\n')).is_some() {}
            if chars.next_if_eq(&'\u{1b}').is_some() {
                chars.next_if_eq(&'\\');
            } else {
                chars.next_if_eq(&'\u{7}');
            }
            return;
        }
        Some(_) | None => return,
    }
    chars.next_if(|c| matches!(c, '\u{40}'..='\u{7e}'));
}

/// Invisible characters that reorder text or are not characters at all.
fn hides(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}'
        | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Interval;

    fn of(op: LimitOp, value: f64, bound: f64) -> Measurement {
        let limit = Some(Limit { op, value: bound, source: "p.yaml:1".into() });
        Measurement {
            metric: "m".into(),
            value,
            unit: String::new(),
            n: 32,
            limit,
            interval: None,
            floor: None,
        }
    }

    fn between(op: LimitOp, low: f64, high: f64, bound: f64) -> Measurement {
        let interval = Some(Interval { low, high, level: 0.95, method: "bootstrap".into() });
        Measurement { interval, floor: Some(0.01), ..of(op, f64::midpoint(low, high), bound) }
    }

    #[test]
    fn nothing_hidden_survives() {
        let rows = [
            ("a\u{1b}[31;1mred\u{1b}[0mb", "aredb"),
            ("\u{9b}2Jx", "x"),
            ("\u{1b}]0;title\u{7}x\u{1b}]8;;http://e\u{1b}\\y", "xy"),
            ("\u{1b}]never ends\nnext", "\nnext"),
            ("\u{1b}", ""),
            ("a\u{0}b\u{8}c\u{7f}", "a\\u{0}b\\u{8}c\\u{7f}"),
            ("a\u{202e}b\u{feff}", "a\\u{202e}b\\u{feff}"),
            ("a\r\nb\rc\td", "a\nb\\u{d}c\td"),
            ("\u{ffff}é日本\u{1f600}", "\\u{ffff}é日本\u{1f600}"),
        ];
        for (text, expected) in rows {
            assert_eq!(plain(text), expected, "{text:?}");
        }
        assert_eq!(one_line("a\nb\tc"), "a⏎b c");
    }

    #[test]
    fn a_cut_is_honest_and_short_enough() {
        let text = "é".repeat(1000);
        for limit in [0, 10, 41, 100, 1999, 2000, 5000] {
            let cut = cut(&text, limit);
            assert!(cut.len() <= limit, "{limit}");
            assert_eq!(cut.contains("omitted"), (41..2000).contains(&limit), "{limit}: {cut}");
        }
        assert!(cut(&text, 100).ends_with("… (1940 bytes omitted)"));
    }

    #[test]
    fn numbers_are_short_and_true() {
        let rows = [
            (0.0, "0"),
            (-0.0, "-0"),
            (3.0, "3"),
            (32.5, "32.5"),
            (8.123456789, "8.12346"),
            (0.1, "0.1"),
            (123456.789, "123457"),
            (0.00012345, "0.00012345"),
            (1.5e-7, "1.500e-7"),
            (2.5e12 + 0.5, "2.500e12"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "inf"),
            (-1.25, "-1.25"),
            (1234567.0, "1234567"),
        ];
        for (n, expected) in rows {
            assert_eq!(number(n), expected);
        }
    }

    #[test]
    fn with_an_interval_its_worse_end_is_judged() {
        use LimitOp::*;
        let rows = [
            (AtMost, 1.0, 2.0, 4.0, "+2 (50 %)"),
            (AtMost, 3.0, 5.0, 4.0, "-1 (-25 %)"),
            (AtLeast, 3.0, 5.0, 4.0, "-1 (-25 %)"),
            (AtLeast, 5.0, 9.0, 4.0, "+1 (25 %)"),
            (Equal, 3.0, 4.5, 4.0, "-1"),
        ];
        for (op, low, high, bound, expected) in rows {
            assert_eq!(headroom(&between(op, low, high, bound)).as_deref(), Some(expected), "{op:?}");
        }
        let m = between(AtMost, 1.0, 2.0, 4.0);
        let line = "measured m 1.5 [1, 2] (n 32), limit ≤ 4 (source p.yaml:1), noise floor 0.01";
        assert_eq!((measured(&m).as_str(), interval(&m).as_deref()), (line, Some("1 to 2")));
    }

    #[test]
    fn headroom_is_negative_exactly_where_the_limit_is_broken() {
        use LimitOp::*;
        let rows = [
            (AtMost, 1.0, 3.0, "+2 (67 %)"),
            (AtMost, 3.0, 3.0, "0 (0 %)"),
            (AtMost, 7.0, 5.0, "-2 (-40 %)"),
            (Below, 0.2, 0.5, "+0.3 (60 %)"),
            (AtLeast, 30.5, 20.0, "+10.5 (52 %)"),
            (AtMost, 0.0, 0.0, "0"),
            (Equal, 290.0, 291.0, "-1"),
            (AtLeast, 1.0, 2.0, "-1 (-50 %)"),
            (AtMost, 1.0, 1e-9, "-1 (< -999 %)"),
        ];
        for (op, value, bound, expected) in rows {
            assert_eq!(headroom(&of(op, value, bound)).as_deref(), Some(expected));
        }
        assert_eq!(headroom(&of(AtMost, f64::NAN, 1.0)), None);
        assert_eq!(measured(&of(AtMost, 7.0, 5.0)), "measured m 7 (n 32), limit ≤ 5 (source p.yaml:1)");
    }
}
