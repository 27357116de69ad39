//! Performs jobs: the only part of the scheduler that changes the cluster.

use crate::pod::PodInfo;
use crate::schedule::{Failure, Nomination, Preemption};
use crate::scheduler::{Job, Outcome, Task};
use crate::writes;
use api::ObjectExt;
use api::core::v1::Pod;
use client::clock::wall;
use client::{Backoff, Client, Error, Recorder, Write};
use mark::sometimes;
use rt::random::Random;
use std::time::Duration;

/// How often a write about a pod is tried on the version that is there now, when it met another one. A pod that changes
/// faster than that is busy enough without it; its next failure says it again.
const VERSIONS: usize = 3;
/// First wait before a write whose outcome nobody knows is tried again.
const RETRY_BASE: Duration = Duration::from_millis(500);
/// Longest such wait: a few times per lease, in which a leader that reaches nobody is replaced anyway.
const RETRY_LIMIT: Duration = Duration::from_secs(5);
/// Name of the scheduler for those who watch its effects.
const CONTROLLER: &str = "scheduler";

/// Performs jobs for one scheduler in one term.
#[derive(Clone)]
pub(crate) struct Performer {
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    /// Name of the scheduler, as pods name it.
    pub(crate) scheduler: String,
}

/// Another process leads: nothing more may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deposed;

/// What came of a write.
enum Wrote {
    Done,
    Gone,
    Failed,
}

impl Performer {
    /// Does a job to its end.
    pub(crate) async fn perform(&self, job: &Job, random: Random) -> Result<Outcome, Deposed> {
        match &job.task {
            Task::Bind(node) => self.bind(&job.pod, node, random).await,
            Task::Fail(failure) => self.fail(&job.pod, failure).await,
            Task::SayGated => {
                let wrote = self.on_newest(&job.pod, 0, |pod| writes::gated(pod, wall())).await?;
                Ok(match wrote {
                    Wrote::Done => Outcome::Done,
                    Wrote::Gone => Outcome::Gone,
                    Wrote::Failed => Outcome::Failed,
                })
            }
        }
    }

    /// Binds a pod, until it is certain whether it is bound.
    ///
    /// A request whose outcome is unknown may be applied at any later time. To choose another node meanwhile could bind
    /// the pod where nobody counts it, so the same binding is sent until an answer is definite: a pod is bound once.
    async fn bind(&self, pod: &PodInfo, node: &str, mut random: Random) -> Result<Outcome, Deposed> {
        let write = writes::bind(&pod.pod, node);
        let mut backoff = Backoff::new(RETRY_BASE, RETRY_LIMIT);
        let mut under_way = false;
        loop {
            let answer = self.effect(pod, 0, &write).await;
            let mut step = after_answer(&answer, &mut under_way);
            if let BindStep::Read { refused } = step {
                step = after_read(&self.bound_to(pod).await, node, refused, &mut under_way);
            }
            match step {
                BindStep::Bound => {
                    self.recorder.record(&writes::note_scheduled(pod, node));
                    return Ok(Outcome::Done);
                }
                BindStep::Gone => return Ok(Outcome::Gone),
                BindStep::Failed => {
                    tracing::debug!(pod = pod.key(), node, ?answer, "a binding failed");
                    return Ok(Outcome::Failed);
                }
                BindStep::Deposed => return Err(Deposed),
                // What is read afterwards decides for itself.
                BindStep::Read { .. } | BindStep::Again => {}
            }
            rt::time::sleep(backoff.next(&mut random)).await;
        }
    }

    /// Where a pod is bound, by the API server's newest version.
    async fn bound_to(&self, pod: &PodInfo) -> Read {
        match self.client.get::<Pod>(pod.namespace(), pod.name()).await {
            Ok(found) if found.uid() != &*pod.uid => Read::Gone,
            Ok(found) => match found.spec.and_then(|spec| spec.node_name).filter(|node| !node.is_empty()) {
                Some(node) => Read::Node(node),
                None => Read::Unbound,
            },
            Err(error) if error.is_not_found() => Read::Gone,
            Err(_) => Read::Unknown,
        }
    }

    /// Says why a pod fits nowhere. Its nomination is written before anybody is pushed out for it, so that whoever leads
    /// next knows for whom the place is.
    async fn fail(&self, pod: &PodInfo, failure: &Failure) -> Result<Outcome, Deposed> {
        self.recorder.record(&writes::note_failed(pod, &failure.message));
        let say = |pod: &Pod| writes::unschedulable(pod, &failure.message, &failure.nomination, wall());
        let said = self.on_newest(pod, 0, say).await?;
        let preemption = match &failure.nomination {
            Nomination::Keep | Nomination::Clear => None,
            Nomination::Preempt(preemption) => Some(preemption),
        };
        match (said, preemption) {
            (Wrote::Gone, _) => Ok(Outcome::Gone),
            // The pod waits whether or not it says so.
            (Wrote::Done | Wrote::Failed, None) => Ok(Outcome::Done),
            (Wrote::Failed, Some(_)) => Ok(Outcome::Failed),
            (Wrote::Done, Some(preemption)) => self.push_out(pod, preemption).await,
        }
    }

    async fn push_out(&self, pod: &PodInfo, preemption: &Preemption) -> Result<Outcome, Deposed> {
        let mut outcome = Outcome::Done;
        let mut index = 1;
        for other in &preemption.no_longer_nominated {
            // At best effort: that pod's next decision writes it again.
            self.on_newest(other, index, writes::no_longer_nominated).await?;
            index += 1;
        }
        for victim in preemption.victims.iter().filter(|victim| !victim.pod.is_terminating()) {
            let say = |pod: &Pod| writes::preempted(pod, &self.scheduler, wall());
            let said = self.on_newest(victim, index, say).await?;
            if matches!(said, Wrote::Gone) {
                sometimes!("victim of preemption was gone already");
                index += 2;
                continue;
            }
            match self.effect(victim, index + 1, &Write::delete(&*victim.pod)).await {
                Ok(()) => self.recorder.record(&writes::note_preempted(victim, pod, &preemption.node)),
                Err(error) if error.is_stale_fence() => return Err(Deposed),
                // It is gone, or another pod has its name now.
                Err(error) if error.is_not_found() || error.is_conflict() => {}
                Err(_) => {
                    sometimes!("victim of preemption could not be deleted");
                    outcome = Outcome::Failed;
                }
            }
            index += 2;
        }
        Ok(outcome)
    }

    /// Writes about a pod, on its newest version if the one that is known is not it. `None` from `write` is nothing to
    /// be done.
    async fn on_newest(
        &self,
        pod: &PodInfo,
        index: u64,
        write: impl Fn(&Pod) -> Option<Write>,
    ) -> Result<Wrote, Deposed> {
        let mut newest = pod.pod.clone();
        for _ in 0..VERSIONS {
            let Some(write) = write(&newest) else { return Ok(Wrote::Done) };
            match self.effect(pod, index, &write).await {
                Ok(()) => return Ok(Wrote::Done),
                Err(error) if error.is_stale_fence() => return Err(Deposed),
                Err(error) if error.is_not_found() => return Ok(Wrote::Gone),
                Err(error) if error.is_conflict() || error.is_unknown() => {
                    sometimes!("status of a pod was written by others meanwhile");
                }
                Err(error) => {
                    tracing::debug!(pod = pod.key(), %error, "writing about a pod failed");
                    return Ok(Wrote::Failed);
                }
            }
            match self.client.get::<Pod>(pod.namespace(), pod.name()).await {
                Ok(found) if found.uid() == &*pod.uid => newest = found.into(),
                Ok(_) => return Ok(Wrote::Gone),
                Err(error) if error.is_not_found() => return Ok(Wrote::Gone),
                Err(_) => return Ok(Wrote::Failed),
            }
        }
        Ok(Wrote::Failed)
    }

    async fn effect(&self, pod: &PodInfo, index: u64, write: &Write) -> Result<(), Error> {
        let key = pod.key();
        mark::effect(CONTROLLER, &key, index, true);
        let result = self.client.perform(write).await;
        mark::effect(CONTROLLER, &key, index, false);
        result.map(|_| ())
    }
}

/// Where a pod is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Read {
    Node(String),
    Unbound,
    Gone,
    Unknown,
}

/// What to do next about a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BindStep {
    /// It is certain: the pod is bound to the node that was chosen.
    Bound,
    /// It is certain: the pod is gone or elsewhere.
    Gone,
    /// It is certain: the pod is not bound, and nothing that was sent will bind it.
    Failed,
    /// Another process leads.
    Deposed,
    /// Only the pod itself can tell. Whether the binding was refused.
    Read { refused: bool },
    /// Send it once more.
    Again,
}

/// After an answer. `under_way` is whether a binding that was sent may have been done, or may be done later.
fn after_answer(answer: &Result<(), Error>, under_way: &mut bool) -> BindStep {
    let Err(error) = answer else { return BindStep::Bound };
    if error.is_stale_fence() {
        return BindStep::Deposed;
    }
    if error.is_not_found() {
        return BindStep::Gone;
    }
    if error.is_conflict() {
        sometimes!("bind conflict");
        return BindStep::Read { refused: true };
    }
    if error.is_unknown() || error.code() == 504 {
        sometimes!("outcome of a bind is unknown");
        *under_way = true;
        return BindStep::Read { refused: false };
    }
    // What is wrong with the request is wrong with every copy of it.
    let refused = (400..500).contains(&error.code()) && error.code() != 429;
    if refused || !*under_way { BindStep::Failed } else { BindStep::Again }
}

/// After reading the pod, whose binding was `refused` or is not known to be done.
fn after_read(read: &Read, node: &str, refused: bool, under_way: &mut bool) -> BindStep {
    match read {
        Read::Node(bound) if bound == node => {
            sometimes!("bind that was not answered had been done");
            BindStep::Bound
        }
        Read::Node(_) | Read::Gone => BindStep::Gone,
        // Refused for another reason than being bound, such as its deletion.
        Read::Unbound if refused && !*under_way => BindStep::Failed,
        // An earlier copy may still be applied.
        Read::Unbound => BindStep::Again,
        Read::Unknown => {
            *under_way = true;
            BindStep::Again
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Status;
    use expect_test::{Expect, expect};

    fn status(status: Status) -> Result<(), Error> {
        Err(Error::Status(Box::new(status)))
    }

    /// Answers in order, each with what a read would show then.
    fn check(answers: &[(&str, Read)], expected: Expect) {
        let pods = api::resource::of::<Pod>();
        let (mut under_way, mut steps) = (false, Vec::new());
        for (answer, read) in answers {
            let answer = match *answer {
                "ok" => Ok(()),
                "conflict" => status(Status::conflict(pods, "a", "it changed")),
                "stale" => status(Status::conflict(pods, "a", "old").cause(client::error::STALE_FENCE, "", "")),
                "invalid" => status(Status::invalid(pods, "a", &[])),
                "missing" => status(Status::not_found(pods, "a")),
                "busy" => status(Status::too_many_requests("later", 1)),
                "unavailable" => status(Status::unavailable("no leader")),
                "timeout" => status(Status::timeout("no answer")),
                "unreachable" => Err(Error::Unreachable("refused".into())),
                other => Err(Error::Unknown(other.into())),
            };
            let mut step = after_answer(&answer, &mut under_way);
            if let BindStep::Read { refused } = step {
                step = after_read(read, "n1", refused, &mut under_way);
            }
            steps.push(format!("{step:?}"));
        }
        expected.assert_eq(&steps.join(", "));
    }

    fn on(node: &str) -> Read {
        Read::Node(node.to_owned())
    }

    #[test]
    fn a_definite_answer_is_taken_at_its_word() {
        for (answer, expected) in [
            ("ok", expect!["Bound"]),
            ("missing", expect!["Gone"]),
            ("invalid", expect!["Failed"]),
            ("unavailable", expect!["Failed"]),
            ("busy", expect!["Failed"]),
            ("unreachable", expect!["Failed"]),
            ("stale", expect!["Deposed"]),
        ] {
            check(&[(answer, Read::Unknown)], expected);
        }
    }

    #[test]
    fn after_a_conflict_the_pod_says_where_it_is() {
        check(&[("conflict", on("n1"))], expect!["Bound"]);
        check(&[("conflict", on("n2"))], expect!["Gone"]);
        check(&[("conflict", Read::Gone)], expect!["Gone"]);
        check(&[("conflict", Read::Unbound)], expect!["Failed"]);
    }

    #[test]
    fn a_binding_that_may_be_under_way_is_sent_until_it_is_certain() {
        check(&[("lost", on("n1"))], expect!["Bound"]);
        check(&[("lost", Read::Unbound), ("ok", Read::Unknown)], expect!["Again, Bound"]);
        check(&[("timeout", Read::Unbound), ("unavailable", Read::Unknown)], expect!["Again, Again"]);
        check(
            &[("lost", Read::Unknown), ("unreachable", Read::Unknown), ("busy", Read::Unknown)],
            expect!["Again, Again, Again"],
        );
        // Not bound yet is not never.
        check(
            &[("lost", Read::Unbound), ("conflict", Read::Unbound), ("conflict", on("n1"))],
            expect!["Again, Again, Bound"],
        );
        check(&[("lost", Read::Unbound), ("invalid", Read::Unknown)], expect!["Again, Failed"]);
    }
}
