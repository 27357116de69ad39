//! Fixed tracing targets by which product code reports what a trial wants to see.
//!
//! Product code does not know who watches. It says what happens, through `tracing` alone, on these targets:
//!
//! | target | says | written with |
//! |---|---|---|
//! | [`MARK`] | a rare situation came up | [`sometimes!`] |
//! | [`LEAD`] | a member came to lead, ceased to lead, or committed as leader | [`leads`], [`steps_down`], [`commits`] |
//! | [`LEAD`] | a process came to believe, or ceased to believe, that it holds a Lease | [`elected`], [`unelected`] |
//! | [`EFFECT`] | a controller is about to write, or has written | [`effect`] |
//! | [`CONTAINER`] | a container really started, was taken up by a new process, or ended | [`container_started`], [`container_adopted`], [`container_exited`] |
//! | [`CONTAINER`] | a probe's verdict on a container changed | [`probed`] |
//!
//! On a real machine nobody listens on them unless asked, and an event that nobody listens to costs one load. In a
//! trial the simulator's subscriber counts the marks, aims faults at them and judges leadership by them.
//!
//! **Invariant:** a mark's text is a literal, so that a scan of the source can list those that no trial ever reached
//! (`harness/seatrial/build.rs`).

/// Target of [`sometimes!`].
pub const MARK: &str = "mark";
/// Target of [`leads`], [`steps_down`], [`commits`], [`elected`] and [`unelected`].
pub const LEAD: &str = "lead";
/// Target of [`effect`].
pub const EFFECT: &str = "effect";
/// Target of [`container_started`], [`container_adopted`], [`container_exited`], [`container_signalled`] and [`probed`].
pub const CONTAINER: &str = "container";

#[doc(hidden)]
pub use tracing;

/// Says that a rare situation came up: `sometimes!("vote granted")`. The text names the situation, not the code.
#[macro_export]
macro_rules! sometimes {
    ($text:literal) => {
        $crate::tracing::event!(target: "mark", $crate::tracing::Level::INFO, mark = $text)
    };
}

/// Member `member` believes from now on that it leads in `term`.
pub fn leads(member: u64, term: u64) {
    tracing::event!(target: "lead", tracing::Level::INFO, lead = "leads", member, term);
}

/// Member `member` ceased to believe that it leads in `term`.
pub fn steps_down(member: u64, term: u64) {
    tracing::event!(target: "lead", tracing::Level::INFO, lead = "steps down", member, term);
}

/// Member `member`, leading in `term`, counted replicas and so committed up to `index`, an entry of `entry_term`.
pub fn commits(member: u64, term: u64, index: u64, entry_term: u64) {
    tracing::event!(target: "lead", tracing::Level::INFO, lead = "commits", member, term, index, entry_term);
}

/// Process `identity` believes from now on that it holds `lease`, `namespace/name`, in the epoch `transitions`.
pub fn elected(lease: &str, identity: &str, transitions: i64) {
    tracing::event!(target: "lead", tracing::Level::INFO, lead = "elected", lease, identity, transitions);
}

/// Process `identity` ceased to believe that it holds `lease`, `namespace/name`, in the epoch `transitions`.
pub fn unelected(lease: &str, identity: &str, transitions: i64) {
    tracing::event!(target: "lead", tracing::Level::INFO, lead = "unelected", lease, identity, transitions);
}

/// `controller` is about to perform write number `index` of its plan for `key`, or, not `before`, knows what came of it.
pub fn effect(controller: &str, key: &str, index: u64, before: bool) {
    let phase = if before { "before" } else { "after" };
    tracing::event!(target: "effect", tracing::Level::INFO, controller, key, index, phase);
}

/// Container `id`, called `container` in the pod with the UID `pod_uid`, really starts on `node` at this instant.
pub fn container_started(node: &str, pod_uid: &str, container: &str, id: &str) {
    tracing::event!(target: "container", tracing::Level::INFO, container = "started", node, pod_uid, name = container, id);
}

/// Container `id` runs on in a new process of `node`. It may never have started before: then it starts at this instant.
pub fn container_adopted(node: &str, pod_uid: &str, container: &str, id: &str) {
    tracing::event!(target: "container", tracing::Level::INFO, container = "adopted", node, pod_uid, name = container, id);
}

/// Container `id` on `node` ends at this instant with this exit code.
pub fn container_exited(node: &str, pod_uid: &str, container: &str, id: &str, code: i32) {
    tracing::event!(
        target: "container", tracing::Level::INFO, container = "exited", node, pod_uid, name = container, id, code
    );
}

/// Container `id` on `node` is asked to end (`SIGTERM`) or killed (`SIGKILL`) at this instant.
pub fn container_signalled(node: &str, pod_uid: &str, container: &str, id: &str, signal: &str) {
    tracing::event!(
        target: "container", tracing::Level::INFO, container = "signalled", node, pod_uid, name = container, id, signal
    );
}

/// The verdict of a probe (`startup`, `liveness`, `readiness`) on container `id` is `success` from now on.
pub fn probed(node: &str, pod_uid: &str, container: &str, id: &str, probe: &str, success: bool) {
    tracing::event!(
        target: "container", tracing::Level::INFO, container = "probed", node, pod_uid, name = container, id, probe, success
    );
}
