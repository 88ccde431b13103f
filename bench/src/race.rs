//! Runs what is compared in turns: each round takes one sample of every case, the limit and ours right after one another.

use anyhow::Context;

use crate::report::{Goals, Row};
use crate::sample::{Effort, Sample};

/// Takes one sample.
pub type Probe<'a> = Box<dyn FnMut(&Effort) -> anyhow::Result<Sample> + 'a>;

/// One line of a report before it is measured.
pub struct Case<'a> {
    name: String,
    goals: Goals,
    limit: Probe<'a>,
    ours: Option<Probe<'a>>,
}

impl<'a> Case<'a> {
    /// A limit alone.
    pub fn limit(name: impl Into<String>, limit: impl FnMut(&Effort) -> anyhow::Result<Sample> + 'a) -> Case<'a> {
        Case { name: name.into(), goals: Goals::NONE, limit: Box::new(limit), ours: None }
    }

    /// Compares `ours` with the limit; `goals` is what it should reach.
    pub fn ours(mut self, goals: Goals, ours: impl FnMut(&Effort) -> anyhow::Result<Sample> + 'a) -> Case<'a> {
        self.goals = goals;
        self.ours = Some(Box::new(ours));
        self
    }

    /// What is measured.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is judged.
    pub fn has_goal(&self) -> bool {
        self.goals != Goals::NONE
    }
}

/// Measures `cases` in `rounds` rounds (at least one) of one sample each.
///
/// Errors: a probe failed; the message names its case.
pub fn race(cases: &mut [Case<'_>], rounds: usize, effort: &Effort) -> anyhow::Result<Vec<Row>> {
    let mut limits: Vec<Vec<Sample>> = vec![Vec::new(); cases.len()];
    let mut ours: Vec<Vec<Sample>> = vec![Vec::new(); cases.len()];
    for _ in 0..rounds.max(1) {
        for (index, case) in cases.iter_mut().enumerate() {
            limits[index].push((case.limit)(effort).with_context(|| format!("limit of `{}`", case.name))?);
            if let Some(probe) = &mut case.ours {
                ours[index].push(probe(effort).with_context(|| format!("ours of `{}`", case.name))?);
            }
        }
    }
    let rows = cases.iter().zip(limits.iter().zip(&ours));
    Ok(rows.map(|(case, (limit, ours))| Row::new(&case.name, case.goals, ours, limit)).collect())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use super::*;

    #[test]
    fn limit_and_ours_take_turns_and_failures_name_their_case() {
        let order = RefCell::new(String::new());
        let probe = |mark: char, bytes: u64| {
            let order = &order;
            move |_: &Effort| {
                order.borrow_mut().push(mark);
                Ok(Sample { bytes, ops: 1, wall: Duration::from_secs(1), cpu_s: 1.0, latencies: Vec::new() })
            }
        };
        let mut cases =
            [Case::limit("a", probe('A', 100)).ours(Goals::rate(0.8), probe('a', 90)), Case::limit("b", probe('B', 1))];
        let rows = race(&mut cases, 2, &Effort::ops(1)).unwrap();
        assert_eq!(order.take(), "AaBAaB");
        assert_eq!((rows[0].ratio, rows[0].goals.rate, rows[0].falls_short()), (Some(0.9), Some(0.8), false));
        assert_eq!((rows[1].ratio, rows[1].verdicts()), (None, Vec::new()));
        let mut broken = [Case::limit("c", |_: &Effort| anyhow::bail!("no disk"))];
        let error = race(&mut broken, 1, &Effort::ops(1)).unwrap_err();
        assert_eq!(format!("{error:#}"), "limit of `c`: no disk");
    }
}
