//! Which smaller trials are worth trying, and in which order: what is likely to take much away comes first.
//!
//! What comes after it failed, then kinds of fault, then single faults (delta debugging: Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing
//! Input", 2002), then their durations, the trial's own length, and what its users do, until nothing more can go.
//!
//! **Invariant:** every case that is kept failed when it was tried (`only_what_failed_is_kept`).

use faults::{Fault, Kind, Ns};
use record::{Case, Cluster, Config};
use std::collections::BTreeSet;

/// Tries a trial.
pub trait Attempt {
    /// The order of ready tasks in which the trial fails as it is to; `None` if it does not. `change` says what became
    /// of the best so far.
    ///
    /// # Errors
    /// Why no further trial is to be tried.
    fn attempt(&mut self, case: &Case, change: &str) -> Result<Option<u64>, Stop>;
}

/// Why it ends before everything was tried.
#[derive(Debug)]
pub enum Stop {
    /// As many were tried as may be.
    Spent,
    /// It could not be done.
    Failed(anyhow::Error),
}

/// Makes a failing case as small as it gets: the result fails too. What stopped it comes with the best so far. `failed_ns`
/// is when it failed, if that is known.
pub fn reduce(case: Case, failed_ns: Option<Ns>, attempt: &mut impl Attempt) -> (Case, Result<(), Stop>) {
    let mut reduction = Reduction { best: case, attempt };
    let stopped = reduction.until(failed_ns).and_then(|()| reduction.all());
    (reduction.best, stopped)
}

/// Shorter is no fault any more.
const SHORTEST_NS: Ns = 1_000_000;
/// Trials are shortened by whole seconds.
const SECOND_NS: Ns = 1_000_000_000;
/// Rounds over all passes: each can make room for the others, and one that found nothing is the last anyhow.
const MAX_ROUNDS: u32 = 10;

struct Reduction<'a, A> {
    best: Case,
    attempt: &'a mut A,
}

impl<A: Attempt> Reduction<'_, A> {
    fn all(&mut self) -> Result<(), Stop> {
        for _ in 0..MAX_ROUNDS {
            let before = self.best.clone();
            self.kinds()?;
            self.faults()?;
            self.length()?;
            self.workload()?;
            self.durations()?;
            // Another order of ready tasks alone is no progress.
            if (Case { executor_seed: before.executor_seed, ..self.best.clone() }) == before {
                break;
            }
        }
        Ok(())
    }

    /// Ends the trial soon after it failed, which makes all further tries shorter; else leaves out at least what strikes
    /// afterwards. What was to last longer is healed as the faults end.
    fn until(&mut self, failed_ns: Option<Ns>) -> Result<(), Stop> {
        let Some(failed_ns) = failed_ns else { return Ok(()) };
        let earlier = self.without(|fault| fault.when.earliest() > failed_ns);
        let end_ns = (failed_ns + 1).next_multiple_of(SECOND_NS);
        let mut case = earlier.clone();
        let Config { faults_ns, calm_ns, .. } = &mut case.config;
        let calm_until_ns = end_ns.saturating_sub(*faults_ns) + SECOND_NS;
        (*faults_ns, *calm_ns) = (end_ns.min(*faults_ns), calm_until_ns.min(*calm_ns));
        for fault in case.faults.iter_mut().filter(|fault| !fault.kind.outlasts()) {
            fault.for_ns = fault.for_ns.min(case.config.faults_ns - fault.when.earliest());
        }
        if !self.keep_if_fails(case, "until it failed")? {
            self.keep_if_fails(earlier, "faults until it failed")?;
        }
        Ok(())
    }

    /// Keeps a smaller case if it fails too. Whether it does.
    fn keep_if_fails(&mut self, case: Case, change: &str) -> Result<bool, Stop> {
        if case == self.best {
            return Ok(false);
        }
        let failed = self.attempt.attempt(&case, change)?;
        if let Some(executor_seed) = failed {
            self.best = Case { executor_seed, ..case };
        }
        Ok(failed.is_some())
    }

    fn without(&self, leave: impl Fn(&Fault) -> bool) -> Case {
        let faults = self.best.faults.iter().filter(|fault| !leave(fault)).cloned().collect();
        Case { faults, ..self.best.clone() }
    }

    /// Leaves out kinds of fault: all, then the most frequent first.
    fn kinds(&mut self) -> Result<(), Stop> {
        if self.best.faults.is_empty() || self.keep_if_fails(self.without(|_| true), "without any fault")? {
            return Ok(());
        }
        let count = |kind: Kind| self.best.faults.iter().filter(|fault| fault.kind == kind).count();
        let kinds: BTreeSet<Kind> = self.best.faults.iter().map(|fault| fault.kind).collect();
        let mut kinds: Vec<(usize, Kind)> = kinds.into_iter().map(|kind| (count(kind), kind)).collect();
        kinds.sort_by_key(|(count, kind)| (std::cmp::Reverse(*count), *kind));
        for (_, kind) in kinds {
            let case = self.without(|fault| fault.kind == kind);
            self.keep_if_fails(case, &format!("without {}", kind.name()))?;
        }
        Ok(())
    }

    /// Leaves out single faults, in ever smaller groups.
    fn faults(&mut self) -> Result<(), Stop> {
        let mut group = self.best.faults.len().div_ceil(2);
        while group > 0 {
            let mut at = 0;
            while at < self.best.faults.len() {
                let ids: BTreeSet<u32> = self.best.faults.iter().skip(at).take(group).map(|fault| fault.id).collect();
                let case = self.without(|fault| ids.contains(&fault.id));
                let left = case.faults.len();
                if !self.keep_if_fails(case, &format!("{left} faults"))? {
                    at += group;
                }
            }
            group = if group == 1 { 0 } else { group.div_ceil(2) };
        }
        Ok(())
    }

    /// Ends the trial sooner: first right after the last fault, then in halves of what is left of either part.
    fn length(&mut self) -> Result<(), Stop> {
        let last_ns = |case: &Case| {
            let ends = case.faults.iter().map(|fault| fault.when.earliest() + fault.for_ns);
            ends.max().unwrap_or(0).next_multiple_of(SECOND_NS)
        };
        let ends_ns = (last_ns(&self.best) + SECOND_NS).min(self.best.config.faults_ns);
        self.configured("faults end with the last", |config| config.faults_ns = ends_ns)?;
        self.halved("faults for half as long", |config| {
            // Whatever strikes must have its time.
            let half_ns = (config.faults_ns / 2).next_multiple_of(SECOND_NS);
            config.faults_ns = half_ns.max(ends_ns.min(config.faults_ns));
        })?;
        self.halved("half as long a calm", |config| {
            config.calm_ns = (config.calm_ns / 2).next_multiple_of(SECOND_NS).min(config.calm_ns);
        })
    }

    /// Asks less of the product, of fewer hosts.
    fn workload(&mut self) -> Result<(), Stop> {
        self.halved("half the rate", |config| config.rate = half(config.rate))?;
        self.halved("half the keys", |config| config.keys = half(config.keys))?;
        self.configured("one client host", |config| config.client_hosts = config.client_hosts.min(1))?;
        let shrunk = |config: &mut Config, change: fn(&mut Cluster)| config.cluster.iter_mut().for_each(change);
        self.halved("half the apps", |config| {
            shrunk(config, |cluster| {
                let apps = half(cluster.apps);
                cluster.pods = (cluster.pods * apps).div_ceil(cluster.apps.max(1)).max(1);
                cluster.apps = apps;
            });
        })?;
        self.halved("half the pods", |config| {
            shrunk(config, |cluster| cluster.pods = half(cluster.pods).max(cluster.apps));
        })?;
        self.halved("half the nodes", |config| shrunk(config, |cluster| cluster.nodes = half(cluster.nodes)))?;
        self.halved("half the users' writes", |config| {
            shrunk(config, |cluster| cluster.writes_per_ks = half(cluster.writes_per_ks));
        })?;
        self.halved("half the calls", |config| {
            shrunk(config, |cluster| cluster.calls_per_s = half(cluster.calls_per_s))
        })
    }

    /// Halves how long each fault lasts.
    fn durations(&mut self) -> Result<(), Stop> {
        for at in 0..self.best.faults.len() {
            loop {
                let mut case = self.best.clone();
                let fault = &mut case.faults[at];
                if fault.for_ns <= SHORTEST_NS {
                    break;
                }
                fault.for_ns = (fault.for_ns / 2).max(SHORTEST_NS);
                let change = format!("{} for {:.3} s", fault.kind.name(), fault.for_ns as f64 / SECOND_NS as f64);
                if !self.keep_if_fails(case, &change)? {
                    break;
                }
            }
        }
        Ok(())
    }

    fn configured(&mut self, change: &str, with: impl Fn(&mut Config)) -> Result<bool, Stop> {
        let mut case = self.best.clone();
        with(&mut case.config);
        self.keep_if_fails(case, change)
    }

    /// The same change again and again, for as long as it changes anything and the trial fails.
    fn halved(&mut self, change: &str, with: impl Fn(&mut Config)) -> Result<(), Stop> {
        while self.configured(change, &with)? {}
        Ok(())
    }
}

/// Half, but something.
fn half(count: u32) -> u32 {
    count.div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use faults::{Target, What, When};
    use record::CASE_FORMAT;

    fn fault(id: u32, kind: Kind) -> Fault {
        let what = What::Kill { target: Target::Member(id) };
        Fault { id, kind, when: When::At(u64::from(id) * SECOND_NS), for_ns: 8 * SECOND_NS, what }
    }

    fn case() -> Case {
        let kinds = [Kind::Kill, Kind::Pause, Kind::LinkLoss];
        Case {
            format: CASE_FORMAT,
            fails: "C1".into(),
            seed: 1,
            executor_seed: 1,
            twin: false,
            config: Config {
                cluster: Some(Cluster { nodes: 10, zones: 3, apps: 12, pods: 100, writes_per_ks: 9, calls_per_s: 9 }),
                ..sim::scenario("store").expect("there is one")
            },
            faults: (0..24).map(|id| fault(id, kinds[id as usize % 3])).collect(),
        }
    }

    /// Fails while the predicate says so, always under another order.
    struct Fails<F> {
        when: F,
        tried: u32,
        most: u32,
        kept: Vec<Case>,
    }

    impl<F: Fn(&Case) -> bool> Attempt for Fails<F> {
        fn attempt(&mut self, case: &Case, _: &str) -> Result<Option<u64>, Stop> {
            if self.tried == self.most {
                return Err(Stop::Spent);
            }
            self.tried += 1;
            if !(self.when)(case) {
                return Ok(None);
            }
            let executor_seed = u64::from(self.tried) + 100;
            self.kept.push(Case { executor_seed, ..case.clone() });
            Ok(Some(executor_seed))
        }
    }

    fn reduced(most: u32, when: impl Fn(&Case) -> bool) -> (Case, bool, Vec<Case>) {
        let mut fails = Fails { when, tried: 0, most, kept: vec![] };
        let (best, stopped) = reduce(case(), None, &mut fails);
        (best, stopped.is_ok(), fails.kept)
    }

    #[test]
    fn what_comes_after_it_failed_goes_first() {
        let begun = |failed_ns, most, when: fn(&Case) -> bool| {
            let mut fails = Fails { when, tried: 0, most, kept: vec![] };
            let best = reduce(case(), Some(failed_ns), &mut fails).0;
            (best.faults.len(), best.config.faults_ns / SECOND_NS, best.config.calm_ns / SECOND_NS, best.faults)
        };
        let (faults, faults_s, calm_s, left) = begun(9 * SECOND_NS + 7, 1, |_| true);
        assert_eq!((faults, faults_s, calm_s), (10, 10, 1));
        assert_eq!([1, 2, 9].map(|at: usize| left[at].for_ns / SECOND_NS), [8, 8, 1]);
        let whole = case().config;
        let end_ns = whole.faults_ns + 3 * SECOND_NS;
        let (_, faults_s, calm_s, _) = begun(end_ns - 5, 1, |_| true);
        assert_eq!((faults_s, calm_s), (whole.faults_ns / SECOND_NS, 4), "in the calm");
        let in_full = |case: &Case| case.config.calm_ns == sim::scenario("store").expect("there is one").calm_ns;
        assert_eq!(begun(9 * SECOND_NS, 2, in_full).0, 10, "only later faults can go");
    }

    fn ids(case: &Case) -> Vec<u32> {
        case.faults.iter().map(|fault| fault.id).collect()
    }

    #[test]
    fn the_two_faults_that_matter_are_found_and_nothing_else_is_left() {
        let (best, done, _) = reduced(1000, |case| {
            let has = |id| case.faults.iter().any(|fault| fault.id == id && fault.for_ns >= SECOND_NS);
            has(4) && has(17) && case.config.rate >= 3 && case.config.cluster.as_ref().is_some_and(|it| it.nodes >= 2)
        });
        assert!(done);
        assert_eq!(ids(&best), [4, 17]);
        assert!(best.faults.iter().all(|fault| fault.for_ns == SECOND_NS), "{best:?}");
        assert_eq!(best.config.rate, 4, "30, 15, 8, 4, and 2 is too few");
        let cluster = best.config.cluster.expect("there was one");
        assert_eq!((cluster.nodes, cluster.apps, cluster.pods, cluster.calls_per_s), (2, 1, 1, 1));
        assert_eq!(best.config.faults_ns, 19 * SECOND_NS, "the last fault begins at 17 s and lasts for one");
        assert_eq!(best.config.calm_ns, SECOND_NS);
    }

    #[test]
    fn what_fails_without_faults_has_none_left() {
        let (best, done, _) = reduced(1000, |_| true);
        assert!(done);
        assert!(best.faults.is_empty(), "{best:?}");
    }

    #[test]
    fn only_what_failed_is_kept() {
        let (best, done, kept) = reduced(7, |case| case.faults.iter().any(|fault| fault.kind == Kind::Pause));
        assert!(!done, "seven tries are not enough");
        assert_eq!(kept.last(), Some(&best));
        assert!(best.faults.len() < 24);
    }

    #[test]
    fn what_cannot_be_made_smaller_stays_as_it_is() {
        let (best, done, kept) = reduced(1000, |_| false);
        assert!(done);
        assert_eq!((best, kept), (case(), vec![]));
    }
}
