//! Who was able to do what, and when: majorities that faults left alone, and leaders that had one.
//!
//! Only faults excuse. A member whose process ends by itself counts as able: it has its restart within every bound.

use faults::{Kind, Ns};
use record::{Observation, Record, Strike};
use std::collections::BTreeMap;

/// Members up to which majorities are enumerated; 126 of them for nine. Nobody runs more: etcd advises against more
/// than seven. In a larger cluster no majority is ever found able, and what needs one is vacuous.
const MAX_MEMBERS: u32 = 9;

/// A trial cut into segments within which nothing changes that matters here.
pub(crate) struct Timeline {
    /// In order, without gaps, from 0 to the end of the trial.
    segments: Vec<Segment>,
    /// When members began to lead, in order.
    leads: Vec<Ns>,
}

/// A set of members: bit `i` is member `i`.
type Members = u32;

struct Segment {
    from_ns: Ns,
    until_ns: Ns,
    /// Majorities, none larger than it must be, whose members are not disabled and hear each other, and which some
    /// client reaches.
    served: Vec<Members>,
    /// Whether the newest leader is in one of them, reached or not.
    led: bool,
    /// How long, before this segment, the trial was without such a leader.
    unled_before_ns: Ns,
}

/// An interval during which one majority was able and reached by clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) from_ns: Ns,
    pub(crate) until_ns: Ns,
    pub(crate) majority: Members,
}

impl Timeline {
    pub(crate) fn new(record: &Record) -> Self {
        let mut changes = changes(record);
        changes.sort_by_key(|(at_ns, _)| *at_ns);
        let majorities = majorities(record.config.members);
        let mut state = State::new(record);
        let mut segments: Vec<Segment> = Vec::with_capacity(changes.len() + 1);
        let mut unled_before_ns = 0;
        let mut changes = changes.into_iter().peekable();
        let mut from_ns = 0;
        while from_ns < record.ended_ns {
            while let Some((_, change)) = changes.next_if(|(at_ns, _)| *at_ns <= from_ns) {
                state.apply(change);
            }
            let until_ns = changes.peek().map_or(record.ended_ns, |(at_ns, _)| *at_ns).min(record.ended_ns);
            let able = state.able(&majorities);
            let led = state.leader().is_some_and(|leader| able.iter().any(|majority| majority & leader != 0));
            segments.push(Segment { from_ns, until_ns, served: state.served(able), led, unled_before_ns });
            unled_before_ns += if led { 0 } else { until_ns - from_ns };
            from_ns = until_ns;
        }
        let leads = record.observations.iter().filter_map(|observation| match observation {
            Observation::Leads { at_ns, .. } => Some(*at_ns),
            _ => None,
        });
        Self { segments, leads: leads.collect() }
    }

    /// For each majority, the longest intervals during which it was able and reached by clients.
    pub(crate) fn stretches(&self) -> Vec<Stretch> {
        let mut open: BTreeMap<Members, Ns> = BTreeMap::new();
        let mut stretches = Vec::new();
        for segment in &self.segments {
            open.retain(|majority, from_ns| {
                let goes_on = segment.served.contains(majority);
                if !goes_on {
                    stretches.push(Stretch { from_ns: *from_ns, until_ns: segment.from_ns, majority: *majority });
                }
                goes_on
            });
            for majority in &segment.served {
                open.entry(*majority).or_insert(segment.from_ns);
            }
        }
        let ended_ns = self.segments.last().map_or(0, |s| s.until_ns);
        stretches.extend(open.into_iter().map(|(majority, from_ns)| Stretch { from_ns, until_ns: ended_ns, majority }));
        stretches
    }

    /// How much of an interval passed without a leader in an able majority.
    pub(crate) fn unled_ns(&self, from_ns: Ns, until_ns: Ns) -> Ns {
        self.unled_until(until_ns).saturating_sub(self.unled_until(from_ns))
    }

    /// How often a member began to lead after `from_ns`, up to `until_ns`.
    pub(crate) fn leader_changes(&self, from_ns: Ns, until_ns: Ns) -> u64 {
        let until = self.leads.partition_point(|at_ns| *at_ns <= until_ns);
        let from = self.leads.partition_point(|at_ns| *at_ns <= from_ns);
        until.saturating_sub(from) as u64
    }

    fn unled_until(&self, at_ns: Ns) -> Ns {
        let begun = self.segments.partition_point(|segment| segment.from_ns < at_ns);
        let Some(segment) = begun.checked_sub(1).map(|last| &self.segments[last]) else {
            return 0;
        };
        let within = if segment.led { 0 } else { at_ns.min(segment.until_ns) - segment.from_ns };
        segment.unled_before_ns + within
    }
}

/// Shows the members of a majority.
pub(crate) fn shown(members: Members) -> String {
    let names: Vec<String> = (0..Members::BITS).filter(|i| members & (1 << i) != 0).map(|i| i.to_string()).collect();
    names.join(", ")
}

#[derive(Clone, Copy)]
enum Change<'a> {
    Disabled {
        member: u32,
        begins: bool,
    },
    Severed {
        from: u32,
        to: u32,
        begins: bool,
    },
    /// A strike on all links from and to its targets.
    Around {
        strike: &'a Strike,
        begins: bool,
    },
    Leads {
        member: u32,
        term: u64,
    },
    StepsDown {
        member: u32,
        term: u64,
    },
    Ends {
        member: u32,
    },
}

/// Everything that changes a segment, with its time.
fn changes(record: &Record) -> Vec<(Ns, Change<'_>)> {
    let mut changes = Vec::new();
    for strike in &record.strikes {
        for (at_ns, begins) in [(strike.from_ns, true), (strike.until_ns, false)] {
            let disabled = strike.disabled.iter().map(|&member| Change::Disabled { member, begins });
            let severed = strike.severed.iter().map(|&(from, to)| Change::Severed { from, to, begins });
            let around = is_around(strike.kind).then_some(Change::Around { strike, begins });
            changes.extend(disabled.chain(severed).chain(around).map(|change| (at_ns, change)));
        }
    }
    for observation in &record.observations {
        match *observation {
            Observation::Process { at_ns, member, .. } => changes.push((at_ns, Change::Ends { member })),
            Observation::Leads { at_ns, member, term } => {
                changes.push((at_ns, Change::Leads { member, term }));
            }
            Observation::StepsDown { at_ns, member, term } => {
                changes.push((at_ns, Change::StepsDown { member, term }));
            }
            Observation::Applied { .. }
            | Observation::State { .. }
            | Observation::LeaseGranted { .. }
            | Observation::LeaseGone { .. }
            | Observation::Commits { .. } => {}
        }
    }
    changes
}

/// Whether a fault of this kind may keep clients and members apart if just one of them is its target.
fn is_around(kind: Kind) -> bool {
    match kind {
        Kind::PartitionOne
        | Kind::PartitionMinority
        | Kind::PartitionMajority
        | Kind::PartitionOneWay
        | Kind::LinkLoss
        | Kind::LinkDelay
        | Kind::LinkRate
        | Kind::LinkHold
        | Kind::PartitionPrimaries
        // Whether it is cut off or does nothing, clients have nothing of it.
        | Kind::Frozen => true,
        // The two halves of a bridge hear the clients, and so do all of a ring and who does not hear one member alone.
        Kind::PartitionBridge
        | Kind::PartitionRing
        | Kind::LinkUnclog
        | Kind::Kill
        | Kind::RollingUpgrade
        | Kind::PowerLoss
        | Kind::Pause
        | Kind::ClockOffset
        | Kind::ClockDrift
        | Kind::ClockSteps
        | Kind::ClockFreeze
        | Kind::DiskError
        | Kind::DiskStall
        | Kind::DiskFull
        // A member that lags hears and is heard by all but members, and what is done to single connections is
        // done to those of API servers.
        | Kind::ApiLag
        | Kind::EventsWithheld
        | Kind::ResponseDrop
        | Kind::WatchCut
        | Kind::CrashPoint
        | Kind::Restart
        // A node is neither a member nor a client.
        | Kind::NodePartition
        | Kind::NodeLink
        | Kind::NodeKill
        | Kind::NodeRestart
        | Kind::NodePowerLoss
        | Kind::NodePause
        | Kind::NodeClock
        | Kind::NodeDisk
        | Kind::NodeLost
        | Kind::ZoneLost
        | Kind::ContainerCrash
        | Kind::ContainerSick
        | Kind::ContainerSlow
        | Kind::ImagePull
        | Kind::ClockJump
        | Kind::ComponentHang
        | Kind::ConfigChange
        | Kind::ApiOverload
        // The store's clients show nothing.
        | Kind::CredentialsExpired
        | Kind::Reset => false,
    }
}

/// All sets of just more than half of the members.
fn majorities(members: u32) -> Vec<Members> {
    if members > MAX_MEMBERS {
        return Vec::new();
    }
    (0..1 << members).filter(|set: &Members| set.count_ones() == members / 2 + 1).collect()
}

/// What holds at an instant.
struct State<'a> {
    /// By member: how many strikes disable it.
    disabled: Vec<u32>,
    /// By member: the term that it believes to lead in.
    leads: Vec<Option<u64>>,
    /// How many strikes sever a directed link.
    severed: BTreeMap<(u32, u32), u32>,
    /// Active strikes on all links from and to their targets.
    around: Vec<&'a Strike>,
    clients: u32,
}

impl<'a> State<'a> {
    /// Before the first change.
    fn new(record: &Record) -> Self {
        let members = record.config.members as usize;
        Self {
            disabled: vec![0; members],
            leads: vec![None; members],
            severed: BTreeMap::new(),
            around: Vec::new(),
            clients: record.config.client_hosts,
        }
    }

    /// What is said of a member that is not in the configuration changes nothing.
    fn apply(&mut self, change: Change<'a>) {
        let members = self.disabled.len();
        let known = |member: u32| (member as usize) < members;
        match change {
            Change::Disabled { member, begins } if known(member) => {
                count(&mut self.disabled[member as usize], begins);
            }
            Change::Severed { from, to, begins } if known(from) && known(to) => {
                count(self.severed.entry((from, to)).or_default(), begins);
            }
            Change::Around { strike, begins: true } => self.around.push(strike),
            Change::Around { strike, begins: false } => {
                self.around.retain(|active| !std::ptr::eq(*active, strike));
            }
            Change::Leads { member, term } if known(member) => {
                self.leads[member as usize] = Some(term);
            }
            Change::StepsDown { member, term } if known(member) => {
                let leads = &mut self.leads[member as usize];
                *leads = leads.filter(|led| *led > term);
            }
            Change::Ends { member } if known(member) => self.leads[member as usize] = None,
            Change::Disabled { .. }
            | Change::Severed { .. }
            | Change::Leads { .. }
            | Change::StepsDown { .. }
            | Change::Ends { .. } => {}
        }
    }

    /// Majorities whose members are not disabled and hear each other.
    fn able(&self, majorities: &[Members]) -> Vec<Members> {
        let mut well: Members = 0;
        for (member, strikes) in self.disabled.iter().enumerate().take(MAX_MEMBERS as usize) {
            if *strikes == 0 {
                well |= 1 << member;
            }
        }
        let deaf: Vec<Members> = self
            .severed
            .iter()
            .filter(|(_, strikes)| **strikes > 0)
            .map(|((from, to), _)| 1 << from | 1 << to)
            .collect();
        let able = |set: &Members| set & !well == 0 && deaf.iter().all(|pair| set & pair != *pair);
        majorities.iter().copied().filter(able).collect()
    }

    /// Those of these majorities of which some client reaches some member.
    fn served(&self, mut majorities: Vec<Members>) -> Vec<Members> {
        if !self.around.is_empty() && self.clients > 0 {
            let reached = self.reached();
            majorities.retain(|majority| majority & reached != 0);
        }
        majorities
    }

    /// Members that some client is on the same side with in everything that is active.
    fn reached(&self) -> Members {
        let together = |member: u32, client: u32| {
            let same_side = |s: &&Strike| s.members.contains(&member) == s.clients.contains(&client);
            self.around.iter().all(same_side)
        };
        let members = (0..MAX_MEMBERS).take(self.disabled.len());
        members
            .filter(|member| (0..self.clients).any(|client| together(*member, client)))
            .fold(0, |reached, member| reached | 1 << member)
    }

    /// The member that leads in the newest term. Another one that still believes to lead cannot commit any more.
    fn leader(&self) -> Option<Members> {
        let leading = self.leads.iter().enumerate().filter_map(|(member, term)| Some(((*term)?, member)));
        let (_, member) = leading.max()?;
        ((member as u32) < MAX_MEMBERS).then(|| 1 << member)
    }
}

fn count(strikes: &mut u32, begins: bool) {
    *strikes = if begins { *strikes + 1 } else { strikes.saturating_sub(1) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::{Story, seconds};

    fn stretches(story: &Story) -> Vec<(u64, u64, String)> {
        let seconds = |ns: Ns| ns / seconds(1);
        let mut stretches: Vec<_> = Timeline::new(&story.record)
            .stretches()
            .iter()
            .map(|s| (seconds(s.from_ns), seconds(s.until_ns), shown(s.majority)))
            .collect();
        stretches.sort();
        stretches
    }

    fn found(expected: &[(u64, u64, &str)]) -> Vec<(u64, u64, String)> {
        expected.iter().map(|(from, until, members)| (*from, *until, (*members).to_owned())).collect()
    }

    #[test]
    fn all_majorities_are_able_while_nothing_strikes() {
        let mut story = Story::new();
        story.end(seconds(30));
        assert_eq!(stretches(&story), found(&[(0, 30, "0, 1"), (0, 30, "0, 2"), (0, 30, "1, 2")]));
    }

    #[test]
    fn a_strike_disables_the_majorities_it_touches_until_the_last_one_ends() {
        let mut story = Story::new();
        story.disabled(0, seconds(5), seconds(12));
        story.disabled(0, seconds(10), seconds(20));
        story.severed(1, 2, seconds(8), seconds(9));
        story.end(seconds(30));
        assert_eq!(
            stretches(&story),
            found(&[
                (0, 5, "0, 1"),
                (0, 5, "0, 2"),
                (0, 8, "1, 2"),
                (9, 30, "1, 2"),
                (20, 30, "0, 1"),
                (20, 30, "0, 2")
            ])
        );
    }

    #[test]
    fn a_member_whose_process_ends_by_itself_is_no_excuse() {
        let mut story = Story::new();
        story.process(0, seconds(1), true);
        story.process(2, seconds(20), false);
        story.end(seconds(30));
        assert_eq!(stretches(&story), found(&[(0, 30, "0, 1"), (0, 30, "0, 2"), (0, 30, "1, 2")]));
    }

    #[test]
    fn a_majority_that_no_client_reaches_serves_nobody() {
        let mut story = Story::new();
        // Both hosts of clients are apart from members 0 and 1; then only one of the hosts is; then nobody is, because
        // one host is cut off together with them.
        let strike = |story: &mut Story, at: u64, members: &[u32], clients: &[u32]| {
            let strike = story.strike(Kind::PartitionMajority, seconds(at), seconds(at + 5));
            (strike.members, strike.clients) = (members.to_vec(), clients.to_vec());
        };
        strike(&mut story, 10, &[0, 1], &[]);
        strike(&mut story, 20, &[], &[1]);
        strike(&mut story, 30, &[0, 1], &[1]);
        story.end(seconds(40));
        assert_eq!(stretches(&story), found(&[(0, 10, "0, 1"), (0, 40, "0, 2"), (0, 40, "1, 2"), (15, 40, "0, 1")]));
    }

    #[test]
    fn time_counts_as_unled_while_the_newest_leader_lacks_a_majority() {
        let mut story = Story::new();
        story.leads(0, seconds(2), 1);
        story.severed(0, 1, seconds(10), seconds(20));
        story.severed(2, 0, seconds(12), seconds(20));
        // The old leader learns of the new one late; meanwhile it does not count.
        story.leads(1, seconds(15), 2);
        story.steps_down(0, seconds(18), 1);
        story.disabled(1, seconds(25), seconds(26));
        story.end(seconds(30));
        let timeline = Timeline::new(&story.record);
        let unled = |from: u64, until: u64| timeline.unled_ns(seconds(from), seconds(until)) / seconds(1);
        assert_eq!(unled(0, 2), 2);
        assert_eq!(unled(0, 12), 2);
        assert_eq!(unled(2, 15), 3);
        assert_eq!(unled(13, 25), 2);
        assert_eq!(unled(0, 30), 6);
        assert_eq!(unled(0, 300), 6);
        assert_eq!(timeline.leader_changes(seconds(2), seconds(30)), 1);
        assert_eq!(timeline.leader_changes(0, seconds(15)), 2);
    }

    #[test]
    fn nothing_is_said_of_clusters_too_large_to_enumerate() {
        assert_eq!(majorities(5).len(), 10);
        assert_eq!(majorities(9).len(), 126);
        assert!(majorities(10).is_empty());
    }
}
