//! Charts as inline SVG: a frame with axes, units and a spoken summary, and a drawing for each kind of chart.
//!
//! Nothing is told by color alone: what was measured is filled, what was expected is a dashed line, the worst value
//! has a mark and its name over it.

mod histogram;
mod line;
mod range;
mod scale;
mod strip;

pub(super) use range::range;

use super::super::chart::{expected, spoken, worst};
use super::super::text::{cut, number, one_line};
use super::element::{Element, el};
use super::room::Room;
use crate::record::{Chart, ChartKind};
use scale::Scale;

/// The chart with its caption; `id` is unique in the page. None for a chart without values.
pub(super) fn figure(chart: &Chart, id: &str, room: Room) -> Option<Element> {
    if chart.values.is_empty() || room.points == 0 {
        return None;
    }
    let drawing = match chart.kind {
        ChartKind::Strip => strip::draw(chart, room)?,
        ChartKind::Histogram => histogram::draw(chart, room)?,
        ChartKind::Line => line::draw(chart, room)?,
    };
    let title = cut(&one_line(&chart.title), room.text);
    let mut caption = el("figcaption").put(el("strong").text(&title)).text(" ");
    caption = caption.put(key("measured", "measured"));
    if (0..chart.values.len()).any(|n| expected(chart, n).is_some()) {
        caption = caption.put(key("expected", "expected"));
    }
    caption = caption.put(el("span").class("note").text(&drawing.note));
    let svg = svg(id, WIDTH, HEIGHT, &title, &drawing.note).class("chart").put_all(drawing.parts);
    let scroll = el("div").class("scroll").at("tabindex", "0").at("role", "group");
    Some(el("figure").put(caption).put(scroll.at("aria-label", &title).put(svg)))
}

/// Width of every chart; the page scales it to the width it has.
const WIDTH: f64 = 720.0;
/// Height of every chart.
const HEIGHT: f64 = 216.0;
/// The plot inside the frame: left, right, top, bottom.
const LEFT: f64 = 58.0;
const RIGHT: f64 = 710.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 170.0;
/// Width of a character of a label; those of most fonts are narrower.
const CHARACTER: f64 = 6.6;

/// What a kind of chart draws into the frame.
struct Drawing {
    parts: Vec<Element>,
    /// What the chart says, in words.
    note: String,
}

/// An image with its name and its description for those who do not see it.
fn svg(id: &str, width: f64, height: f64, title: &str, description: &str) -> Element {
    let (name, about) = (format!("{id}-t"), format!("{id}-d"));
    el("svg")
        .at("viewBox", format!("0 0 {width} {height}"))
        .at("role", "img")
        .at("aria-labelledby", format!("{name} {about}"))
        .put(el("title").at("id", &name).text(title))
        .put(el("desc").at("id", &about).text(description))
}

/// An entry of the legend.
fn key(class: &str, word: &str) -> Element {
    el("span").class("key").put(el("i").class(class)).text(word)
}

/// Grid lines with their values on the left, and what the axis measures above them.
fn y_axis(scale: &Scale, measures: &str) -> Vec<Element> {
    let mut parts = Vec::new();
    for tick in scale.ticks(5) {
        let y = scale.at(tick);
        parts.push(rule("grid", LEFT, y, RIGHT, y));
        parts.push(words(LEFT - 6.0, y + 3.5, "end", &number(tick)));
    }
    let log = if scale.is_log() { " (log scale)" } else { "" };
    parts.push(words(4.0, 12.0, "start", &format!("{measures}{log}")).class("unit"));
    parts
}

/// The labels under the plot: of layers where they name layers, else every so manieth. `centers` are their places.
fn x_axis(labels: &[&str], centers: &[f64], measures: &str) -> Vec<Element> {
    let mut parts = vec![rule("axis", LEFT, BOTTOM, RIGHT, BOTTOM)];
    let (named, measures) = match layers(labels) {
        Some(layers) => (layers, "layer"),
        None => {
            let named = labels.iter().enumerate().map(|(n, l)| (n, cut(&one_line(l), 60))).collect();
            (named, measures)
        }
    };
    let widest = named.iter().map(|(_, label)| width(label)).fold(0.0, f64::max) + 12.0;
    let room = (RIGHT - LEFT) / named.len().max(1) as f64;
    let stride = round_up((widest / room).ceil() as usize);
    for (n, label) in named.into_iter().step_by(stride) {
        let at = centers.get(n).copied().unwrap_or(LEFT).clamp(LEFT, RIGHT);
        parts.push(rule("axis", at, BOTTOM, at, BOTTOM + 4.0));
        parts.push(placed(at, BOTTOM + 17.0, &label));
    }
    parts.push(words(RIGHT, HEIGHT - 8.0, "end", measures).class("unit"));
    parts
}

/// The next of 1, 2, 5, 10, 20, 50, …: what people count in.
fn round_up(stride: usize) -> usize {
    let mut power = 1;
    loop {
        if let Some(nice) = [1, 2, 5].map(|m| m * power).into_iter().find(|nice| *nice >= stride) {
            return nice;
        }
        power *= 10;
    }
}

/// Where each layer begins and its number, if nearly all labels name one: `7`, `7.q_proj.weight`, `blk.7.attn_q`.
fn layers(labels: &[&str]) -> Option<Vec<(usize, String)>> {
    let layer = |label: &str| {
        let number = label.split(['.', ' ', '/']).find(|part| part.bytes().all(|b| b.is_ascii_digit()));
        number.filter(|n| !n.is_empty() && n.len() < 6).map(str::to_owned)
    };
    let mut starts: Vec<(usize, String)> = Vec::new();
    let mut named = 0;
    for (n, label) in labels.iter().enumerate() {
        // A label that is only a number or a measure, `0.01`, names no layer.
        let Some(layer) = layer(label).filter(|_| label.bytes().any(|b| b.is_ascii_alphabetic())) else {
            continue;
        };
        named += 1;
        if starts.last().is_none_or(|(_, last)| *last != layer) {
            starts.push((n, layer));
        }
    }
    // One start for each layer: names in another order than layers would give more.
    let mut distinct: Vec<&str> = starts.iter().map(|(_, layer)| layer.as_str()).collect();
    distinct.sort_unstable();
    distinct.dedup();
    (named * 5 >= labels.len() * 4 && distinct.len() == starts.len() && !starts.is_empty()).then_some(starts)
}

/// The mark on the worst value: a triangle above the plot, a dashed leader down to it, its name and numbers.
fn mark_worst(chart: &Chart, n: usize, x: f64, y: f64) -> Vec<Element> {
    let triangle = format!("M{:.1} {:.1}h8l-4 6z", x - 4.0, TOP - 9.0);
    vec![
        rule("leader", x, TOP - 3.0, x, y),
        el("path").class("mark").at("d", triangle),
        placed(x, TOP - 14.0, &cut(&one_line(&spoken(chart, n)), 90)).class("worst"),
    ]
}

/// The sentence on the worst value.
fn worst_in_words(chart: &Chart) -> String {
    worst(chart).map(|n| format!("Worst: {}.", cut(&one_line(&spoken(chart, n)), 200))).unwrap_or_default()
}

/// `each bar is the worst of about 5`, where not every value is drawn.
fn share_in_words(chart: &Chart, drawn: usize, thing: &str) -> String {
    let count = chart.values.len();
    if count <= drawn {
        return format!("{count} values. ");
    }
    format!("{count} values; each {thing} is the worst of about {:.0}. ", count as f64 / drawn as f64)
}

fn rule(class: &str, x1: f64, y1: f64, x2: f64, y2: f64) -> Element {
    el("line").class(class).len("x1", x1).len("y1", y1).len("x2", x2).len("y2", y2)
}

fn words(x: f64, y: f64, anchor: &str, text: &str) -> Element {
    el("text").len("x", x).len("y", y).at("text-anchor", anchor).text(text)
}

/// Text over `x` that stays inside the drawing.
fn placed(x: f64, y: f64, text: &str) -> Element {
    placed_within(x, y, text, WIDTH)
}

fn placed_within(x: f64, y: f64, text: &str, right: f64) -> Element {
    let half = width(text) / 2.0;
    match (x - half < 2.0, x + half > right - 2.0) {
        (true, _) => words(2.0, y, "start", text),
        (false, true) => words(right - 2.0, y, "end", text),
        (false, false) => words(x, y, "middle", text),
    }
}

fn width(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(kind: ChartKind, values: Vec<f64>, expected: Vec<f64>) -> Chart {
        let labels = (0..values.len()).map(|n| format!("{}.q_proj.weight", n / 7)).collect();
        Chart { title: "SQNR".into(), kind, unit: "dB".into(), labels, values, expected }
    }

    #[test]
    fn every_kind_names_its_axis_and_survives_any_numbers() {
        let odd = [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e-320, 1e308, 3.0];
        for kind in [ChartKind::Strip, ChartKind::Histogram, ChartKind::Line] {
            for values in [vec![1.0], vec![0.0; 5], odd.to_vec(), vec![f64::NAN; 3], vec![2.5; 5000]] {
                for expected in [vec![], vec![1.0; values.len()], vec![f64::NAN]] {
                    let chart = chart(kind, values.clone(), expected);
                    let Some(svg) = figure(&chart, "c", Room::MOST) else { continue };
                    let svg = svg.to_string();
                    for bad in ["NaN\"", "inf\"", "=\"-0\""] {
                        assert!(!svg.contains(bad), "{kind:?} {values:?}: {bad} in {svg}");
                    }
                    assert!(svg.contains("<title") && svg.contains("<desc") && svg.len() < 200_000);
                }
            }
            assert!(figure(&chart(kind, vec![], vec![]), "c", Room::MOST).is_none());
        }
    }

    #[test]
    fn layers_are_named_by_their_number() {
        let labels =
            ["0.q_proj.weight", "0.k_proj.weight", "1.q_proj.weight", "1.k_proj.weight", "norm.weight"];
        let starts = vec![(0, "0".to_owned()), (2, "1".to_owned())];
        assert_eq!(layers(&labels), Some(starts.clone()));
        assert_eq!(layers(&["blk.0.ffn_up", "blk.0.ffn_down", "blk.1.ffn_up"]), Some(starts));
        assert_eq!(layers(&["1e-5", "0.001", "0.01"]), None);
        assert_eq!(layers(&["a.0", "a.1", "b.0", "b.1"]), None, "not in the order of layers");
    }
}
