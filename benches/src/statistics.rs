//! Medians, and the spread around them.

use serde::Serialize;

/// One command's runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the runs took at most this many milliseconds.
    pub median_ms: f64,
    /// The shortest, in milliseconds.
    pub min_ms: f64,
    /// The longest, in milliseconds.
    pub max_ms: f64,
}

impl Spread {
    /// Of microseconds; `None` if there are none.
    pub fn of(microseconds: &[u64]) -> Option<Self> {
        let ms: Vec<f64> = microseconds.iter().map(|&us| milliseconds(us)).collect();
        Some(Spread {
            median_ms: median(&ms)?,
            min_ms: ms.iter().copied().reduce(f64::min)?,
            max_ms: ms.iter().copied().reduce(f64::max)?,
        })
    }
}

/// Microseconds as milliseconds. Exact for anything that a run can take.
pub fn milliseconds(microseconds: u64) -> f64 {
    u32::try_from(microseconds).map_or(f64::INFINITY, f64::from) / 1000.0
}

/// The middle one, or the mean of the middle two; `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = sorted.get(sorted.len().checked_sub(1)? / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_the_mean_of_two() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[4.0, 1.0, 100.0, 2.0]), Some(3.0));
    }

    #[test]
    fn one_slow_run_moves_the_maximum_and_not_the_median() {
        let spread = Spread::of(&[2000, 1000, 900_000, 1500, 2500]).unwrap();
        assert_eq!(spread, Spread { median_ms: 2.0, min_ms: 1.0, max_ms: 900.0 });
        assert_eq!(Spread::of(&[]), None);
    }
}
