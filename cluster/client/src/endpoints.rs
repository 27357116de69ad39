//! Which of several API servers is asked: the one that worked last, until it fails.

/// A number of endpoints, one of which is used.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    count: usize,
    current: usize,
}

impl Endpoints {
    pub(crate) fn new(count: usize) -> Self {
        Self { count, current: 0 }
    }

    /// The one to use.
    pub(crate) fn current(&self) -> usize {
        self.current
    }

    /// `endpoint` failed. Of many requests that fail on it together, only the first moves on: the others find another
    /// one in use, and must not skip that.
    pub(crate) fn failed(&mut self, endpoint: usize) {
        if endpoint == self.current && self.count > 0 {
            self.current = (self.current + 1) % self.count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(count: usize, failures: &[usize], expected: usize) {
        let mut endpoints = Endpoints::new(count);
        failures.iter().for_each(|&endpoint| endpoints.failed(endpoint));
        assert_eq!(endpoints.current(), expected);
    }

    #[test]
    fn stays_until_the_current_one_fails() {
        check(3, &[], 0);
        check(3, &[1, 2, 1], 0);
    }

    #[test]
    fn failures_at_the_same_time_move_on_once() {
        check(3, &[0, 0, 0], 1);
    }

    #[test]
    fn goes_around() {
        check(3, &[0, 1, 2], 0);
        check(1, &[0, 0], 0);
    }
}
