//! Attacks on what members hear of each other and on their programs, and the minority that nobody heals.

use crate::draw::{Draw, MS, SECOND};
use crate::{Cut, Fault, Hosts, Kind, Ns, Target, What, When};

impl Draw {
    /// Each member hears a majority and no two the same one, in any order of the ring.
    pub(crate) fn partition_ring(&mut self) {
        let side = self.shuffled_members();
        let for_ns = if self.chance(350) { self.between(22 * SECOND, 32 * SECOND) } else { self.duration() };
        self.at_any_time(for_ns, What::Partition { side, cut: Cut::Ring });
    }

    /// Whoever believes to lead is cut off. Mostly it is made sure that two do: the leader is cut off first, and as soon
    /// as it has a successor but does not know it, both are.
    pub(crate) fn partition_primaries(&mut self) {
        let for_ns = self.outage();
        let cut = if self.chance(500) { Cut::Peers } else { Cut::Symmetric };
        let both = What::Partition { side: Target::Leaders, cut };
        if self.chance(300) {
            return self.at_any_time(for_ns, both);
        }
        // An election takes one to three seconds.
        let apart_ns = self.between(800 * MS, 4 * SECOND);
        let at = self.time_for(apart_ns + for_ns);
        let first = What::Partition { side: Target::Leader, cut: Cut::Peers };
        self.push(When::At(at), apart_ns + for_ns, first);
        self.push(When::At(at + apart_ns), for_ns, both);
    }

    /// Some links between members stop one after the other and go again in another order.
    pub(crate) fn link_unclog(&mut self) {
        let members = self.hosts.members;
        let mut links: Vec<(u32, u32)> = (0..members).flat_map(|from| (0..members).map(move |to| (from, to))).collect();
        links.retain(|(from, to)| from != to);
        let count = self.between(2, 5).min(links.len() as u64);
        let chosen: Vec<(u32, u32)> = (0..count).map(|_| self.take(&mut links)).collect();
        // So that what was said first is heard last, or anything between.
        let mut order: Vec<u64> = (0..count).collect();
        let ends: Vec<u64> = (0..count).map(|_| self.take(&mut order)).collect();
        let clog_ns = self.between(10 * MS, 600 * MS);
        let unclog_ns = self.between(10 * MS, 600 * MS);
        let all_ns = self.duration();
        let at = self.time_for(count * (clog_ns + unclog_ns) + all_ns);
        for ((place, end), (from, to)) in (0..).zip(ends).zip(chosen) {
            let (begins, ends) = (at + place * clog_ns, at + count * clog_ns + all_ns + end * unclog_ns);
            self.push(When::At(begins), ends - begins, What::Clog { target: Target::Member(from), to });
        }
    }

    /// A process that dies again and again before it has come to anything, as under an init system that never gives up.
    pub(crate) fn restart_loop(&mut self, target: &Target, most: u64) {
        let rounds = self.between(2, most);
        let period = if rounds > 5 { self.between(200 * MS, 600 * MS) } else { self.between(300 * MS, 2 * SECOND) };
        let at = self.time_for(rounds * period);
        for round in 0..rounds {
            let for_ns = self.between(2 * MS, period / 2);
            self.push(When::At(at + round * period), for_ns, What::Kill { target: target.clone() });
        }
    }

    /// The members' programs are replaced by the newer one, one after the other; now and then one goes back and comes again,
    /// as it may until the last one has come. Once in a trial: nothing is newer than the newest.
    pub(crate) fn rolling_upgrade(&mut self) {
        if !self.faults.is_empty() {
            return;
        }
        let members = self.shuffled();
        let mut steps: Vec<(u32, bool)> = members.iter().map(|member| (*member, true)).collect();
        if let Some(last) = members.len().checked_sub(1).filter(|last| *last > 0)
            && self.chance(400)
        {
            let back = members[self.between(0, last as u64 - 1) as usize];
            steps.splice(last..last, [(back, false), (back, true)]);
        }
        let count = steps.len() as u64;
        // Some wait for each member to be well again, and some do not.
        let step_ns = self.between(SECOND, (self.faults_ns / 2 / count).clamp(SECOND, 40 * SECOND));
        let at = self.time_for(count * step_ns);
        for (place, (member, newer)) in (0..).zip(steps) {
            let for_ns = self.restart_time().min(step_ns * 9 / 10);
            let what = What::Replace { target: Target::Member(member), newer };
            self.push(When::At(at + place * step_ns), for_ns, what);
        }
    }

    /// Members start again with another configuration: one, or all one after the other as an operator rolls it out.
    pub(crate) fn config_change(&mut self) {
        let setting = self.between(0, u64::from(u32::MAX)) as u32;
        if self.chance(500) {
            let target = self.one_member();
            let for_ns = self.restart_time();
            return self.at_any_time(for_ns, What::Reconfigure { target, setting });
        }
        let members = self.shuffled();
        let step_ns = self.between(SECOND, 15 * SECOND).min(self.faults_ns / 2 / (members.len() as u64).max(1));
        let at = self.time_for(members.len() as u64 * step_ns);
        for (place, member) in (0..).zip(members) {
            let for_ns = self.restart_time().min(step_ns * 9 / 10);
            let what = What::Reconfigure { target: Target::Member(member), setting };
            self.push(When::At(at + place * step_ns), for_ns, what);
        }
    }

    fn shuffled_members(&mut self) -> Target {
        Target::Members(self.shuffled())
    }

    fn shuffled(&mut self) -> Vec<u32> {
        let mut left: Vec<u32> = (0..self.hosts.members).collect();
        (0..self.hosts.members).map(|_| self.take(&mut left)).collect()
    }
}

/// With this probability, in thousandths, a minority that from some moment near the end of the time of faults on is cut
/// off, dead, without power or stopped for as long as the trial lasts, which is `calm_ns` after `faults_ns`. Pure, with a
/// stream of its own: it shifts nothing that [`draw`](crate::draw) draws. `None` also where one member is no minority.
pub fn freeze(permille: u32, seed: u64, hosts: Hosts, faults_ns: Ns, calm_ns: Ns) -> Option<Fault> {
    let mut draw = Draw::new(Kind::Frozen, seed, hosts, faults_ns);
    let most = u64::from(hosts.members.saturating_sub(1) / 2);
    if !draw.chance(permille) || most == 0 {
        return None;
    }
    let size = draw.between(1, most) as u32;
    let target = if size == 1 { draw.one_member() } else { draw.some_members(size) };
    let what = match draw.between(0, 9) {
        0..=3 => What::Partition { side: target, cut: Cut::Symmetric },
        4..=5 => What::Pause { target },
        6..=7 => What::PowerLoss { target },
        _ => What::Kill { target },
    };
    // Amid what else goes wrong, or as its last.
    let before_ns = if draw.chance(500) { draw.between(0, faults_ns / 3) } else { draw.between(0, SECOND) };
    let at = faults_ns.saturating_sub(before_ns.max(MS));
    draw.push(When::At(at), before_ns, what);
    let mut fault = draw.faults.pop()?;
    // A second more than there is, so that nothing ends in the very last instant.
    fault.for_ns = (faults_ns - at) + calm_ns + SECOND;
    Some(fault)
}
