//! When the daemon ran, and by when it must have done what was due.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since the epoch.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Random moments, and the same ones again for whoever knows the seed.
pub struct Chance(u64);

impl Chance {
    /// By `USSH_SEED`, or another one each time; it is printed.
    pub fn new() -> Self {
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().into();
        let seed: u64 = std::env::var("USSH_SEED").map_or_else(|_| clock(), |seed| seed.parse().unwrap());
        println!("USSH_SEED={seed}");
        Chance(seed.wrapping_mul(2).wrapping_add(1))
    }

    /// From 0 to below 1 (xorshift64*, Vigna 2016).
    pub fn next(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// From when to when it ran: known again, and killed.
#[derive(Debug)]
pub struct Runs(Vec<(f64, f64)>);

impl Runs {
    /// It runs since then.
    pub fn since(from: f64) -> Self {
        Runs(vec![(from, f64::INFINITY)])
    }

    pub fn killed(&mut self, at: f64) {
        self.0.last_mut().unwrap().1 = at;
    }

    pub fn back(&mut self, at: f64) {
        self.0.push((at, f64::INFINITY));
    }

    /// When what was due at `moment` must have been done: after it has run for `patience` since then without a break.
    pub fn deadline(&self, moment: f64, patience: Duration) -> f64 {
        let done = self.0.iter().map(|(from, to)| (from.max(moment) + patience.as_secs_f64(), *to));
        done.filter(|(done, to)| done <= to).map(|(done, _)| done).next().unwrap()
    }
}
