//! Probes: what they find ([`Count`], pure) and how they look ([`look`], over the network as any client).

mod look;

pub use look::{Look, perform};

use crate::runtime::ContainerRuntime;
use api::core::v1::{Container, Pod, Probe};
use rt::random::Random;
use rt::task::AbortOnDrop;
use rt::time::{Instant, sleep_until};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Until it succeeds, the others wait.
    Startup,
    /// Its failure has the container started anew.
    Liveness,
    /// Its failure takes the container out of its Services.
    Readiness,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Startup, Kind::Liveness, Kind::Readiness];

    /// As events begin with it.
    pub fn title(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Liveness => "Liveness",
            Kind::Readiness => "Readiness",
        }
    }

    /// As marks have it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Startup => "startup",
            Kind::Liveness => "liveness",
            Kind::Readiness => "readiness",
        }
    }

    /// The probe of this kind that a container has.
    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Kind::Startup => container.startup_probe.as_ref(),
            Kind::Liveness => container.liveness_probe.as_ref(),
            Kind::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

/// Counts a probe's results: only so many in a row change its verdict.
#[derive(Clone, Debug)]
pub struct Count {
    kind: Kind,
    success: u32,
    failure: u32,
    /// The latest result, and how often in a row.
    run: Option<(bool, u32)>,
    verdict: Option<bool>,
}

impl Count {
    /// Of a probe, with the verdict that holds so far.
    pub fn new(kind: Kind, probe: &Probe, verdict: Option<bool>) -> Self {
        let threshold = |set: Option<i32>, default| {
            set.and_then(|it| u32::try_from(it).ok()).filter(|it| *it > 0).unwrap_or(default)
        };
        Count {
            kind,
            success: threshold(probe.success_threshold, 1),
            failure: threshold(probe.failure_threshold, 3),
            run: None,
            verdict,
        }
    }

    /// Takes a result in. Says the verdict if it changed.
    pub fn take(&mut self, success: bool) -> Option<bool> {
        let length = match self.run {
            Some((same, length)) if same == success => length.saturating_add(1),
            Some(_) | None => 1,
        };
        self.run = Some((success, length));
        let needed = if success { self.success } else { self.failure };
        if length < needed || self.verdict == Some(success) {
            return None;
        }
        self.verdict = Some(success);
        Some(success)
    }

    /// Whether nothing further is of interest: the container is to be started anew, or has started.
    pub fn is_decided(&self) -> bool {
        match self.kind {
            Kind::Startup => self.verdict.is_some(),
            Kind::Liveness => self.verdict == Some(false),
            Kind::Readiness => false,
        }
    }

    /// Whether the latest result is the first failure of its row.
    pub fn is_first_failure(&self) -> bool {
        self.run == Some((false, 1))
    }
}

/// What a probe reports.
#[derive(Clone, Debug)]
pub struct Report {
    /// The pod's UID.
    pub pod_uid: String,
    /// The container's name.
    pub container: String,
    /// The container's id.
    pub id: String,
    /// Which probe.
    pub kind: Kind,
    /// The verdict, if it changed.
    pub verdict: Option<bool>,
    /// What went wrong, if this is the first failure in a row.
    pub failure: Option<String>,
}

/// A container that is to be probed.
pub struct Subject {
    /// The pod.
    pub pod: Arc<Pod>,
    /// The container's name.
    pub container: String,
    /// Its id.
    pub id: String,
    /// The pod's address.
    pub ip: IpAddr,
    /// How long it has run already.
    pub age: Duration,
    /// The verdict that holds so far.
    pub verdict: Option<bool>,
    /// Whether it ran before the agent: then the first look is at a random moment of the period, so that an agent that
    /// starts does not look at everything at once.
    pub before: bool,
}

/// Probes a container again and again and reports changes, until dropped. `None` if it has no such probe.
pub fn watch<M: From<Report> + Send + 'static>(
    subject: Subject,
    kind: Kind,
    runtime: Arc<dyn ContainerRuntime>,
    reports: mpsc::Sender<M>,
    mut random: Random,
) -> Option<AbortOnDrop<()>> {
    let named = crate::pod::containers(&subject.pod).into_iter().find(|it| it.name() == subject.container)?;
    let probe = kind.of(named.container)?;
    let seconds =
        |set: Option<i32>, default| Duration::from_secs(set.and_then(|it| u64::try_from(it).ok()).unwrap_or(default));
    let period = seconds(probe.period_seconds, 10).max(Duration::from_secs(1));
    let limit = seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1));
    let first = seconds(probe.initial_delay_seconds, 0).saturating_sub(subject.age);
    let first = if subject.before { first + random.jitter(period) } else { first };
    let look = Look::of(probe, named.container, subject.ip);
    let count = Count::new(kind, probe, subject.verdict);
    let next = Instant::now() + first;
    let pod_uid = subject.pod.metadata.uid.clone().unwrap_or_default();
    let report = Report { pod_uid, container: subject.container, id: subject.id, kind, verdict: None, failure: None };
    let task = Watching { look, count, next, period, limit, report };
    Some(rt::task::spawn("kubelet-probe", task.run(runtime, reports)).abort_on_drop())
}

/// A probe that is being run.
struct Watching {
    look: Look,
    count: Count,
    next: Instant,
    period: Duration,
    limit: Duration,
    /// Of whom it reports.
    report: Report,
}

impl Watching {
    async fn run<M: From<Report>>(mut self, runtime: Arc<dyn ContainerRuntime>, reports: mpsc::Sender<M>) {
        while !self.count.is_decided() {
            sleep_until(self.next).await;
            let found = self.look.run(&*runtime, &self.report.id, self.limit).await;
            let verdict = self.count.take(found.is_ok());
            let failure = found.err().filter(|_| self.count.is_first_failure());
            if verdict.is_some() || failure.is_some() {
                let report = Report { verdict, failure, ..self.report.clone() };
                if reports.send(report.into()).await.is_err() {
                    return;
                }
            }
            // A look that took longer than the period skips the moments that it missed.
            let now = Instant::now();
            while self.next <= now {
                self.next = self.next + self.period;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// `s` and `f`: results; after each the verdict if it changed.
    fn check(kind: Kind, success: i32, failure: i32, results: &str, expect: Expect) {
        let probe = Probe { success_threshold: Some(success), failure_threshold: Some(failure), ..Probe::default() };
        let mut count = Count::new(kind, &probe, None);
        let shown = results.chars().map(|result| match count.take(result == 's') {
            Some(true) => format!("{result}:yes"),
            Some(false) => format!("{result}:no"),
            None => result.to_string(),
        });
        let shown: Vec<String> = shown.collect();
        expect.assert_eq(&format!("{} decided={}", shown.join(" "), count.is_decided()));
    }

    #[test]
    fn only_a_row_of_failures_changes_the_verdict() {
        check(Kind::Readiness, 1, 3, "sffsfff", expect!["s:yes f f s f f f:no decided=false"]);
        check(Kind::Readiness, 2, 1, "sfssf", expect!["s f:no s s:yes f:no decided=false"]);
    }

    #[test]
    fn startup_is_decided_once_and_liveness_by_failure_alone() {
        check(Kind::Startup, 1, 3, "ffs", expect!["f f s:yes decided=true"]);
        check(Kind::Startup, 1, 3, "fff", expect!["f f f:no decided=true"]);
        check(Kind::Liveness, 1, 2, "sff", expect!["s:yes f f:no decided=true"]);
    }
}
