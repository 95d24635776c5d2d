//! Which case begins when: those of one model stand together, no two that share a part run at once, and all that run
//! use no more threads than the budget.
//!
//! A part (an artifact on a backend) answers one case at a time, so what a case finds in its memory, and with it every
//! word of its evidence, does not depend on what ran beside it.

use super::stage::Part;
use crate::playbook::Case;
use std::collections::{HashMap, HashSet, VecDeque};

/// What a case needs while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// The parts that answer it.
    pub parts: Vec<Part>,
    /// Threads; all of the budget for a case that must be alone.
    pub threads: usize,
}

/// The cases that have not begun, and what those that run hold.
pub struct Schedule {
    /// Indices into the plan.
    pending: VecDeque<usize>,
    free: usize,
    busy: HashSet<Part>,
    /// Cases later in the plan than this one do not begin.
    last: usize,
}

impl Schedule {
    /// A schedule of the cases `order` within `budget` threads.
    pub fn new(order: Vec<usize>, budget: usize) -> Schedule {
        Schedule { pending: order.into(), free: budget, busy: HashSet::new(), last: usize::MAX }
    }

    /// The first case that can begin now; it holds its demand until [`Schedule::end`].
    pub fn begin(&mut self, demand: impl Fn(usize) -> Demand) -> Option<(usize, Demand)> {
        let fits = |(at, case): (usize, &usize)| {
            let demand = demand(*case);
            let free = demand.threads <= self.free && !demand.parts.iter().any(|p| self.busy.contains(p));
            free.then_some((at, demand))
        };
        // With every thread taken nothing can begin, and nobody need be asked.
        let (at, demand) = self.pending.iter().enumerate().take_while(|_| self.free > 0).find_map(fits)?;
        let case = self.pending.remove(at)?;
        self.free -= demand.threads;
        self.busy.extend(demand.parts.iter().cloned());
        Some((case, demand))
    }

    /// Gives back what a case held.
    pub fn end(&mut self, demand: &Demand) {
        self.free += demand.threads;
        demand.parts.iter().for_each(|part| {
            self.busy.remove(part);
        });
    }

    /// No case later in the plan than `case` begins from now on; earlier ones still do.
    pub fn stop_after(&mut self, case: usize) {
        self.last = self.last.min(case);
        self.pending.retain(|pending| *pending <= self.last);
    }

    /// The last case of the plan that counts.
    pub fn last(&self) -> usize {
        self.last
    }

    /// Whether nothing is left to begin.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

/// The cases in an order that needs a model's files from its first to its last case without a break: by model, within
/// it by artifact, each where it first stands in the plan. Those that take all threads come first within their model, so
/// that the others stand together and can run side by side.
pub fn grouped(cases: &[Case], takes_all: impl Fn(&Case) -> bool) -> Vec<usize> {
    let (mut models, mut artifacts) = (HashMap::new(), HashMap::new());
    let mut key = |at: usize, case: &Case| {
        let model = *models.entry(case.model.clone()).or_insert(at);
        let artifact = *artifacts.entry((case.model.clone(), case.artifact.clone())).or_insert(at);
        (model, !takes_all(case), artifact, at)
    };
    let mut keyed: Vec<_> = cases.iter().enumerate().map(|(at, case)| key(at, case)).collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(.., at)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str) -> Part {
        Part { model: "m".into(), artifact: name.into(), backend: "b".into() }
    }

    fn demand(names: &[&str], threads: usize) -> Demand {
        Demand { parts: names.iter().map(|name| part(name)).collect(), threads }
    }

    #[test]
    fn what_shares_a_part_or_exceeds_the_budget_waits() {
        let all = [demand(&["a", "b"], 1), demand(&["b"], 1), demand(&["c"], 3), demand(&["d"], 1)];
        let ask = |case: usize| all[case].clone();
        let mut schedule = Schedule::new(vec![0, 1, 2, 3], 3);
        // 1 shares `b` with 0, and 2 needs all threads.
        assert_eq!(schedule.begin(ask).map(|(case, _)| case), Some(0));
        assert_eq!(schedule.begin(ask).map(|(case, _)| case), Some(3));
        assert_eq!(schedule.begin(ask), None);
        schedule.end(&all[0]);
        assert_eq!(schedule.begin(ask).map(|(case, _)| case), Some(1));
        schedule.end(&all[3]);
        assert_eq!(schedule.begin(ask), None);
        schedule.end(&all[1]);
        assert_eq!(schedule.begin(ask).map(|(case, _)| case), Some(2));
        assert!(schedule.is_empty() && schedule.begin(ask).is_none());
    }

    #[test]
    fn after_a_stop_only_earlier_cases_begin() {
        let ask = |case: usize| demand(&[["a", "b", "c"][case]], 1);
        let mut schedule = Schedule::new(vec![2, 0, 1], 1);
        schedule.stop_after(1);
        assert_eq!(schedule.begin(ask).map(|(case, _)| case), Some(0));
        schedule.end(&ask(0));
        schedule.stop_after(2);
        assert_eq!((schedule.last(), schedule.begin(ask).map(|(case, _)| case)), (1, Some(1)));
        assert!(schedule.is_empty());
    }
}
