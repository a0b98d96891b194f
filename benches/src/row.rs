//! One comparison: what ran, how long it took, and whether that is good enough.

use serde::Serialize;

use crate::statistics::{Spread, median, milliseconds};
use crate::timer::Series;

/// What a comparison is about.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Comparison {
    /// A few words.
    pub title: &'static str,
    /// What A is: ours.
    pub a: &'static str,
    /// What B is: the baseline.
    pub b: &'static str,
    /// How good A is to be: all of these; none, and the figures are for the reader.
    pub goals: &'static [Goal],
}

/// How good A is to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Median of A over median of B: at most this.
    RatioAtMost(f64),
    /// Median of A minus median of B: at most this many milliseconds.
    MillisecondsOverAtMost(f64),
    /// Median of A below median of B.
    Faster,
}

/// One figure that is no time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Fact {
    /// A few words.
    pub title: &'static str,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// How large it may be.
    pub at_most: Option<f64>,
    /// How small.
    pub at_least: Option<f64>,
}

impl Fact {
    /// Whether it is small enough, or large enough, if that is asked.
    pub fn reached(&self) -> Option<bool> {
        let most = self.at_most.map(|most| self.value <= most);
        let least = self.at_least.map(|least| self.value >= least);
        most.into_iter().chain(least).reduce(|a, b| a && b)
    }
}

/// A comparison that was made.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was compared.
    #[serde(flatten)]
    pub comparison: Comparison,
    /// Runs of A, and of B.
    pub runs: usize,
    /// A's times.
    pub a_times: Spread,
    /// B's times.
    pub b_times: Spread,
    /// Median of A over median of B.
    pub ratio: f64,
    /// The median of A's n-th over B's n-th: the two ran one after the other, so that what else the machine did met both.
    pub pairwise_ratio: f64,
    /// Median of A minus median of B, in milliseconds.
    pub difference_ms: f64,
    /// The median of A's n-th minus B's n-th, in milliseconds.
    pub pairwise_difference_ms: f64,
    /// Whether all goals were reached, if there are any.
    pub reached: Option<bool>,
}

impl Row {
    /// Judges a series; `None` if it is empty, or has an A without a B.
    pub fn new(comparison: Comparison, series: &Series) -> Option<Self> {
        if series.a.len() != series.b.len() {
            return None;
        }
        let pairs: Vec<(f64, f64)> =
            series.a.iter().zip(&series.b).map(|(&a, &b)| (milliseconds(a), milliseconds(b))).collect();
        let (a_times, b_times) = (Spread::of(&series.a)?, Spread::of(&series.b)?);
        let ratio = a_times.median_ms / b_times.median_ms;
        let difference_ms = a_times.median_ms - b_times.median_ms;
        Some(Row {
            comparison,
            runs: pairs.len(),
            a_times,
            b_times,
            ratio,
            pairwise_ratio: median(&pairs.iter().map(|(a, b)| a / b).collect::<Vec<_>>())?,
            difference_ms,
            pairwise_difference_ms: median(&pairs.iter().map(|(a, b)| a - b).collect::<Vec<_>>())?,
            reached: (!comparison.goals.is_empty()).then(|| {
                comparison.goals.iter().all(|goal| match goal {
                    Goal::RatioAtMost(most) => ratio <= *most,
                    Goal::MillisecondsOverAtMost(most) => difference_ms <= *most,
                    Goal::Faster => ratio < 1.0,
                })
            }),
        })
    }

    /// Of several of the same comparison the one in which the baseline was fastest: a virtual machine has slow minutes, in which both cost more, and their difference too. What is
    /// measured has no say in the choice.
    pub fn calmest(rows: Vec<Self>) -> Option<Self> {
        rows.into_iter().min_by(|a, b| a.b_times.median_ms.total_cmp(&b.b_times.median_ms))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn row(goals: &'static [Goal], a: &[u64], b: &[u64]) -> Option<Row> {
        let comparison = Comparison { title: "t", a: "a", b: "b", goals };
        Row::new(comparison, &Series { a: a.to_vec(), b: b.to_vec() })
    }

    #[test]
    fn a_ratio_is_reached_at_its_bound_and_missed_above() {
        let at = |a| row(&[Goal::RatioAtMost(0.5)], &[a], &[2000]).unwrap().reached;
        assert_eq!((at(1000), at(1001)), (Some(true), Some(false)));
    }

    #[test]
    fn a_difference_is_reached_at_its_bound_and_missed_above() {
        let at = |a| row(&[Goal::MillisecondsOverAtMost(8.0)], &[a], &[2000]).unwrap().reached;
        assert_eq!((at(10_000), at(10_001)), (Some(true), Some(false)));
    }

    #[test]
    fn all_goals_must_be_reached() {
        let of = |a| row(&[Goal::Faster, Goal::MillisecondsOverAtMost(-1.0)], &[a], &[5000]).unwrap().reached;
        assert_eq!((of(4000), of(4001), of(5000)), (Some(true), Some(false), Some(false)));
    }

    #[test]
    fn a_figure_is_small_enough_up_to_its_bound() {
        let fact = |at_most| Fact { title: "t", value: 5.0, unit: "KiB", at_most, at_least: None }.reached();
        assert_eq!((fact(Some(5.0)), fact(Some(4.9)), fact(None)), (Some(true), Some(false), None));
    }

    #[test]
    fn without_a_goal_nothing_is_reached_or_missed() {
        assert_eq!(row(&[], &[1], &[2]).unwrap().reached, None);
    }

    #[test]
    fn pairs_tell_what_a_machine_that_slows_down_hides() {
        // Both twice as slow in the second half; A is always half of B.
        let row = row(&[], &[1000, 1000, 2000, 2000, 2000], &[2000, 2000, 4000, 4000, 4000]).unwrap();
        assert_eq!((row.pairwise_ratio, row.ratio), (0.5, 0.5));
        assert_eq!((row.difference_ms, row.pairwise_difference_ms, row.runs), (-2.0, -2.0, 5));
    }

    #[test]
    fn no_row_without_a_partner_for_each_run() {
        assert!(row(&[], &[], &[]).is_none());
        assert!(row(&[], &[1, 2], &[1]).is_none());
    }

    #[test]
    fn the_series_with_the_fastest_baseline_counts_whatever_ours_took() {
        let rows = [(&[9, 9], &[5, 5]), (&[8, 8], &[4, 4]), (&[4, 4], &[6, 6])];
        let rows = rows.iter().map(|(a, b)| row(&[], *a, *b).unwrap()).collect();
        let calmest = Row::calmest(rows).unwrap();
        assert_eq!((calmest.a_times.median_ms, calmest.b_times.median_ms), (0.008, 0.004));
        assert!(Row::calmest(vec![]).is_none());
    }
}
