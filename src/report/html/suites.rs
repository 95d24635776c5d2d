//! Every case in a table of its suite: those that did not pass in sight, those that passed folded.

use super::super::text::{headroom, interval, limit, number, seconds, value};
use super::super::verdict::{Counts, failures, message};
use super::case::{anchor, badge};
use super::element::{Element, el};
use super::room::Room;
use super::{left_out, place, section};
use crate::record::{CaseRecord, RunRecord, Verdict};
use std::collections::HashSet;

/// The section with all suites; none for a run without cases.
pub(super) fn sections(record: &RunRecord, room: Room) -> Option<Element> {
    let names = names(record);
    if names.is_empty() {
        return None;
    }
    // Only these have an article to link to.
    let described: HashSet<usize> =
        failures(record).iter().take(room.cases).map(|case| place(record, case)).collect();
    let mut all = section("suites", "All cases, by suite");
    let mut rows_left = room.rows;
    for suite in names.iter().take(room.suites) {
        let of_suite = record.cases.iter().enumerate().filter(|(_, c)| c.suite == *suite);
        let cases: Vec<(usize, &CaseRecord)> = of_suite.collect();
        let (passed, other): (Vec<_>, Vec<_>) = cases.iter().partition(|(_, c)| c.verdict == Verdict::Pass);
        let words = Counts::of(cases.iter().map(|(_, c)| *c)).in_words();
        all = all.put(el("h3").text(room.line(suite)).text(" ").put(el("span").class("note").text(&words)));
        for (rows, folded) in [(other, false), (passed, true)] {
            let shown = rows.len().min(rows_left);
            rows_left -= shown;
            if shown > 0 {
                let caption =
                    format!("{}: {}", room.line(suite), if folded { "passed" } else { "not passed" });
                let table = table(&rows[..shown], &caption, &described, room);
                let noun = if rows.len() == 1 { "case" } else { "cases" };
                let summary = || el("summary").text(format!("{} {noun} passed", rows.len()));
                all = all.put(if folded { el("details").put(summary()).put(table) } else { table });
            }
            all = all.put_all(left_out(rows.len(), shown, "rows"));
        }
    }
    Some(all.put_all(left_out(names.len(), room.suites, "suites")))
}

/// The suites in the order in which they come.
pub(super) fn names(record: &RunRecord) -> Vec<&str> {
    let mut seen = HashSet::new();
    record.cases.iter().map(|c| c.suite.as_str()).filter(|suite| seen.insert(*suite)).collect()
}

const HEADS: [(&str, &str); 9] = [
    ("verdict", "l"),
    ("case", "l"),
    ("metric", "l"),
    ("value", "n"),
    ("limit", "n"),
    ("headroom", "n"),
    ("floor", "n"),
    ("n", "n"),
    ("time", "n"),
];

fn table(cases: &[(usize, &CaseRecord)], caption: &str, described: &HashSet<usize>, room: Room) -> Element {
    let heads = HEADS.map(|(head, class)| el("th").at("scope", "col").class(class).text(head));
    let rows = cases.iter().map(|(n, case)| row(*n, case, described.contains(n), room));
    let table = el("table").class("cards cases").put(el("caption").class("unseen").text(caption));
    table.put(el("thead").put(el("tr").put_all(heads))).put(el("tbody").put_all(rows))
}

fn row(n: usize, case: &CaseRecord, linked: bool, room: Room) -> Element {
    // The id without suite and gate, which the heading and another column say.
    let place = case.id.splitn(3, '/').nth(2).unwrap_or(&case.id);
    let gate = room.line(case.id.split('/').nth(1).unwrap_or(&case.gate));
    let gate = el("span").class("gate").text(gate);
    let name = el("code").text(room.line(place));
    let name = if linked { el("a").at("href", format!("#{}", anchor(n))).put(name) } else { name };
    let cell = |at: usize| el("td").at("data-label", HEADS[at].0).class(HEADS[at].1);
    let told = |at: usize, text: Option<String>| cell(at).text(text.unwrap_or_else(|| "–".to_owned()));
    let row = el("tr")
        .put(cell(0).put(badge(case)))
        .put(el("th").at("scope", "row").at("data-label", HEADS[1].0).put(el("div").put(gate).put(name)));
    let Some(m) = case.measurements.first() else {
        let why =
            el("td").class("why").at("data-label", "why").at("colspan", "6").text(room.line(message(case)));
        return row.put(why).put(cell(8).text(seconds(case.seconds)));
    };
    let mut measured = cell(3).put(el("span").text(room.line(&value(m))));
    if let Some(interval) = interval(m) {
        measured = measured
            .text(" ")
            .put(el("span").class("note").text(format!("[{}]", interval.replace(" to ", ", "))));
    }
    let mut bound = cell(4);
    match &m.limit {
        Some(l) => {
            let source = el("span").class("note source").text(room.line(&l.source));
            bound = bound.put(el("span").text(limit(l))).text(" ").put(source);
        }
        None => bound = bound.text("–"),
    }
    row.put(cell(2).put(el("code").text(room.line(&m.metric))))
        .put(measured)
        .put(bound)
        .put(told(5, headroom(m)))
        .put(told(6, m.floor.map(number)))
        .put(told(7, Some(m.n.to_string())))
        .put(told(8, Some(seconds(case.seconds))))
}
