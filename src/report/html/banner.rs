//! The first screen: the verdict, the counts, what failed first and why, and on what it was run.

use super::super::text::{headroom_percent, number, one_line, seconds};
use super::super::verdict::{Counts, failures, meaning, message, outcome};
use super::case::{anchor, badge, cause_in_words, likely_cause};
use super::charts::range;
use super::element::{Element, el};
use super::place;
use super::room::Room;
use crate::record::{CaseRecord, Measurement, RunRecord, Verdict};

/// The header of the page.
pub(super) fn banner(record: &RunRecord, room: Room) -> Element {
    let word = outcome(record);
    let counts = Counts::of(&record.cases);
    let title = el("h1").put(el("span").class("word").text(word.to_uppercase())).text(" ");
    let title = title.put(el("span").class("of").text(room.line(&record.playbook)));
    let tone = match word {
        "pass" => "pass",
        "inconclusive" | "nothing" | "interrupted" => "inconclusive",
        _ => "fail",
    };
    let gist =
        el("div").class("gist").put(title).put(says(record, &counts, room)).put(run(record, &counts, room));
    let second = match failures(record).first() {
        Some(case) => Some(first_failure(record, case, room)),
        None => closest(record, room),
    };
    let screen = el("div").class("screen").put_all(second).put(summary_of_provenance(record, room));
    let header = el("header").class(&format!("banner {tone}")).put(gist.put(tiles(&counts, record.not_run)));
    header.put(screen).put_all(overview(record, room)).put(contents(record))
}

fn says(record: &RunRecord, counts: &Counts, room: Room) -> Element {
    let mut text = format!("Exit code {}. {}", record.exit_code, meaning(record));
    if let Some(signal) = &record.interrupted {
        text.push_str(&format!(" Interrupted: {}.", room.line(signal)));
    }
    if record.not_run > 0 {
        text.push_str(&format!(" {} planned cases did not run.", record.not_run));
    }
    if counts.expected_failures > 0 {
        let verb =
            if counts.expected_failures == 1 { "is an expected failure" } else { "are expected failures" };
        text.push_str(&format!(" Of the passed, {} {verb}.", counts.expected_failures));
    }
    el("p").class("says").text(text)
}

fn run(record: &RunRecord, counts: &Counts, room: Room) -> Element {
    let noun = if counts.total() == 1 { "case" } else { "cases" };
    let after = format!(" in {}, started {}.", seconds(record.seconds), room.line(&record.started_at));
    let text = el("p").class("note").text(format!("{} {noun} of ", counts.total()));
    text.put(el("code").text(room.line(&record.file))).text(after)
}

/// A tile for each count that is not zero, and the passed always.
fn tiles(counts: &Counts, not_run: u64) -> Element {
    let all = [
        ("pass", "passed", counts.passed as u64),
        ("fail", "failed", counts.failed as u64),
        ("error", "errors", counts.errors as u64),
        ("inconclusive", "inconclusive", counts.inconclusive as u64),
        ("skip", "skipped", counts.skipped as u64),
        ("skip", "not run", not_run),
    ];
    let tiles = all.into_iter().map(|(class, what, n)| {
        let class = if n == 0 { "tile zero".to_owned() } else { format!("tile {class}") };
        el("div").class(&class).put(el("dt").text(what)).put(el("dd").text(n.to_string()))
    });
    el("dl").class("tiles").put_all(tiles)
}

/// The first of the worst: case, cause, tensor, and what was measured against which limit.
fn first_failure(record: &RunRecord, case: &CaseRecord, room: Room) -> Element {
    let what = match case.verdict {
        Verdict::Fail { .. } => "First to fail",
        Verdict::Error { .. } => "First error",
        Verdict::Inconclusive { .. } => "First inconclusive",
        Verdict::Pass | Verdict::Skip { .. } => "First",
    };
    let link = el("a").at("href", format!("#{}", anchor(place(record, case))));
    let mut card = el("section").class("card first").at("aria-label", what).put(el("h2").text(what));
    card = card.put(el("p").put(link.put(el("code").text(room.line(&case.id)))));
    let deciding = case.measurements.first().filter(|m| m.limit.is_some());
    let found = likely_cause(case).map(|(finding, cause)| (finding, Some(cause)));
    match found.or_else(|| case.findings.first().map(|f| (f, None))) {
        Some((finding, cause)) => {
            let mut text = el("p").class("cause");
            if let Some(cause) = cause {
                text = text.put(el("strong").text(cause_in_words(cause, room))).text(" in ");
            }
            text = text.put(el("code").text(room.line(&finding.subject)));
            card = card.put(text.text(format!(": {}", room.line(&finding.detail))));
        }
        None => {
            card = card.put(el("p").class("cause").text(room.line(message(case))));
            // The message of a gate says already what was measured.
            return card.put_all(deciding.and_then(|m| drawing(m, "first", room)));
        }
    }
    card.put_all(deciding.map(|m| measured(m, "first", room)))
}

/// Where everything passed: the number that came closest to its limit.
fn closest(record: &RunRecord, room: Room) -> Option<Element> {
    let passed = record.cases.iter().filter(|c| c.verdict == Verdict::Pass && c.expected_failure.is_none());
    let numbers = passed.flat_map(|c| c.measurements.iter().map(move |m| (c, m)));
    // Without headroom at all are counts that say that everything was looked at, not how well it did.
    let held =
        numbers.filter_map(|(c, m)| Some((headroom_percent(m).filter(|percent| *percent > 0.0)?, c, m)));
    let (_, case, m) = held.reduce(|a, b| if b.0 < a.0 { b } else { a })?;
    let card = el("section").class("card first").at("aria-label", "closest to its limit");
    let card = card
        .put(el("h2").text("Closest to its limit"))
        .put(el("p").put(el("code").text(room.line(&case.id))));
    Some(card.put(measured(m, "closest", room)))
}

fn measured(m: &Measurement, id: &str, room: Room) -> Element {
    let text = el("p").text(room.line(&super::super::text::measured(m)));
    el("div").put(text).put_all(drawing(m, id, room))
}

fn drawing(m: &Measurement, id: &str, room: Room) -> Option<Element> {
    range(m, id).filter(|_| room.points > 0)
}

/// Rows of provenance on the first screen.
const MOST_PROVENANCE: usize = 6;
/// What a reviewer asks first, by how its name begins.
const ASKED_FIRST: [&str; 8] =
    ["apr-qa-runner", "playbook", "threads", "seed", "adapter", "cpu", "model", "artifact"];

fn summary_of_provenance(record: &RunRecord, room: Room) -> Element {
    let rank = |what: &str| ASKED_FIRST.iter().position(|p| what.starts_with(p)).unwrap_or(ASKED_FIRST.len());
    let mut rows: Vec<(&String, &String)> = record.provenance.iter().collect();
    rows.sort_by_key(|(what, _)| rank(what));
    let shown = rows.iter().take(MOST_PROVENANCE).map(|(what, value)| {
        let value = el("dd").put(el("code").text(shortened(&room.line(value))));
        el("div").put(el("dt").text(room.line(what))).put(value)
    });
    let card = el("section").class("card").at("aria-label", "run on").put(el("h2").text("Run on"));
    let card = card.put(el("dl").class("run").put_all(shown));
    let more = rows.len().saturating_sub(MOST_PROVENANCE);
    let link = || el("a").at("href", "#provenance").text(format!("and {more} more"));
    card.put_all((more > 0).then(|| el("p").class("note").put(link())))
}

/// A digest by its beginning; it stands whole under Provenance.
fn shortened(value: &str) -> String {
    let digest = value.len() >= 32 && value.bytes().all(|b| b.is_ascii_hexdigit());
    if digest { format!("{}…", &value[..16]) } else { value.to_owned() }
}

/// Rows of failures on the first screen.
const MOST_FAILURES: usize = 12;

/// Everything that did not pass in one table, worst first, each row leading to its case.
fn overview(record: &RunRecord, room: Room) -> Option<Element> {
    let failed = failures(record);
    if failed.len() < 2 {
        return None;
    }
    let heads = HEADS.map(|(head, class)| el("th").at("scope", "col").class(class).text(head));
    let most = MOST_FAILURES.min(room.cases);
    let rows = failed.iter().take(most).map(|case| overview_row(record, case, room));
    let table = el("table").class("cards").put(el("caption").text("What did not pass, worst first"));
    let table = table.put(el("thead").put(el("tr").put_all(heads))).put(el("tbody").put_all(rows));
    let more = failed.len().saturating_sub(most);
    let rest = || el("p").class("omitted").text(format!("and {more} more below"));
    Some(el("div").class("overview").put(table).put_all((more > 0).then(rest)))
}

const HEADS: [(&str, &str); 6] = [
    ("verdict", "l"),
    ("case", "l"),
    ("value", "n"),
    ("limit", "n"),
    ("headroom", "n"),
    ("likely cause", "l"),
];

fn overview_row(record: &RunRecord, case: &CaseRecord, room: Room) -> Element {
    use super::super::text::{headroom, limit, value};
    let cell = |n: usize, text: Option<String>| {
        let cell = el("td").at("data-label", HEADS[n].0).class(HEADS[n].1);
        cell.text(text.unwrap_or_else(|| "–".to_owned()))
    };
    let link = el("a").at("href", format!("#{}", anchor(place(record, case))));
    let m = case.measurements.first();
    let cause = likely_cause(case)
        .map(|(finding, cause)| format!("{}: {}", cause_in_words(cause, room), room.line(&finding.subject)));
    el("tr")
        .put(el("td").at("data-label", HEADS[0].0).put(badge(case)))
        .put(
            el("th")
                .at("scope", "row")
                .at("data-label", HEADS[1].0)
                .put(link.put(el("code").text(room.line(&case.id)))),
        )
        .put(cell(2, m.map(|m| room.line(&value(m)))))
        .put(cell(3, m.and_then(|m| m.limit.as_ref()).map(limit)))
        .put(cell(4, m.and_then(headroom)))
        .put(cell(5, cause.or_else(|| case.findings.first().map(|f| room.line(&f.subject)))))
}

/// Links to the sections that there are.
fn contents(record: &RunRecord) -> Element {
    let suites = super::suites::names(record).len();
    let failed = failures(record).len();
    let links = [
        (failed > 0).then(|| ("#failures", format!("What did not pass ({})", number(failed as f64)))),
        (suites > 0).then(|| ("#suites", format!("All cases by suite ({suites})"))),
        (!record.provenance.is_empty()).then(|| ("#provenance", "Provenance".to_owned())),
    ];
    let links = links
        .into_iter()
        .flatten()
        .map(|(to, text)| el("li").put(el("a").at("href", to).text(one_line(&text))));
    el("nav").at("aria-label", "sections").put(el("ul").put_all(links))
}
