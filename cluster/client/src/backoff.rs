//! How long to wait before the next attempt.

use rt::random::Random;
use std::time::Duration;

/// Exponential waits, of which half is chance, so that those who failed together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    limit: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits about `base` at first, twice as long each time, at most `limit`.
    pub fn new(base: Duration, limit: Duration) -> Self {
        Self { base, limit, failures: 0 }
    }

    /// How long to wait after one more failure.
    pub fn next(&mut self, random: &mut Random) -> Duration {
        let wait = exponential(self.base, self.limit, self.failures);
        self.failures = self.failures.saturating_add(1);
        wait / 2 + random.jitter(wait / 2)
    }

    /// Something worked: begin from the base again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// `base` times two to the power of `failures`, at most `limit`.
pub fn exponential(base: Duration, limit: Duration, failures: u32) -> Duration {
    let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
    base.checked_mul(factor).map_or(limit, |wait| wait.min(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit() {
        let waits = [0, 1, 10, 31, 32, 500]
            .map(|failures| exponential(Duration::from_millis(5), Duration::from_secs(300), failures).as_millis());
        assert_eq!(waits, [5, 10, 5120, 300_000, 300_000, 300_000]);
    }

    #[test]
    fn half_of_a_wait_is_chance() {
        let mut random = Random::from_seed(1);
        for _ in 0..100 {
            let mut backoff = Backoff::new(Duration::from_millis(8), Duration::from_secs(1));
            let wait = backoff.next(&mut random);
            assert!(wait >= Duration::from_millis(4) && wait < Duration::from_millis(8), "{wait:?}");
            assert!(backoff.next(&mut random) >= Duration::from_millis(8));
        }
    }
}
