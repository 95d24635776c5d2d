//! Each number of a case with its interval, limit, headroom, noise floor and source, and all of them on an axis.

use super::super::text::{headroom, interval, limit, number, value};
use super::charts::range;
use super::element::{Element, el};
use super::left_out;
use super::room::Room;
use crate::record::Measurement;

/// The table of measurements with their drawings; none without any. `id` is unique in the page.
pub(super) fn table(measurements: &[Measurement], id: &str, room: Room) -> Option<Element> {
    if measurements.is_empty() {
        return None;
    }
    let shown = &measurements[..measurements.len().min(room.each)];
    let heads = HEADS.map(|(head, class)| el("th").at("scope", "col").class(class).text(head));
    let rows = shown.iter().map(|m| row(m, room));
    let table = el("table").class("cards numbers").put(el("caption").text("Measured, and held against"));
    let table = table.put(el("thead").put(el("tr").put_all(heads))).put(el("tbody").put_all(rows));
    let drawings = shown.iter().enumerate().filter(|_| room.points > 0).filter_map(|(n, m)| {
        let caption = el("figcaption").put(el("code").text(room.line(&m.metric)));
        Some(el("figure").put(caption).put(range(m, &format!("{id}-m{n}"))?))
    });
    let drawings = el("div").class("ranges").put_all(drawings);
    let drawings = Some(drawings).filter(|d| !d.is_empty());
    let more = left_out(measurements.len(), room.each, "measurements");
    Some(el("div").put(table).put_all(how(shown, room)).put_all(more).put_all(drawings))
}

/// Columns and whether they hold numbers.
const HEADS: [(&str, &str); 8] = [
    ("metric", "l"),
    ("value", "n strong"),
    ("interval", "n"),
    ("limit", "n"),
    ("headroom", "n"),
    ("noise floor", "n"),
    ("n", "n"),
    ("source of the limit", "l"),
];

fn row(m: &Measurement, room: Room) -> Element {
    let cell = |n: usize, text: Option<String>| {
        let cell = el("td").at("data-label", HEADS[n].0).class(HEADS[n].1);
        match text {
            Some(text) => cell.text(text),
            None => cell.put(el("span").class("w").text("–")),
        }
    };
    el("tr")
        .put(
            el("th")
                .at("scope", "row")
                .at("data-label", HEADS[0].0)
                .put(el("code").text(room.line(&m.metric))),
        )
        .put(cell(1, Some(room.line(&value(m)))))
        .put(cell(2, interval(m)))
        .put(cell(3, m.limit.as_ref().map(limit)))
        .put(cell(4, headroom(m)))
        .put(cell(5, m.floor.map(number)))
        .put(cell(6, Some(m.n.to_string())))
        .put(cell(7, m.limit.as_ref().map(|l| room.line(&l.source))))
}

/// How the intervals were made, each way once.
fn how(measurements: &[Measurement], room: Room) -> Option<Element> {
    let mut ways: Vec<String> = Vec::new();
    for i in measurements.iter().filter_map(|m| m.interval.as_ref()) {
        let way = format!("{} % interval: {}", number(i.level * 100.0), room.line(&i.method));
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    let judged = "Headroom is that of the worse end of the interval, in percent of the limit.";
    (!ways.is_empty()).then(|| el("p").class("note").text(format!("{}. {judged}", ways.join("; "))))
}
