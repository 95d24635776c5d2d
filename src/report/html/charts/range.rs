//! One measurement on one axis: value, interval, limit and noise floor, with the forbidden side hatched.

use super::super::super::text::{headroom, interval, limit, number, value};
use super::super::element::{Element, el};
use super::scale::{Fit, Scale};
use super::{placed_within, rule, svg, width};
use crate::record::{LimitOp, Measurement};

/// The drawing; none where there is no limit, or nothing finite to draw.
pub(in super::super) fn range(m: &Measurement, id: &str) -> Option<Element> {
    let limit_of = m.limit.as_ref()?;
    let bound = Some(limit_of.value).filter(|l| l.is_finite());
    let floor = m.floor.filter(|f| f.is_finite() && *f > 0.0);
    if !m.value.is_finite() {
        return None;
    }
    let ends = m.interval.iter().flat_map(|i| [i.low, i.high]);
    let all = [Some(m.value), bound, floor].into_iter().flatten().chain(ends);
    let scale = Scale::over(all, Fit::Loose, LEFT, RIGHT)?;

    let height = if floor.is_some() { 100.0 } else { 86.0 };
    let mut svg = svg(id, WIDTH, height, &format!("{} on one axis", m.metric), &in_words(m)).class("range");
    if let Some(at) = bound.map(|b| scale.at(b)) {
        let forbidden = match limit_of.op {
            LimitOp::AtMost | LimitOp::Below => Some((at, RIGHT)),
            LimitOp::AtLeast => Some((LEFT, at)),
            LimitOp::Equal => None,
        };
        if let Some((from, to)) = forbidden {
            let area = el("rect").class("forbidden").len("x", from).len("y", TOP).len("width", to - from);
            svg = svg.put(area.len("height", AXIS - TOP));
        }
        svg = svg.put(rule("limit", at, TOP - 4.0, at, AXIS)).put(label(
            at,
            12.0,
            &format!("limit {}", limit(limit_of)),
        ));
    }
    svg = svg.put(rule("axis", LEFT, AXIS, RIGHT, AXIS));
    svg = svg.put_all(ticks(&scale));
    if let Some(floor) = floor {
        let at = scale.at(floor);
        svg = svg.put(rule("floor", at, TOP + 8.0, at, AXIS + 22.0));
        svg = svg.put(label(at, 96.0, &format!("noise floor {}", number(floor))));
    }
    if let Some(i) = &m.interval {
        let (low, high) = (scale.at(i.low), scale.at(i.high));
        svg = svg.put(rule("interval", low, MIDDLE, high, MIDDLE));
        svg = svg.put_all([low, high].map(|x| rule("interval", x, MIDDLE - 6.0, x, MIDDLE + 6.0)));
    }
    let at = scale.at(m.value);
    svg = svg.put(el("path").class("value").at("d", format!("M{at:.1} {:.1}l5 6l-5 6l-5 -6z", MIDDLE - 6.0)));
    Some(svg.put(label(at, 27.0, &value(m)).class("strong")))
}

/// Width of the drawing.
const WIDTH: f64 = 300.0;
/// Ends of the axis.
const LEFT: f64 = 12.0;
const RIGHT: f64 = 288.0;
/// Upper edge of the plot, the height of the value, the axis.
const TOP: f64 = 33.0;
const MIDDLE: f64 = 47.0;
const AXIS: f64 = 62.0;

/// Ticks that have room for their labels.
fn ticks(scale: &Scale) -> Vec<Element> {
    let mut parts = Vec::new();
    let mut free_from = 0.0;
    for tick in scale.ticks(5) {
        let (at, text) = (scale.at(tick), number(tick));
        parts.push(rule("axis", at, AXIS, at, AXIS + 4.0));
        let half = width(&text) / 2.0;
        if at - half >= free_from && at + half <= WIDTH {
            parts.push(label(at, AXIS + 16.0, &text));
            free_from = at + half + 8.0;
        }
    }
    parts
}

fn label(x: f64, y: f64, text: &str) -> Element {
    placed_within(x, y, text, WIDTH)
}

fn in_words(m: &Measurement) -> String {
    let mut words = format!("measured {}", value(m));
    if let Some(i) = interval(m) {
        words.push_str(&format!(", interval {i}"));
    }
    if let Some(l) = &m.limit {
        words.push_str(&format!(", limit {}", limit(l)));
    }
    if let Some(floor) = m.floor {
        words.push_str(&format!(", noise floor {}", number(floor)));
    }
    if let Some(room) = headroom(m) {
        words.push_str(&format!(", headroom {room}"));
    }
    words
}
