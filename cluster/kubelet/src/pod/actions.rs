//! What is to be done next about one pod: [`pod_actions`].
//!
//! Ends are asked for as soon as they are due, any number at once ([`Stop`]). Everything else is one [`Step`] at a time,
//! so that whatever comes between is seen before the next one.

use super::life::Life;
use super::record::{Facts, Record, Verdict};
use super::status;
use crate::runtime::Listing;
use api::core::v1::{Pod, PodStatus};
use client::{Note, Now};
use std::net::IpAddr;
use std::time::Duration;

/// All that a decision about one pod sees.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// As the API has it, or had it last.
    pub pod: &'a Pod,
    /// What is wanted of it.
    pub wanted: Wanted,
    /// What is durable of it.
    pub record: &'a Record,
    /// What the runtime has of it.
    pub listing: &'a Listing,
    /// What the agent knows of it.
    pub facts: &'a Facts,
    /// The node's own address.
    pub node_ip: IpAddr,
    /// The runtime's name, which begins container ids in a status.
    pub runtime: &'a str,
    /// The status that was decided last, or that the API has.
    pub previous: &'a PodStatus,
    /// The time.
    pub now: Now,
}

/// What is wanted of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It is bound here.
    Run,
    /// Its deletion was asked for, or it is gone from the API.
    End,
}

/// What is to be done about a pod.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What must be durable before the step is done.
    pub record: Record,
    /// Containers that are to end, all at once.
    pub stops: Vec<Stop>,
    /// What else is to be done now.
    pub step: Option<Step>,
    /// What the API should show.
    pub status: PodStatus,
    /// Decide again at this time of the monotonic clock even if nothing changes.
    pub wake: Option<Duration>,
    /// Events for people.
    pub notes: Vec<Note>,
    /// Since when the pod is ending, if it is.
    pub ending: Option<Duration>,
    /// Nothing of the pod is left on this node, and nothing will come.
    pub ended: bool,
}

/// A container that is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Its id.
    pub id: String,
    /// Its name.
    pub container: String,
    /// How long it has.
    pub grace: Duration,
    /// For people.
    pub message: String,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the pod's sandbox.
    CreateSandbox {
        /// The how manieth, from 0.
        attempt: u32,
    },
    /// Fetch the image, create and start a container.
    Start {
        /// Its name.
        container: String,
        /// The how manieth start, from 0.
        attempt: u32,
    },
    /// Forget a dead container.
    RemoveContainer {
        /// Its id.
        id: String,
    },
    /// Forget a sandbox and what is in it.
    RemoveSandbox {
        /// Its id.
        id: String,
    },
}

/// Decides about one pod. Holds no state between calls.
pub fn pod_actions(view: &View<'_>) -> Decision {
    let mut life = Life::new(view);
    life.take_note();
    life.judge();
    let ending = view.wanted == Wanted::End || life.record.verdict.is_some() || life.is_complete();
    let mut ended = false;
    if ending {
        ended = life.end();
    } else {
        life.run();
    }
    let status = status::status(&life, ending);
    if life.record.verdict.is_none() && matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        life.record.verdict = Some(Verdict::Over {
            succeeded: status.phase.as_deref() == Some("Succeeded"),
            reason: status.reason.clone().unwrap_or_default(),
            message: status.message.clone().unwrap_or_default(),
        });
    }
    life.note_backoff(&status);
    Decision {
        record: life.planned.unwrap_or(life.record),
        stops: life.stops,
        step: life.step,
        status,
        wake: life.wake,
        notes: life.notes,
        ending: ending.then(|| view.facts.ending.unwrap_or(view.now.monotonic)),
        ended,
    }
}
