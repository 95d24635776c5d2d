//! Axes: where a value stands, and which ticks a reader expects.

/// A mapping of values onto a line of the drawing.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Scale {
    log: bool,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

/// How values are laid onto an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Fit {
    /// The values with some air around them; logarithmic where they span more than a decade.
    Loose,
    /// From zero, for bars; logarithmic only where they span more than two decades.
    Bars,
}

impl Scale {
    /// An axis from `from` to `to` that holds all finite `values`; none if there are none.
    pub(in super::super) fn over(
        values: impl Iterator<Item = f64>,
        fit: Fit,
        from: f64,
        to: f64,
    ) -> Option<Scale> {
        let finite: Vec<f64> = values.filter(|v| v.is_finite() && v.abs() < 1e300).collect();
        let mut low = finite.iter().copied().reduce(f64::min)?;
        let mut high = finite.iter().copied().reduce(f64::max)?;
        let decades = match fit {
            Fit::Loose => 1.0,
            Fit::Bars => 2.0,
        };
        let log = low > 1e-300 && (high / low).log10() > decades;
        if log {
            // Half a decade under the lowest bar, so that it can be seen.
            let air = match fit {
                Fit::Loose => (high / low).powf(0.08),
                Fit::Bars => 10f64.sqrt(),
            };
            return Some(Scale { log, low: low / air, high: high * (high / low).powf(0.04), from, to });
        }
        let negative = low < 0.0;
        match fit {
            Fit::Bars => {
                low = low.min(0.0);
                high = high.max(0.0);
            }
            Fit::Loose => {}
        }
        // Where zero is not far it belongs to the picture: 7 against 5 is not a long way.
        if fit == Fit::Loose && low < 0.75 * high {
            low = low.min(0.0);
        }
        let air = if high > low { (high - low) * 0.1 } else { high.abs().max(1.0) * 0.1 };
        high += air;
        // Nothing that is never negative gets an axis below zero.
        low = match fit {
            Fit::Bars if !negative => 0.0,
            Fit::Bars => low - air,
            Fit::Loose if negative => low - air,
            Fit::Loose => (low - air).max(0.0),
        };
        Some(Scale { log, low, high, from, to })
    }

    /// The place of `value`, at the nearer end where the axis does not hold it.
    pub(in super::super) fn at(&self, value: f64) -> f64 {
        let share = if self.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        self.from + share * (self.to - self.from)
    }

    /// Where bars stand: zero, or the lowest value of a logarithmic axis.
    pub(in super::super) fn base(&self) -> f64 {
        if self.log { self.from } else { self.at(0.0) }
    }

    /// Whether the axis is logarithmic.
    pub(in super::super) fn is_log(&self) -> bool {
        self.log
    }

    /// Round values inside the axis, ascending, about `wanted` of them.
    pub(in super::super) fn ticks(&self, wanted: usize) -> Vec<f64> {
        if self.log { self.log_ticks(wanted) } else { self.even_ticks(wanted) }
    }

    fn even_ticks(&self, wanted: usize) -> Vec<f64> {
        let rough = (self.high - self.low) / wanted.max(1) as f64;
        let magnitude = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].iter().map(|m| m * magnitude).find(|s| *s >= rough);
        let step = step.unwrap_or(10.0 * magnitude);
        let first = (self.low / step).ceil();
        // Multiples of the step, not sums of it: 0.3 and not 0.30000000000000004.
        let ticks = (0..=wanted * 2).map(|n| round_to(step, first + n as f64));
        ticks.take_while(|t| *t <= self.high).collect()
    }

    fn log_ticks(&self, wanted: usize) -> Vec<f64> {
        let (low, high) = (self.low.log10(), self.high.log10());
        let decades = (low.floor() as i32..=high.ceil() as i32).collect::<Vec<_>>();
        let multiples: &[f64] = match high - low {
            span if span * 3.0 <= wanted as f64 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let stride = ((high - low) / (wanted as f64 + 1.0)).ceil().max(1.0) as i32;
        let inside = |t: &f64| (self.low..=self.high).contains(t);
        let powers = decades.iter().filter(|d| *d % stride == 0);
        powers.flat_map(|d| multiples.iter().filter_map(move |m| written(*m, *d))).filter(inside).collect()
    }
}

/// `multiple * 10^decade` as it is written, which multiplication may miss by a bit.
fn written(multiple: f64, decade: i32) -> Option<f64> {
    format!("{multiple}e{decade}").parse().ok()
}

/// `step * count` without the noise of the multiplication.
fn round_to(step: f64, count: f64) -> f64 {
    format!("{:.12e}", step * count).parse().unwrap_or(step * count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(values: &[f64], fit: Fit) -> Scale {
        Scale::over(values.iter().copied(), fit, 0.0, 100.0).expect("values")
    }

    #[test]
    fn axes_are_logarithmic_where_values_span_decades() {
        assert!(scale(&[1e-5, 0.02], Fit::Loose).is_log());
        assert!(!scale(&[0.01, 0.02], Fit::Loose).is_log());
        assert!(!scale(&[0.0, 0.02, 1000.0], Fit::Loose).is_log(), "zero has no logarithm");
        assert!(!scale(&[5.0, 400.0], Fit::Bars).is_log());
        assert_eq!(Scale::over([f64::NAN, f64::INFINITY].into_iter(), Fit::Loose, 0.0, 1.0), None);
    }

    #[test]
    fn every_value_is_on_its_axis_in_order() {
        for values in
            [&[1e-9, 1e-3, 4.0][..], &[-3.0, 0.5, 2.0], &[7.0, 7.0, 7.0], &[0.0, 0.0], &[11.2, 19.8, 20.0]]
        {
            for fit in [Fit::Loose, Fit::Bars] {
                let scale = scale(values, fit);
                let at: Vec<f64> = values.iter().map(|v| scale.at(*v)).collect();
                assert!(at.iter().all(|x| (0.0..=100.0).contains(x)), "{values:?} {at:?}");
                assert!(at.is_sorted(), "{values:?} {at:?}");
                assert!(scale.at(f64::NAN).is_finite());
            }
        }
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(scale(&[0.0, 20.0], Fit::Bars).ticks(4), [0.0, 10.0, 20.0]);
        assert_eq!(scale(&[0.0, 0.5], Fit::Bars).ticks(6), [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]);
        assert_eq!(scale(&[1e-5, 0.5], Fit::Loose).ticks(5), [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]);
        assert_eq!(scale(&[0.02, 0.5], Fit::Loose).ticks(6), [0.02, 0.05, 0.1, 0.2, 0.5]);
        for values in [&[1e-12, 1e12][..], &[-1e-9, 1e-9], &[123456.0, 123457.0], &[5.0]] {
            let ticks = scale(values, Fit::Loose).ticks(5);
            assert!((1..=11).contains(&ticks.len()) && ticks.is_sorted(), "{values:?}: {ticks:?}");
        }
    }
}
