//! From measurements to a verdict: a pass is at least one measurement of at least one thing, all within their limits.

use crate::record::{
    Chart, Departure, Finding, Interval, Judgement, Limit, LimitOp, Measurement, Unable, Verdict,
};
use crate::subject::Answer;

/// How many findings a case keeps; the rest is counted.
const MOST_FINDINGS: usize = 20;

/// What a gate has measured so far.
#[derive(Debug, Default)]
pub struct Evidence {
    measurements: Vec<Measurement>,
    findings: Vec<Finding>,
    detail: String,
    charts: Vec<Chart>,
    departures: Vec<Departure>,
    too_few: Option<String>,
}

/// A limit with the place it comes from, before a value is held against it.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// How a value must relate to it.
    pub op: LimitOp,
    /// The bound.
    pub value: f64,
    /// Where it is written.
    pub source: String,
}

impl Bound {
    /// At most `value`.
    pub fn at_most(value: f64, source: impl Into<String>) -> Bound {
        Bound { op: LimitOp::AtMost, value, source: source.into() }
    }

    /// Less than `value`.
    pub fn below(value: f64, source: impl Into<String>) -> Bound {
        Bound { op: LimitOp::Below, value, source: source.into() }
    }

    /// At least `value`.
    pub fn at_least(value: f64, source: impl Into<String>) -> Bound {
        Bound { op: LimitOp::AtLeast, value, source: source.into() }
    }

    /// None at all.
    pub fn zero(source: impl Into<String>) -> Bound {
        Bound { op: LimitOp::Equal, value: 0.0, source: source.into() }
    }
}

impl Evidence {
    /// Nothing measured yet.
    pub fn new() -> Evidence {
        Evidence::default()
    }

    /// Holds `value`, measured over `n` things, against a bound. The first one held is the deciding one.
    pub fn hold(&mut self, metric: &str, value: f64, unit: &str, n: u64, bound: Bound) {
        self.push(metric, (value, None), unit, n, (Some(bound.into()), None));
    }

    /// Holds the far bound of `interval` around `value` against a bound, with three answers: a limit that lies inside
    /// the interval, or below the noise `floor` of the measurement, can be neither kept nor broken.
    pub fn hold_interval(
        &mut self,
        metric: &str,
        (value, interval): (f64, Interval),
        unit: &str,
        n: u64,
        bound: Bound,
        floor: Option<f64>,
    ) {
        self.push(metric, (value, Some(interval)), unit, n, (Some(bound.into()), floor));
    }

    /// Reports `value` without a limit.
    pub fn note(&mut self, metric: &str, value: f64, unit: &str, n: u64) {
        self.push(metric, (value, None), unit, n, (None, None));
    }

    /// Reports `value` and how far it is known, without a limit.
    pub fn note_interval(
        &mut self,
        metric: &str,
        (value, interval): (f64, Interval),
        unit: &str,
        n: u64,
        floor: Option<f64>,
    ) {
        self.push(metric, (value, Some(interval)), unit, n, (None, floor));
    }

    /// Has a report draw `chart`.
    pub fn draw(&mut self, chart: Chart) {
        self.charts.push(chart);
    }

    /// Shows a token at which the two sides part, worst first.
    pub fn depart(&mut self, departure: Departure) {
        self.departures.push(departure);
    }

    /// Names a broken or odd thing, worst first.
    pub fn find(&mut self, subject: impl Into<String>, detail: impl Into<String>) {
        self.findings.push(Finding { subject: subject.into(), detail: detail.into(), cause: None });
    }

    /// Names a broken thing and the id of its likely cause.
    pub fn find_cause(
        &mut self,
        subject: impl Into<String>,
        detail: impl Into<String>,
        cause: impl Into<String>,
    ) {
        let cause = Some(cause.into());
        self.findings.push(Finding { subject: subject.into(), detail: detail.into(), cause });
    }

    /// Adds a paragraph for a person.
    pub fn tell(&mut self, text: &str) {
        if !self.detail.is_empty() && !text.is_empty() {
            self.detail.push('\n');
        }
        self.detail.push_str(text);
    }

    /// Makes the verdict inconclusive, unless something measured is outside its limit already.
    pub fn too_few(&mut self, why: impl Into<String>) {
        self.too_few = Some(why.into());
    }

    /// The verdict that follows.
    ///
    /// # Errors
    /// [`Unable::Vacuous`] where no value was held against a limit, or one was that nothing was measured for.
    pub fn judge(mut self) -> Answer<Judgement> {
        let held: Vec<(&Measurement, &Limit)> =
            self.measurements.iter().filter_map(|m| m.limit.as_ref().map(|l| (m, l))).collect();
        if held.is_empty() {
            return Err(Unable::Vacuous("nothing was held against a limit".into()));
        }
        if let Some((m, _)) = held.iter().find(|(m, _)| m.n == 0) {
            return Err(Unable::Vacuous(format!("`{}` was measured over nothing", m.metric)));
        }
        let failed = held.iter().find(|(m, l)| answer(m, l) == Held::Broken);
        let open = held.iter().find_map(|(m, l)| match answer(m, l) {
            Held::Open(why) => Some(format!("{}: {why}", sentence(m, l))),
            Held::Kept | Held::Broken => None,
        });
        let verdict = match (failed, self.too_few.take().or(open)) {
            (Some((m, l)), _) => Verdict::Fail { kind: m.metric.clone(), message: sentence(m, l) },
            (None, Some(message)) => Verdict::Inconclusive { message },
            (None, None) => Verdict::Pass,
        };
        // The deciding measurement first; the order is otherwise the gate's.
        self.measurements.sort_by_key(|m| match m.limit.as_ref().map(|l| answer(m, l)) {
            Some(Held::Broken) => 0,
            Some(Held::Open(_)) => 1,
            Some(Held::Kept) => 2,
            None => 3,
        });
        let more = self.findings.len().saturating_sub(MOST_FINDINGS);
        self.findings.truncate(MOST_FINDINGS);
        if more > 0 {
            self.find(format!("and {more} more"), "not listed");
        }
        Ok(Judgement {
            verdict,
            measurements: self.measurements,
            findings: self.findings,
            detail: self.detail,
            charts: self.charts,
            departures: self.departures,
        })
    }

    fn push(
        &mut self,
        metric: &str,
        (value, interval): (f64, Option<Interval>),
        unit: &str,
        n: u64,
        (limit, floor): (Option<Limit>, Option<f64>),
    ) {
        let (metric, unit) = (metric.to_owned(), unit.to_owned());
        self.measurements.push(Measurement { metric, value, unit, n, limit, interval, floor });
    }
}

impl From<Bound> for Limit {
    fn from(bound: Bound) -> Limit {
        Limit { op: bound.op, value: bound.value, source: bound.source }
    }
}

/// How a measurement stands to its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Kept,
    Broken,
    /// Neither is shown, and why.
    Open(&'static str),
}

/// The answer of one measurement: of its value, or, where it has one, of the bounds of its interval.
fn answer(m: &Measurement, l: &Limit) -> Held {
    let Some(interval) = &m.interval else {
        return if holds(l.op, m.value, l.value) { Held::Kept } else { Held::Broken };
    };
    // A measurement that gave no number is never within its limit, and shows nothing about the floor.
    if m.value.is_nan() || interval.low.is_nan() || interval.high.is_nan() {
        return Held::Broken;
    }
    let below_floor = match l.op {
        LimitOp::AtMost | LimitOp::Below => m.floor.is_some_and(|floor| l.value < floor),
        LimitOp::AtLeast => m.floor.is_some_and(|floor| l.value > floor),
        LimitOp::Equal => false,
    };
    if below_floor {
        return Held::Open("the limit is finer than the noise of the measurement");
    }
    match (holds(l.op, interval.low, l.value), holds(l.op, interval.high, l.value)) {
        (true, true) => Held::Kept,
        (false, false) => Held::Broken,
        (true, false) | (false, true) => Held::Open("the limit lies inside the interval"),
    }
}

/// Whether `value` relates to `limit` as `op` says; a NaN never does.
pub fn holds(op: LimitOp, value: f64, limit: f64) -> bool {
    match op {
        LimitOp::AtMost => value <= limit,
        LimitOp::Below => value < limit,
        LimitOp::AtLeast => value >= limit,
        LimitOp::Equal => value == limit,
    }
}

/// `measured … limit … (source …)`, the first line of every failure.
pub fn sentence(m: &Measurement, l: &Limit) -> String {
    let op = match l.op {
        LimitOp::AtMost => "<=",
        LimitOp::Below => "<",
        LimitOp::AtLeast => ">=",
        LimitOp::Equal => "==",
    };
    let unit = if m.unit.is_empty() { String::new() } else { format!(" {}", m.unit) };
    let (value, limit) = (number(m.value), number(l.value));
    let known = m.interval.as_ref().map_or(String::new(), |i| {
        format!(" ({} % interval {} to {})", number(i.level * 100.0), number(i.low), number(i.high))
    });
    let floor = m.floor.map_or(String::new(), |floor| format!(", noise floor {}", number(floor)));
    let (metric, n, source) = (&m.metric, m.n, &l.source);
    format!("measured {metric} {value}{unit}{known} over {n}, limit {op} {limit}{floor} (source {source})")
}

/// A number as people write it: whole ones whole, others with six digits that count.
pub fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return format!("{value:.0}");
    }
    if value.is_finite() && (value.abs() < 1e-3 || value.abs() >= 1e9) {
        return format!("{value:.3e}");
    }
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_outranks_and_says_what_where_and_whence() {
        let mut e = Evidence::new();
        e.hold("kl", 0.5, "nats", 9, Bound::at_most(1.0, "here"));
        e.hold("mismatches", 7.0, "tokens", 32, Bound::at_most(5.0, "playbooks/ci.yaml:41"));
        e.note("first", 3.0, "", 1);
        let judged = e.judge().unwrap();
        let Verdict::Fail { kind, message } = judged.verdict else { panic!("{:?}", judged.verdict) };
        assert_eq!(kind, "mismatches");
        assert_eq!(message, "measured mismatches 7 tokens over 32, limit <= 5 (source playbooks/ci.yaml:41)");
        assert_eq!(judged.measurements[0].metric, "mismatches");
    }

    #[test]
    fn nothing_measured_is_no_pass() {
        let mut only_noted = Evidence::new();
        only_noted.note("tokens", 3.0, "", 3);
        assert!(matches!(only_noted.judge(), Err(Unable::Vacuous(_))));
        let mut of_nothing = Evidence::new();
        of_nothing.hold("mismatches", 0.0, "tokens", 0, Bound::zero("x"));
        assert!(matches!(of_nothing.judge(), Err(Unable::Vacuous(_))));
    }

    #[test]
    fn nan_is_outside_every_limit() {
        for op in [LimitOp::AtMost, LimitOp::Below, LimitOp::AtLeast, LimitOp::Equal] {
            assert!(!holds(op, f64::NAN, 1.0));
        }
        assert!(holds(LimitOp::AtLeast, f64::INFINITY, 1.0) && !holds(LimitOp::Below, 1.0, 1.0));
    }

    #[test]
    fn too_few_is_inconclusive_but_never_hides_a_failure() {
        let mut e = Evidence::new();
        e.hold("perplexity", 9.0, "", 10, Bound::below(20.0, "x"));
        e.too_few("10 tokens, at least 100 wanted");
        assert!(matches!(e.judge().unwrap().verdict, Verdict::Inconclusive { .. }));
        let mut e = Evidence::new();
        e.hold("perplexity", 90.0, "", 10, Bound::below(20.0, "x"));
        e.too_few("10 tokens, at least 100 wanted");
        assert!(matches!(e.judge().unwrap().verdict, Verdict::Fail { .. }));
    }

    fn between(low: f64, high: f64) -> (f64, Interval) {
        (f64::midpoint(low, high), Interval { low, high, level: 0.95, method: "test".into() })
    }

    fn verdict_of(known: (f64, Interval), bound: Bound, floor: Option<f64>) -> Verdict {
        let mut e = Evidence::new();
        e.hold_interval("kl", known, "nats", 64, bound, floor);
        e.judge().unwrap().verdict
    }

    #[test]
    fn an_interval_has_three_answers() {
        let at_most = || Bound::at_most(1.0, "x");
        assert_eq!(verdict_of(between(0.2, 0.9), at_most(), None), Verdict::Pass);
        assert!(matches!(verdict_of(between(1.1, 1.9), at_most(), None), Verdict::Fail { .. }));
        let Verdict::Inconclusive { message } = verdict_of(between(0.5, 1.1), at_most(), None) else {
            panic!("straddles")
        };
        assert!(message.contains("95 % interval 0.5 to 1.1") && message.ends_with("inside the interval"));
        let at_least = || Bound::at_least(1.0, "x");
        assert_eq!(verdict_of(between(1.0, 1.2), at_least(), None), Verdict::Pass);
        assert!(matches!(verdict_of(between(0.1, 0.2), at_least(), None), Verdict::Fail { .. }));
    }

    #[test]
    fn a_limit_below_the_noise_is_never_judged_and_nan_never_passes() {
        let bound = || Bound::at_most(1e-4, "x");
        let quiet = verdict_of(between(1e-6, 2e-6), bound(), Some(5e-4));
        assert!(matches!(quiet, Verdict::Inconclusive { ref message } if message.contains("noise floor")));
        let loud = verdict_of(between(1.0, 2.0), bound(), Some(5e-4));
        assert!(matches!(loud, Verdict::Inconclusive { .. }));
        for broken in [between(f64::NAN, 1e-6), between(1e-6, f64::NAN)] {
            assert!(matches!(verdict_of(broken, bound(), None), Verdict::Fail { .. }));
        }
    }

    #[test]
    fn findings_are_capped_with_a_count() {
        let mut e = Evidence::new();
        e.hold("tensors", 30.0, "", 30, Bound::zero("x"));
        (0..30).for_each(|i| e.find(format!("t{i}"), "off"));
        let findings = e.judge().unwrap().findings;
        assert_eq!((findings.len(), findings[20].subject.as_str()), (21, "and 10 more"));
    }

    #[test]
    fn numbers_read_well() {
        let shown = [
            (3.0, "3"),
            (0.25, "0.25"),
            (1e-7, "1.000e-7"),
            (f64::INFINITY, "inf"),
            (33.123456789, "33.123457"),
        ];
        for (value, text) in shown {
            assert_eq!(number(value), text);
        }
    }
}
