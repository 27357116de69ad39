//! Timelines of records made by hand.

use super::*;
use crate::summary::tests::{record, violated};
use record::{Container, Guarantee, Kind, Observation, Outcome, Refusal, Sight};

const S: Ns = 1_000_000_000;

/// Forty seconds of three members: the leader is killed at 10 s and another one leads from 12 s on; C2 fails at 21 s.
fn failing() -> Record {
    let mut trial = record(17);
    (trial.ended_ns, trial.healed_ns) = (40 * S, 30 * S);
    let strike = trial.strikes[0].clone();
    trial.strikes = vec![Strike { fault: 3, kind: Kind::Kill, from_ns: 10 * S, until_ns: 14 * S, ..strike.clone() }];
    trial.strikes.push(Strike {
        fault: 4,
        kind: Kind::LinkLoss,
        from_ns: 12 * S,
        until_ns: 20 * S,
        members: vec![0, 1],
        clients: vec![0],
        ..strike
    });
    trial.observations = vec![
        Observation::Leads { at_ns: S, member: 0, term: 1 },
        Observation::StepsDown { at_ns: 10 * S, member: 0, term: 1 },
        Observation::Process { at_ns: 10 * S, member: 0, up: false },
        Observation::Leads { at_ns: 12 * S, member: 2, term: 2 },
        Observation::Process { at_ns: 14 * S, member: 0, up: true },
    ];
    for (op, at_ns) in trial.operations.iter_mut().zip([5 * S, 11 * S, 13 * S, 25 * S]) {
        (op.invoked_ns, op.completed_ns) = (at_ns, at_ns + S / 10);
    }
    violated(&mut trial, Guarantee::C2, 21 * S, "write 7 is <lost> & gone");
    violated(&mut trial, Guarantee::C6, 21 * S + S / 2, "nothing committed");
    trial
}

/// The marks of a lane, a line each.
fn told(timeline: &Timeline, lane: &str) -> Vec<String> {
    let lane = timeline.lanes.iter().find(|it| it.name == lane).expect("there is such a host");
    lane.marks.iter().map(|mark| format!("{} {}: {}", mark.sort.class(), mark.shade, mark.title)).collect()
}

#[test]
fn a_lane_tells_what_struck_who_led_and_what_was_down() {
    let timeline = Timeline::of(&failing());
    let names: Vec<&str> = timeline.lanes.iter().map(|lane| lane.name.as_str()).collect();
    assert_eq!(names, ["s1", "s2", "s3", "c1"]);
    assert_eq!(
        told(&timeline, "s1"),
        [
            "fault power: kill strikes s1, until 14.000 s (fault 3)",
            "fault net: link-loss strikes s1, s2, c1, until 20.000 s (fault 4)",
            "lead store: s1 leads in term 1, until 10.000 s",
            "proc down: s1 is down, until 14.000 s",
        ]
    );
    assert_eq!(told(&timeline, "s3"), ["lead store: s3 leads in term 2, until 40.000 s"]);
    assert_eq!(
        told(&timeline, "c1")[1..],
        [
            "oper ok: operation 0 of client 0: read a; nothing from s1 at revision 1, after 100.0 ms",
            "oper unknown: operation 1 of client 0: read a; no answer: timeout, after 100.0 ms",
            "oper refused: operation 2 of client 0: read a; refused: no leader, after 100.0 ms",
            "oper ok: operation 3 of client 0: read a; nothing from s1 at revision 1, after 100.0 ms",
        ]
    );
}

#[test]
fn the_eve_of_a_failure_is_told_in_order_and_each_fault_once() {
    let told: Vec<String> =
        Timeline::of(&failing()).eve.iter().map(|(at_ns, text)| format!("{}: {text}", at(*at_ns))).collect();
    assert_eq!(
        told,
        [
            "1.000 s: s1 leads in term 1, until 10.000 s",
            "10.000 s: kill strikes s1, until 14.000 s (fault 3)",
            "10.000 s: s1 is down, until 14.000 s",
            "12.000 s: link-loss strikes s1, s2, c1, until 20.000 s (fault 4)",
            "12.000 s: s3 leads in term 2, until 40.000 s",
        ]
    );
}

#[test]
fn the_picture_has_bands_and_an_anchor_at_the_first_failure() {
    let html = Timeline::of(&failing()).html();
    // 10 s of 40 s, for 4 s; over the whole lane.
    assert!(html.contains("<rect class=\"band fault power\" x=\"25%\" width=\"10%\" height=\""), "{html}");
    assert!(
        html.contains("<svg x=\"25%\" y=\"0\" width=\"10%\" height=\"12\"><text x=\"3\" y=\"9\">kill</text></svg>")
    );
    assert!(html.contains("<g class=\"m flag\" id=\"first-17\" data-at=\"52.5\">"), "{html}");
    assert_eq!(html.matches("id=\"first-").count(), 1);
    assert!(html.contains("href=\"#first-17\""));
    // Two failures so close share a label.
    assert!(html.contains("dx=\"4\">C2 C6</text>"), "{html}");
    assert!(html.contains("<title>C2 at 21.000 s: write 7 is &lt;lost&gt; &amp; gone</title>"));
    assert!(html.contains("faults are over"));
    assert!(!html.contains("drawn together"));
}

#[test]
fn a_trial_that_held_has_a_picture_without_flags() {
    let html = Timeline::of(&record(3)).html();
    assert!(!html.contains("flag") && !html.contains("Jump"), "{html}");
}

#[test]
fn a_picture_is_bounded_and_says_what_is_drawn_together() {
    let mut trial = failing();
    let op = trial.operations[0].clone();
    trial.operations = (0..20_000)
        .map(|id| {
            let invoked_ns = id * 2 * S / 1_000;
            let outcome = match id % 10 {
                0 => Outcome::Refused { why: Refusal::LeaseExists },
                1 => Outcome::Unknown { why: "timeout".into() },
                _ => op.outcome.clone(),
            };
            record::Operation { id, invoked_ns, completed_ns: invoked_ns + S / 1_000, outcome, ..op.clone() }
        })
        .collect();
    for n in 0..200 {
        violated(&mut trial, Guarantee::C3, 22 * S + n, "differ");
    }
    let timeline = Timeline::of(&trial);
    let marks = timeline.lanes.iter().flat_map(|lane| &lane.marks).filter(|mark| mark.sort == Sort::Operation);
    let (alone, together): (Vec<&Mark>, Vec<&Mark>) = marks.partition(|mark| mark.title.starts_with("operation"));
    assert!((MAX_MARKS - 2..=MAX_MARKS).contains(&alone.len()), "{}", alone.len());
    assert!(together.len() <= STRETCHES as usize * 3 + 3, "{}", together.len());
    assert!(alone.iter().all(|mark| mark.from_ns.abs_diff(21 * S) < S / 2), "those near the failure");
    assert_eq!(together[0].title, "133 store operations, answered, from 0.004 s to 0.333 s");
    let html = timeline.html();
    let said =
        format!("{} of 20000 store operations are drawn together, those far from the failure", 20_000 - alone.len());
    assert!(html.contains(&said), "{:?}", timeline.left_out);
    assert_eq!(timeline.flags.len(), MAX_FLAGS);
    assert!(html.contains("162 of 202 failures have no flag, the later ones."), "{:?}", timeline.left_out);
    assert!(html.len() < 300_000, "{}", html.len());
}

#[test]
fn containers_are_from_their_start_to_their_end_under_their_pods_name() {
    let mut trial = record(1);
    trial.ended_ns = 100;
    trial.config.cluster =
        Some(record::Cluster { nodes: 2, zones: 1, apps: 1, pods: 2, writes_per_ks: 1, calls_per_s: 1 });
    let pod = r#"{"metadata": {"name": "web-1", "namespace": "default", "uid": "u1"}, "spec": {}}"#;
    trial.observations = vec![Observation::Applied {
        at_ns: 1,
        member: 0,
        revision: 2,
        events: vec![record::WatchEvent::Put(record::KeyValue {
            key: "/registry/core/pods/default/web-1".into(),
            value: pod.into(),
            create_revision: 2,
            mod_revision: 2,
            version: 1,
            lease: 0,
        })],
    }];
    let container = |at_ns, node, id: &str| Container {
        at_ns,
        node,
        pod_uid: if id == "a" { "u1".into() } else { "u2".into() },
        name: "main".into(),
        id: id.into(),
    };
    trial.cluster.sights = vec![
        Sight::Started(container(10, 0, "a")),
        Sight::Started(container(20, 0, "b")),
        Sight::Started(container(20, 1, "c")),
        Sight::Signalled { container: container(30, 0, "a"), kill: false },
        Sight::Exited { container: container(40, 0, "a"), code: 143 },
        Sight::NodeDown { at_ns: 50, node: 0, wiped: false },
        Sight::Agent { at_ns: 60, node: 1, up: false },
    ];
    let timeline = Timeline::of(&trial);
    assert_eq!(
        told(&timeline, "n1"),
        [
            "cont failed: container main of default/web-1 on n1 from 0.000 s to 0.000 s: exit code 143 after SIGTERM at 0.000 s",
            "cont failed: container main of pod u2 on n1 from 0.000 s to 0.000 s: gone with its node",
        ]
    );
    let lane = timeline.lanes.iter().find(|lane| lane.name == "n1").unwrap();
    let places: Vec<(Ns, Ns, u32)> = lane.marks.iter().map(|mark| (mark.from_ns, mark.until_ns, mark.y)).collect();
    assert_eq!(places, [(10, 40, ROW), (20, 50, 2 * ROW)], "side by side");
    assert_eq!(told(&timeline, "n2")[0], "proc down: the agent of n2 is down, until 0.000 s");
}

#[test]
fn rows_are_used_again_and_the_last_ones_are_shared() {
    let mut rows = Rows::new(2);
    let placed: Vec<u32> = [(0, 10), (5, 20), (10, 30), (15, 16), (16, 17)].map(|(a, b)| rows.place(a, b)).into();
    assert_eq!(placed, [0, 1, 0, 1, 1]);
    assert_eq!(rows.used(), 2);
}
