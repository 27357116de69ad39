//! How many requests are answered at once, and whose turn it is: a small form of API Priority and Fairness.
//!
//! ```text
//! request -> exempt? -> level (who asks, what for) -> a seat is free? -> answered
//!                                                       | waits: flows in turn, each in its order
//!                                                       '-> too many wait, or it waited too long: 429
//! ```
//!
//! The levels, their shares and who is of which are upstream's built-in configuration (KEP-1040,
//! <https://kubernetes.io/docs/concepts/cluster-administration/flow-control/>). It cannot be changed by objects, a flow has a
//! queue of its own instead of a hand of shuffled ones, and no level borrows seats of another. Long answers, such as watches,
//! take a seat only until they begin.
//!
//! **Invariant:** a level never executes more requests than it has seats, and no seat is lost
//! (`whoever_gives_up_leaves_no_seat_behind`).

use crate::auth::{Attributes, User};
use api::Status;
use mark::sometimes;
use rt::time::timeout;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// So many requests of one flow wait at most: upstream's bound of a queue.
const MAX_WAITING: usize = 50;
/// So many requests wait at one level at most: as many as upstream's 64 queues hold.
const MAX_WAITING_AT_LEVEL: usize = 64 * MAX_WAITING;
/// How long a request waits: a quarter of the minute that it may take, as upstream's.
const MAX_WAIT: Duration = Duration::from_secs(15);
/// When whoever was refused should come back, in seconds: upstream's.
const RETRY_AFTER_S: i32 = 1;
/// Service accounts whose Endpoints have a flow of their own.
const ENDPOINT_CONTROLLERS: [&str; 2] = [
    "system:serviceaccount:kube-system:endpoint-controller",
    "system:serviceaccount:kube-system:endpointslicemirroring-controller",
];

/// A share of the server, for requests of one importance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Leases by which the control plane elects its leaders.
    LeaderElection,
    /// What tells that nodes live.
    NodeHigh,
    /// Whatever else nodes do.
    System,
    /// Controllers and scheduler.
    WorkloadHigh,
    /// Service accounts.
    WorkloadLow,
    /// Everybody who is known.
    GlobalDefault,
    /// Everybody else. Nobody waits here.
    CatchAll,
}

impl Level {
    /// All of them, in order.
    pub const ALL: [Level; 7] = [
        Level::LeaderElection,
        Level::NodeHigh,
        Level::System,
        Level::WorkloadHigh,
        Level::WorkloadLow,
        Level::GlobalDefault,
        Level::CatchAll,
    ];

    /// Upstream's name.
    pub fn name(self) -> &'static str {
        match self {
            Level::LeaderElection => "leader-election",
            Level::NodeHigh => "node-high",
            Level::System => "system",
            Level::WorkloadHigh => "workload-high",
            Level::WorkloadLow => "workload-low",
            Level::GlobalDefault => "global-default",
            Level::CatchAll => "catch-all",
        }
    }

    /// Upstream's `nominalConcurrencyShares`.
    fn shares(self) -> usize {
        match self {
            Level::LeaderElection => 10,
            Level::NodeHigh | Level::WorkloadHigh => 40,
            Level::System => 30,
            Level::WorkloadLow => 100,
            Level::GlobalDefault => 20,
            Level::CatchAll => 5,
        }
    }

    /// Its seats, if all levels together have about `total`: at least one.
    fn seats(self, total: usize) -> usize {
        let all: usize = Level::ALL.iter().map(|level| level.shares()).sum();
        (total * self.shares()).div_ceil(all).max(1)
    }

    fn waits(self) -> bool {
        self != Level::CatchAll
    }
}

/// Requests that wait in one queue: those of one user, or about one namespace, that one of upstream's FlowSchemas matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    schema: &'static str,
    of: String,
}

impl Flow {
    /// Of the FlowSchema of that name, what has this distinguisher: a user's name or a namespace.
    pub fn new(schema: &'static str, of: &str) -> Self {
        Self { schema, of: of.to_owned() }
    }
}

/// At which level a request is answered, and as part of which flow; `None`: at once. The first FlowSchema that fits, in the
/// order of upstream's `matchingPrecedence`. Pure.
pub fn classify(user: &User, asks: &Attributes<'_>) -> Option<(Level, Flow)> {
    let is_of = |group: &str| user.groups.iter().any(|its| its == group);
    let known_or_not = is_of("system:authenticated") || is_of("system:unauthenticated");
    let probes =
        asks.verb == "get" && asks.resource.is_empty() && ["/healthz", "/livez", "/readyz"].contains(&asks.path);
    if is_of("system:masters") || (probes && known_or_not) {
        return None;
    }
    let manages = user.name == "system:kube-controller-manager";
    let schedules = user.name == "system:kube-scheduler";
    let of_system = is_of("system:serviceaccounts:kube-system");
    let is_node = is_of("system:nodes");
    let makes_endpoints = ENDPOINT_CONTROLLERS.contains(&&*user.name);
    let settles = matches!(asks.verb, "get" | "create" | "update");
    let lease = (asks.group, asks.resource) == ("coordination.k8s.io", "leases");
    let node = (asks.group, asks.resource) == ("", "nodes");
    let endpoints = (asks.group, asks.resource) == ("", "endpoints");
    let (level, schema, of) = match () {
        () if lease && settles && (manages || schedules || of_system) => {
            (Level::LeaderElection, "system-leader-election", &*user.name)
        }
        () if endpoints && settles && (manages || makes_endpoints) => {
            (Level::WorkloadHigh, "endpoint-controller", &*user.name)
        }
        () if is_node && (lease || node) => (Level::NodeHigh, "system-node-high", &*user.name),
        () if is_node => (Level::System, "system-nodes", &*user.name),
        () if manages => (Level::WorkloadHigh, "kube-controller-manager", asks.namespace),
        () if schedules => (Level::WorkloadHigh, "kube-scheduler", asks.namespace),
        () if of_system => (Level::WorkloadHigh, "kube-system-service-accounts", asks.namespace),
        () if is_of("system:serviceaccounts") => (Level::WorkloadLow, "service-accounts", &*user.name),
        () if known_or_not => (Level::GlobalDefault, "global-default", &*user.name),
        () => (Level::CatchAll, "catch-all", &*user.name),
    };
    Some((level, Flow::new(schema, of)))
}

/// One level as it is at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelView {
    /// Requests that may be answered at once.
    pub seats: usize,
    /// Requests that are.
    pub executing: usize,
    /// Requests that wait for it.
    pub waiting: usize,
    /// Requests that were refused so far.
    pub refused: u64,
}

/// All levels of one server.
#[derive(Debug)]
pub struct Fairness {
    queues: BTreeMap<Level, Arc<Mutex<Queue>>>,
    max_wait: Duration,
}

impl Fairness {
    /// With about so many seats in all.
    pub fn new(total: usize) -> Self {
        let queue = |level: Level| Arc::new(Mutex::new(Queue { seats: level.seats(total), ..Queue::default() }));
        Self { queues: Level::ALL.into_iter().map(|level| (level, queue(level))).collect(), max_wait: MAX_WAIT }
    }

    /// Returns when the request's turn has come, which it is until the seat is dropped.
    ///
    /// # Errors
    /// 429: too many wait already, or it has waited too long.
    pub async fn enter(&self, level: Level, flow: Flow) -> Result<Seat, Status> {
        let Some(queue) = self.queues.get(&level) else { return Err(Status::internal("an unknown level")) };
        let asked = lock(queue).ask(&flow, level.waits());
        let (ticket, turn) = match asked {
            Asked::Seated => return Ok(Seat { queue: Some(Arc::clone(queue)) }),
            Asked::Waits(ticket, turn) => (ticket, turn),
            Asked::Refused => {
                sometimes!("request refused: too many wait");
                return Err(refused());
            }
        };
        sometimes!("request waits for a seat");
        // Dropped with this future too, wherever it is then: a seat that was given meanwhile goes back as the receiver goes.
        let _waiting = Waiting { queue, flow, ticket };
        if let Ok(Ok(seat)) = timeout(self.max_wait, turn).await {
            return Ok(seat);
        }
        sometimes!("request refused: it waited too long");
        lock(queue).refused += 1;
        Err(refused())
    }

    /// How they stand.
    pub fn view(&self) -> BTreeMap<&'static str, LevelView> {
        self.queues.iter().map(|(level, queue)| (level.name(), lock(queue).view())).collect()
    }
}

fn refused() -> Status {
    Status::too_many_requests("Too many requests, please try again later.", RETRY_AFTER_S)
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The right to be answered now.
#[derive(Debug)]
pub struct Seat {
    /// `None` once it was passed on.
    queue: Option<Arc<Mutex<Queue>>>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(queue) = &self.queue else { return };
        loop {
            // Given without the lock: whoever does not take it any more drops it at once.
            let Some(turn) = lock(queue).leave() else { return };
            match turn.send(Seat { queue: Some(Arc::clone(queue)) }) {
                Ok(()) => return,
                Err(mut seat) => seat.queue = None,
            }
        }
    }
}

/// A request that waits. However that ends, it is in no queue afterwards.
struct Waiting<'a> {
    queue: &'a Mutex<Queue>,
    flow: Flow,
    ticket: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(self.queue).forget(&self.flow, self.ticket);
    }
}

/// One level.
#[derive(Debug, Default)]
struct Queue {
    seats: usize,
    executing: usize,
    /// By flow, who waits; none of them is empty.
    flows: BTreeMap<Flow, VecDeque<(u64, oneshot::Sender<Seat>)>>,
    /// In all of them.
    waiting: usize,
    /// The flow whose turn it was last.
    last: Flow,
    tickets: u64,
    refused: u64,
}

enum Asked {
    Seated,
    Waits(u64, oneshot::Receiver<Seat>),
    Refused,
}

impl Queue {
    fn ask(&mut self, flow: &Flow, waits: bool) -> Asked {
        if self.executing < self.seats {
            self.executing += 1;
            return Asked::Seated;
        }
        let of_flow = self.flows.get(flow).map_or(0, VecDeque::len);
        if !waits || of_flow >= MAX_WAITING || self.waiting >= MAX_WAITING_AT_LEVEL {
            self.refused += 1;
            return Asked::Refused;
        }
        self.tickets += 1;
        let (give, turn) = oneshot::channel();
        self.flows.entry(flow.clone()).or_default().push_back((self.tickets, give));
        self.waiting += 1;
        Asked::Waits(self.tickets, turn)
    }

    /// A seat is free: whose turn it is now, if anybody waits; it stays taken then.
    fn leave(&mut self) -> Option<oneshot::Sender<Seat>> {
        let after = self.flows.range((Bound::Excluded(&self.last), Bound::Unbounded)).next();
        let Some(flow) = after.or_else(|| self.flows.iter().next()).map(|(flow, _)| flow.clone()) else {
            self.executing -= 1;
            return None;
        };
        let waiting = self.flows.get_mut(&flow)?;
        let turn = waiting.pop_front().map(|(_, turn)| turn);
        self.waiting -= 1;
        if waiting.is_empty() {
            self.flows.remove(&flow);
        }
        self.last = flow;
        turn
    }

    fn forget(&mut self, flow: &Flow, ticket: u64) {
        if let Some(waiting) = self.flows.get_mut(flow) {
            let before = waiting.len();
            waiting.retain(|(its, _)| *its != ticket);
            self.waiting -= before - waiting.len();
            if waiting.is_empty() {
                self.flows.remove(flow);
            }
        }
    }

    fn view(&self) -> LevelView {
        LevelView { seats: self.seats, executing: self.executing, waiting: self.waiting, refused: self.refused }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    /// `level schema of` of a request about `what`: `group/namespace/resource`, or a path that is no resource's.
    fn seat_of(name: &str, groups: &[&str], verb: &str, what: &str) -> String {
        let parts: Vec<&str> = what.split('/').collect();
        let asks = match parts[..] {
            // The core group is written as a dash, because its name is empty.
            [group, namespace, resource] if !group.is_empty() => {
                Attributes { verb, group: group.trim_matches('-'), namespace, resource, ..Attributes::default() }
            }
            _ => Attributes { verb, path: what, ..Attributes::default() },
        };
        classify(&User::new(name, groups), &asks)
            .map_or("exempt".to_owned(), |(level, flow)| format!("{} {} {}", level.name(), flow.schema, flow.of))
    }

    #[test]
    fn who_asks_for_what_is_of_which_level() {
        let known = "system:authenticated";
        let accounts = ["system:serviceaccounts:kube-system", "system:serviceaccounts", known];
        let node = |verb, what| seat_of("system:node:n1", &["system:nodes", known], verb, what);
        let manager = |verb, what| seat_of("system:kube-controller-manager", &[known], verb, what);
        let scheduler = |verb, what| seat_of("system:kube-scheduler", &[known], verb, what);
        let system = |verb, what| seat_of("system:serviceaccount:kube-system:gc", &accounts, verb, what);
        let lease = "coordination.k8s.io/shop/leases";
        let table = [
            (manager("update", lease), "leader-election system-leader-election system:kube-controller-manager"),
            (scheduler("get", lease), "leader-election system-leader-election system:kube-scheduler"),
            (system("create", lease), "leader-election system-leader-election system:serviceaccount:kube-system:gc"),
            (manager("list", lease), "workload-high kube-controller-manager shop"),
            (manager("update", "-/shop/endpoints"), "workload-high endpoint-controller system:kube-controller-manager"),
            (manager("create", "-/shop/pods"), "workload-high kube-controller-manager shop"),
            (scheduler("create", "-/shop/pods"), "workload-high kube-scheduler shop"),
            (system("create", "-/shop/pods"), "workload-high kube-system-service-accounts shop"),
            (node("update", "coordination.k8s.io/kube-node-lease/leases"), "node-high system-node-high system:node:n1"),
            (node("patch", "-//nodes"), "node-high system-node-high system:node:n1"),
            (node("create", "events.k8s.io/shop/events"), "system system-nodes system:node:n1"),
            (
                seat_of("system:serviceaccount:a:b", &accounts[1..], "get", "apps/a/deployments"),
                "workload-low service-accounts system:serviceaccount:a:b",
            ),
            (seat_of("ann", &[known], "get", "/version"), "global-default global-default ann"),
            (seat_of("ann", &[known], "update", lease), "global-default global-default ann"),
            (seat_of("nobody", &[], "get", "/version"), "catch-all catch-all nobody"),
        ];
        for (found, wanted) in table {
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn masters_and_health_are_exempt_and_what_looks_like_them_is_not() {
        fn anybody(verb: &str, what: &str) -> String {
            seat_of("system:anonymous", &["system:unauthenticated"], verb, what)
        }
        assert_eq!(seat_of("admin", &["system:masters"], "list", "-/a/pods"), "exempt");
        assert_ne!(seat_of("system:masters", &["system:masters2"], "list", "-/a/pods"), "exempt");
        for path in ["/healthz", "/livez", "/readyz"] {
            assert_eq!(anybody("get", path), "exempt");
            assert_ne!(anybody("post", path), "exempt");
            for more in ["/etcd", "/", "s", "x/y/z"] {
                assert_ne!(anybody("get", &format!("{path}{more}")), "exempt", "{path}{more}");
            }
        }
    }

    #[test]
    fn seats_follow_the_shares_and_none_has_none() {
        let seats = |total| Level::ALL.map(|level| level.seats(total));
        assert_eq!(seats(600), [25, 98, 74, 98, 245, 49, 13]);
        assert_eq!(seats(0), [1; 7]);
    }

    fn user(name: &str) -> Flow {
        Flow::new("global-default", name)
    }

    type Turn<'a> = Pin<Box<dyn Future<Output = Result<Seat, Status>> + 'a>>;

    /// What is asked for, each once polled.
    struct Crowd<'a>(Vec<Turn<'a>>);

    fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    impl<'a> Crowd<'a> {
        fn of(fairness: &'a Fairness, flow: &str, count: usize) -> Self {
            let mut all: Vec<Turn<'a>> = Vec::new();
            for _ in 0..count {
                let mut one: Turn<'a> = Box::pin(fairness.enter(Level::GlobalDefault, user(flow)));
                assert!(poll(one.as_mut()).is_pending());
                all.push(one);
            }
            Self(all)
        }
    }

    fn in_a_runtime(test: impl FnOnce() + Send) {
        rt::task::block_on(async { test() });
    }

    /// One seat for everybody, and it is taken.
    fn full() -> (Fairness, Seat) {
        let fairness = Fairness::new(0);
        let seat = match poll(pin!(fairness.enter(Level::GlobalDefault, user("first")))) {
            Poll::Ready(Ok(seat)) => seat,
            other => panic!("{other:?}"),
        };
        (fairness, seat)
    }

    #[test]
    fn a_crowd_delays_another_flow_by_one_turn() {
        in_a_runtime(|| {
            let (fairness, seat) = full();
            let mut crowd = Crowd::of(&fairness, "crowd", 40);
            let mut other = Crowd::of(&fairness, "other", 1);
            drop(seat);
            let Poll::Ready(Ok(first)) = poll(crowd.0[0].as_mut()) else { panic!("in order") };
            assert!(poll(crowd.0[1].as_mut()).is_pending());
            drop(first);
            assert!(matches!(poll(other.0[0].as_mut()), Poll::Ready(Ok(_))));
            assert!(matches!(poll(crowd.0[1].as_mut()), Poll::Ready(Ok(_))), "a seat goes on when it is dropped");
        });
    }

    #[test]
    fn more_than_may_wait_are_refused_and_others_are_not() {
        in_a_runtime(|| {
            let (fairness, _seat) = full();
            let _crowd = Crowd::of(&fairness, "crowd", MAX_WAITING);
            let Poll::Ready(Err(status)) = poll(pin!(fairness.enter(Level::GlobalDefault, user("crowd")))) else {
                panic!("too many")
            };
            assert_eq!((status.code, status.reason), (429, "TooManyRequests"));
            assert_eq!(status.details.retry_after_seconds, Some(1));
            let _other = Crowd::of(&fairness, "other", 1);
            assert!(matches!(poll(pin!(fairness.enter(Level::NodeHigh, user("n1")))), Poll::Ready(Ok(_))));
            let view = fairness.view()["global-default"];
            assert_eq!(view, LevelView { seats: 1, executing: 1, waiting: MAX_WAITING + 1, refused: 1 });
            let names: Vec<String> = (0..MAX_WAITING_AT_LEVEL).map(|flow| format!("f{flow}")).collect();
            let left = MAX_WAITING_AT_LEVEL - MAX_WAITING - 1;
            let _flows: Vec<Crowd<'_>> = names[..left].iter().map(|name| Crowd::of(&fairness, name, 1)).collect();
            assert!(matches!(poll(pin!(fairness.enter(Level::GlobalDefault, user("last")))), Poll::Ready(Err(_))));
            let _last = match poll(pin!(fairness.enter(Level::CatchAll, user("x")))) {
                Poll::Ready(Ok(seat)) => seat,
                other => panic!("{other:?}"),
            };
            assert!(
                matches!(poll(pin!(fairness.enter(Level::CatchAll, user("x")))), Poll::Ready(Err(_))),
                "nobody waits there"
            );
        });
    }

    #[test]
    fn equal_distinguishers_of_two_schemas_are_two_flows() {
        in_a_runtime(|| {
            let (fairness, _seat) = full();
            let _crowd = Crowd::of(&fairness, "shop", MAX_WAITING);
            let of_another = Flow::new("service-accounts", "shop");
            assert!(poll(pin!(fairness.enter(Level::GlobalDefault, of_another))).is_pending());
        });
    }

    #[test]
    fn whoever_waits_too_long_is_refused_and_waits_no_more() {
        rt::task::block_on(async {
            let (mut fairness, seat) = full();
            fairness.max_wait = Duration::from_millis(1);
            let status = fairness.enter(Level::GlobalDefault, user("late")).await.expect_err("nobody leaves");
            assert_eq!(status.code, 429);
            let view = fairness.view()["global-default"];
            assert_eq!(view, LevelView { seats: 1, executing: 1, waiting: 0, refused: 1 });
            drop(seat);
            assert_eq!(fairness.view()["global-default"].executing, 0);
        });
    }

    #[test]
    fn a_seat_goes_past_whoever_is_gone_and_not_yet_forgotten() {
        in_a_runtime(|| {
            let (fairness, seat) = full();
            let queue = &fairness.queues[&Level::GlobalDefault];
            let Asked::Waits(_, gone) = lock(queue).ask(&user("a"), true) else { panic!("full") };
            let mut next = Crowd::of(&fairness, "b", 1);
            drop(gone);
            drop(seat);
            assert!(matches!(poll(next.0[0].as_mut()), Poll::Ready(Ok(_))));
        });
    }

    #[test]
    fn whoever_gives_up_leaves_no_seat_behind() {
        in_a_runtime(|| {
            let (fairness, seat) = full();
            let mut crowd = Crowd::of(&fairness, "crowd", 3);
            // One gives up while it waits, and one when it has the seat and does not know of it yet.
            drop(crowd.0.remove(0));
            drop(seat);
            drop(crowd.0.remove(0));
            assert!(matches!(poll(crowd.0[0].as_mut()), Poll::Ready(Ok(_))));
            drop(crowd);
            let view = fairness.view()["global-default"];
            assert_eq!((view.executing, view.waiting), (0, 0));
        });
    }
}
