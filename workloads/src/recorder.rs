//! Collects what clients asked and were told, and what watchers were sent.
//!
//! One recorder serves all clients of a trial. Every clone collects into the same place, and whoever runs the trial
//! says what time it is and may listen to each thing as it happens.
//!
//! **Invariant:** operations are numbered from 0 in the order of their invocation, and stand at their number
//! (`operations_stand_at_their_number`).

use record::{Call, Operation, Outcome, Request, UserWrite, Watch, WatchEnd, WatchMessage};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// True time since the trial began, in nanoseconds.
pub type Ns = u64;

/// Collects a trial's history. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    now: Box<dyn Fn() -> Ns + Send + Sync>,
    listen: Box<dyn Fn(&Happening<'_>) + Send + Sync>,
    history: Mutex<Collected>,
}

#[derive(Default)]
struct Collected {
    operations: Vec<Operation>,
    watches: Vec<Watch>,
    writes: Vec<UserWrite>,
    calls: Vec<Call>,
    newest_revision: i64,
}

/// Something that a recorder was told, for whoever listens.
#[derive(Debug)]
pub enum Happening<'a> {
    /// A client asked; the outcome is not known yet.
    Invoked(&'a Operation),
    /// It had its answer, or gave up.
    Completed(&'a Operation),
    /// A watch was asked for.
    WatchOpened {
        /// Its number in the trial.
        watch: usize,
        /// As it stands.
        state: &'a Watch,
    },
    /// A watch was sent something.
    WatchSent {
        /// Its number in the trial.
        watch: usize,
        /// What it was sent.
        message: &'a WatchMessage,
    },
    /// A watch ended.
    WatchEnded {
        /// Its number in the trial.
        watch: usize,
        /// As it stands.
        state: &'a Watch,
    },
    /// A user of the API was answered, or gave up.
    Wrote(&'a UserWrite),
    /// A call of a Service was answered, or was given up.
    Called(&'a Call),
}

/// What a recorder collected.
#[derive(Debug)]
pub struct Finished {
    /// In order of invocation.
    pub operations: Vec<Operation>,
    /// In order of opening.
    pub watches: Vec<Watch>,
    /// In order of invocation.
    pub writes: Vec<UserWrite>,
    /// In order of invocation.
    pub calls: Vec<Call>,
}

/// An operation under way: to be handed back with its outcome.
#[derive(Debug)]
#[must_use = "an operation that is not completed counts as unknown"]
pub struct UnderWay {
    id: u64,
}

/// A watch that is open: to be handed back when it ends.
#[derive(Debug)]
#[must_use = "a watch that is not ended counts as open until the end of the trial"]
pub struct OpenWatch {
    index: usize,
}

/// What an operation that never completed is recorded with.
const NO_ANSWER: &str = "no answer before the end of the trial";

impl Recorder {
    /// A recorder for which it is `now()`, and which tells `listen` of everything.
    ///
    /// `listen` is called while the recorder is locked: it must not call back.
    pub fn new(
        now: impl Fn() -> Ns + Send + Sync + 'static,
        listen: impl Fn(&Happening<'_>) + Send + Sync + 'static,
    ) -> Self {
        let history = Mutex::new(Collected::default());
        Self { shared: Arc::new(Shared { now: Box::new(now), listen: Box::new(listen), history }) }
    }

    /// True time since the trial began.
    pub fn now_ns(&self) -> Ns {
        (self.shared.now)()
    }

    /// The newest revision that any client was told of.
    pub fn newest_revision(&self) -> i64 {
        self.collected().newest_revision
    }

    /// `client` asks `request` now.
    pub fn invoke(&self, client: u32, request: Request) -> UnderWay {
        let at_ns = self.now_ns();
        let mut collected = self.collected();
        let id = collected.operations.len() as u64;
        let outcome = Outcome::Unknown { why: NO_ANSWER.to_owned() };
        let operation = Operation { id, client, invoked_ns: at_ns, completed_ns: Ns::MAX, request, outcome };
        (self.shared.listen)(&Happening::Invoked(&operation));
        collected.operations.push(operation);
        UnderWay { id }
    }

    /// Its outcome is known now.
    #[expect(clippy::needless_pass_by_value, reason = "an operation completes once")]
    pub fn complete(&self, under_way: UnderWay, outcome: Outcome) {
        let at_ns = self.now_ns();
        let mut guard = self.collected();
        let collected = &mut *guard;
        if let Outcome::Ok { revision, .. } = &outcome {
            collected.newest_revision = collected.newest_revision.max(*revision);
        }
        // A client that outlives the trial's end has nothing left to complete.
        let Some(operation) = collected.operations.get_mut(under_way.id as usize) else { return };
        operation.completed_ns = at_ns;
        operation.outcome = outcome;
        (self.shared.listen)(&Happening::Completed(operation));
    }

    /// `client` asks to watch `range` from `start_revision` on.
    pub fn open_watch(&self, client: u32, range: record::KeyRange, start_revision: i64) -> OpenWatch {
        let opened_ns = self.now_ns();
        let mut collected = self.collected();
        let index = collected.watches.len();
        let end = WatchEnd::Closed;
        let state = Watch { client, range, start_revision, opened_ns, messages: Vec::new(), end, ended_ns: Ns::MAX };
        (self.shared.listen)(&Happening::WatchOpened { watch: index, state: &state });
        collected.watches.push(state);
        OpenWatch { index }
    }

    /// The watch was sent this, at the time that it says.
    pub fn watch_sent(&self, watch: &OpenWatch, message: WatchMessage) {
        let mut guard = self.collected();
        let collected = &mut *guard;
        collected.newest_revision = collected.newest_revision.max(message.revision);
        let Some(state) = collected.watches.get_mut(watch.index) else { return };
        state.messages.push(message);
        let sent = state.messages.last().expect("it was just pushed");
        (self.shared.listen)(&Happening::WatchSent { watch: watch.index, message: sent });
    }

    /// The watch ended now.
    #[expect(clippy::needless_pass_by_value, reason = "a watch ends once")]
    pub fn watch_ended(&self, watch: OpenWatch, end: WatchEnd) {
        let at_ns = self.now_ns();
        let mut collected = self.collected();
        let Some(state) = collected.watches.get_mut(watch.index) else { return };
        state.end = end;
        state.ended_ns = at_ns;
        (self.shared.listen)(&Happening::WatchEnded { watch: watch.index, state });
    }

    /// A user of the API was answered, or gave up.
    pub fn wrote(&self, write: UserWrite) {
        (self.shared.listen)(&Happening::Wrote(&write));
        self.collected().writes.push(write);
    }

    /// A call of a Service was answered, or was given up.
    pub fn called(&self, call: Call) {
        (self.shared.listen)(&Happening::Called(&call));
        self.collected().calls.push(call);
    }

    /// Takes everything collected; what comes later is not recorded. What is still under way has no outcome but that the
    /// trial is over.
    pub fn finish(&self) -> Finished {
        let at_ns = self.now_ns();
        let collected = std::mem::take(&mut *self.collected());
        let (mut operations, mut watches) = (collected.operations, collected.watches);
        for operation in operations.iter_mut().filter(|operation| operation.completed_ns == Ns::MAX) {
            operation.completed_ns = at_ns;
        }
        for watch in watches.iter_mut().filter(|watch| watch.ended_ns == Ns::MAX) {
            watch.ended_ns = at_ns;
        }
        let (mut writes, mut calls) = (collected.writes, collected.calls);
        // They were noted when they ended; of those that began together the order of ends is kept.
        writes.sort_by_key(|write| write.invoked_ns);
        calls.sort_by_key(|call| call.invoked_ns);
        Finished { operations, watches, writes, calls }
    }

    /// A client that panicked while it was recording leaves whole entries behind, so that poison means nothing.
    fn collected(&self) -> MutexGuard<'_, Collected> {
        self.shared.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::{KeyRange, Reply};
    use std::sync::atomic::{AtomicU64, Ordering};

    fn recorder() -> Recorder {
        let clock = AtomicU64::new(0);
        Recorder::new(move || clock.fetch_add(1, Ordering::Relaxed), |_| {})
    }

    fn read() -> Request {
        Request::Read { range: KeyRange::key("k"), revision: 0 }
    }

    fn done(revision: i64) -> Outcome {
        Outcome::Ok { revision, member: 0, reply: Reply::Done }
    }

    #[test]
    fn operations_stand_at_their_number() {
        let recorder = recorder();
        let (first, second) = (recorder.invoke(0, read()), recorder.invoke(1, read()));
        recorder.complete(second, done(5));
        recorder.complete(first, done(4));
        assert_eq!(recorder.newest_revision(), 5);
        let operations = recorder.finish().operations;
        assert!(operations.iter().enumerate().all(|(number, operation)| operation.id == number as u64));
        let times: Vec<(Ns, Ns)> = operations.iter().map(|op| (op.invoked_ns, op.completed_ns)).collect();
        assert_eq!(times, [(0, 3), (1, 2)]);
    }

    #[test]
    fn what_is_under_way_at_the_end_is_unknown() {
        let recorder = recorder();
        let _abandoned = recorder.invoke(0, read());
        let _open = recorder.open_watch(7, KeyRange::key("k"), 3);
        let Finished { operations, watches, .. } = recorder.finish();
        assert!(matches!(operations[0].outcome, Outcome::Unknown { .. }));
        assert_eq!((operations[0].completed_ns, watches[0].ended_ns), (2, 2));
    }
}
