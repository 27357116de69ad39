//! C18: a pod that fits a Ready node is bound within T after Q.

use super::facts::{PODS, SECOND_NS, is_active, pod_node};
use super::places::{Places, is_simple};
use super::{Commit, Pod, World};
use crate::findings::Findings;
use faults::Ns;
use record::{CONVERGE_NS, Guarantee, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// After Q, no pod waits for longer than T while there is a node on which it fits all that time.
///
/// A node that is filled up by others, or closes, or ceases to be ready in between, begins a new time when it fits
/// again. Pods are judged that ask for resources, labels and tolerations of taints alone; a pod that still waits when
/// the trial ends, for less than T, is not.
pub(crate) fn check(world: &World<'_>) -> Verdict {
    let mut findings = Findings::of(Guarantee::C18);
    let mut places = Places::default();
    let mut waiting: BTreeMap<&str, Waiting<'_>> = BTreeMap::new();
    let mut quiet = false;
    for commit in &world.commits {
        if !quiet && commit.at_ns > world.quiet_ns {
            quiet = true;
            let names: BTreeSet<&str> = places.nodes().collect();
            waiting.values_mut().for_each(|pod| pod.look(&places, &names, world.quiet_ns));
        }
        let touched = places.apply(commit);
        if let (key, true) = (&*commit.key, commit.key.starts_with(PODS)) {
            leaves(commit, &mut waiting, &mut findings);
            if let Some(pod) = commit.pods().1.filter(|pod| waits(pod)) {
                let known =
                    waiting.entry(key).or_insert_with(|| Waiting { pod, fits: BTreeMap::new(), longest_ns: None });
                known.pod = pod;
                if quiet {
                    known.look(&places, &places.nodes().collect(), commit.at_ns);
                }
            }
        }
        if quiet && !touched.is_empty() {
            waiting.values_mut().for_each(|pod| pod.look(&places, &touched, commit.at_ns));
        }
    }
    let ended_ns = world.record.ended_ns;
    for (key, mut pod) in waiting {
        if !quiet {
            // Nothing changed after Q.
            pod.look(&places, &places.nodes().collect(), world.quiet_ns.min(ended_ns));
        }
        pod.end(ended_ns);
        pod.judge(key, ended_ns, false, &mut findings);
    }
    findings.verdict()
}

fn waits(pod: &Pod) -> bool {
    pod_node(pod).is_empty() && is_active(pod) && is_simple(pod)
}

/// A pod that waits, and on which nodes it fits, since when.
struct Waiting<'a> {
    pod: &'a Pod,
    fits: BTreeMap<&'a str, Ns>,
    /// The longest time for which it fitted on a node and was not bound, when that began, and on which node.
    longest_ns: Option<(Ns, Ns, &'a str)>,
}

impl<'a> Waiting<'a> {
    /// Looks whether it fits on these nodes now.
    fn look(&mut self, places: &Places<'a>, nodes: &BTreeSet<&'a str>, at_ns: Ns) {
        for name in nodes {
            if places.fits(self.pod, name) {
                self.fits.entry(name).or_insert(at_ns);
            } else if let Some(since_ns) = self.fits.remove(name) {
                self.fitted(name, since_ns, at_ns);
            }
        }
    }

    fn fitted(&mut self, name: &'a str, since_ns: Ns, at_ns: Ns) {
        let time = (at_ns.saturating_sub(since_ns), since_ns, name);
        if self.longest_ns.is_none_or(|longest| longest.0 < time.0) {
            self.longest_ns = Some(time);
        }
    }

    /// It waits no more.
    fn end(&mut self, at_ns: Ns) {
        for (name, since_ns) in std::mem::take(&mut self.fits) {
            self.fitted(name, since_ns, at_ns);
        }
    }

    fn judge(&self, key: &str, at_ns: Ns, bound: bool, findings: &mut Findings) {
        let Some((longest_ns, since_ns, node)) = self.longest_ns else { return };
        if !bound && longest_ns <= CONVERGE_NS {
            return;
        }
        findings.tested(1);
        findings.took(longest_ns);
        if longest_ns > CONVERGE_NS {
            let (from, waited) = (since_ns / SECOND_NS, longest_ns / SECOND_NS);
            let state = if bound { "bound only" } else { "not bound" };
            let text = format!(
                "{key} ({}) was {state} at {} s, though it fitted on {node} from {from} s on for {waited} s",
                self.pod.uid(),
                at_ns / SECOND_NS
            );
            findings.violated(since_ns + CONVERGE_NS, text);
        }
    }
}

/// A pod that was bound, is going, or is another than before waits no more.
fn leaves<'a>(commit: &'a Commit, waiting: &mut BTreeMap<&'a str, Waiting<'a>>, findings: &mut Findings) {
    let (old, new) = commit.pods();
    let Some(old) = old else { return };
    let same = new.filter(|new| new.uid() == old.uid());
    if same.is_some_and(waits) {
        return;
    }
    let Some(mut pod) = waiting.remove(&*commit.key) else { return };
    pod.end(commit.at_ns);
    pod.judge(&commit.key, commit.at_ns, same.is_some_and(|pod| !pod_node(pod).is_empty()), findings);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tale::Tale;

    /// A node; `spec` such as `"unschedulable":true`.
    fn node(tale: &mut Tale, name: &str, ready: bool, spec: &str) {
        let json = format!(
            r#"{{"metadata":{{"name":"{name}","labels":{{"disk":"{name}"}}}},"spec":{{{spec}}},"status":{{"allocatable":{{"cpu":"1","pods":"2"}},"conditions":[{{"type":"Ready","status":"{}"}}]}}}}"#,
            if ready { "True" } else { "Unknown" }
        );
        tale.put(&format!("core/nodes/{name}"), &json);
    }

    fn pod(tale: &mut Tale, name: &str, spec: &str) {
        let json = format!(
            r#"{{"metadata":{{"name":"{name}","uid":"u-{name}"}},"spec":{{{spec}"containers":[{{"name":"c","resources":{{"requests":{{"cpu":"600m"}}}}}}]}}}}"#
        );
        tale.put(&format!("core/pods/default/{name}"), &json);
    }

    const ON_N1: &str = r#""nodeName":"n1","#;

    /// Q is at 100 s.
    fn tale() -> Tale {
        let mut tale = Tale::new();
        node(&mut tale, "n1", true, "");
        tale
    }

    #[test]
    fn pods_that_are_bound_in_time_pass() {
        let mut tale = tale();
        pod(&mut tale, "before", "");
        tale.at(50);
        pod(&mut tale, "a", "");
        tale.at(90);
        pod(&mut tale, "before", ON_N1);
        tale.at(120).delete("core/pods/default/before").at(170);
        pod(&mut tale, "a", ON_N1);
        tale.passes(check, Guarantee::C18, 1);
    }

    #[test]
    fn a_pod_that_never_fits_is_not_judged() {
        for (spec, ready, why) in [
            ("", false, ""),
            (r#""unschedulable":true"#, true, ""),
            (r#""taints":[{"key":"k","effect":"NoSchedule"}]"#, true, ""),
            ("", true, r#""nodeSelector":{"disk":"n2"},"#),
            ("", true, r#""schedulingGates":[{"name":"g"}],"#),
            ("", true, r#""affinity":{"nodeAffinity":{}},"#),
        ] {
            let mut tale = Tale::new();
            node(&mut tale, "n1", ready, spec);
            pod(&mut tale, "a", why);
            tale.passes(check, Guarantee::C18, 0);
        }
        let mut full = tale();
        pod(&mut full, "b", ON_N1);
        pod(&mut full, "a", "");
        full.passes(check, Guarantee::C18, 0);
    }

    #[test]
    fn a_pod_that_is_not_over_its_time_in_the_end_is_not_judged() {
        let mut tale = tale();
        tale.at(580);
        pod(&mut tale, "a", "");
        tale.passes(check, Guarantee::C18, 0);
    }

    #[test]
    fn a_pod_that_stays_unbound_is_flagged() {
        let mut tale = tale();
        pod(&mut tale, "a", r#""nodeSelector":{"disk":"n1"},"tolerations":[{"operator":"Exists"}],"#);
        tale.flags(
            check,
            "pods/default/a (u-a) was not bound at 600 s, though it fitted on n1 from 100 s on for 500 s",
        );
    }

    #[test]
    fn a_pod_that_is_bound_late_is_flagged() {
        let mut tale = tale();
        tale.at(200);
        pod(&mut tale, "a", "");
        tale.at(262);
        pod(&mut tale, "a", ON_N1);
        tale.flags(check, "was bound only at 262 s, though it fitted on n1 from 200 s on for 62 s");
    }

    #[test]
    fn room_that_others_take_in_between_begins_a_new_time() {
        let mut tale = tale();
        pod(&mut tale, "a", "");
        tale.at(150);
        pod(&mut tale, "b", ON_N1);
        tale.at(160).delete("core/pods/default/b").at(215);
        pod(&mut tale, "a", ON_N1);
        tale.passes(check, Guarantee::C18, 1);
        let mut late = super::tests::tale();
        pod(&mut late, "a", "");
        late.at(165);
        pod(&mut late, "b", ON_N1);
        late.flags(check, "from 100 s on");
    }
}
