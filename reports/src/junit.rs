//! A run as JUnit's XML, for GitLab, Jenkins and what else shows test results: a case for each guarantee and one for each
//! failing seed.
//!
//! The form is what the strictest of the schemas in use asks for, that of Ant's task; Jenkins' is laxer.

use crate::Report;
use crate::escape::{esc, one_line, shortened};
use crate::failure::Failure;
use crate::summary::{CRASH, DIVERGENCE};
use record::Guaranteed;
use std::fmt::Write;

/// Characters of a failure's message; the whole is in the element's text.
const MAX_MESSAGE: usize = 300;

/// What came of a case.
enum Came {
    Passed,
    /// Never put to the test: why.
    Skipped(String),
    /// Violated: its type, a message and the whole.
    Failure(String, String, String),
    /// Something that is no verdict: the same three.
    Error(String, String, String),
}

struct Case {
    class: &'static str,
    name: String,
    came: Came,
}

impl Report<'_> {
    /// `junit.xml`.
    pub fn junit(&self) -> String {
        let guarantees = self.summary.promised().map(|guaranteed| self.of_guarantee(guaranteed));
        let failures = self.summary.failures.iter().map(|failure| self.of_failure(failure));
        let recorded = |seed: &&u64| !self.summary.failures.iter().any(|failure| failure.seed == **seed);
        let lost = self.summary.lost_seeds.iter().filter(recorded).map(|seed| self.of_lost(*seed));
        let cases: Vec<Case> = guarantees.chain(failures).chain(lost).collect();
        let count = |wanted: fn(&Came) -> bool| cases.iter().filter(|case| wanted(&case.came)).count();
        let (scenario, begun, took_s) = (esc(one_line(&self.run.scenario)), self.run.begun(), self.run.took_s);
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
        let _ = writeln!(
            out,
            "<testsuite id=\"0\" package=\"seaworthy\" name=\"sea trials: {scenario}\" timestamp=\"{begun}\" \
             hostname=\"localhost\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{took_s:.3}\">",
            cases.len(),
            count(|it| matches!(it, Came::Failure(..))),
            count(|it| matches!(it, Came::Error(..))),
            count(|it| matches!(it, Came::Skipped(_))),
        );
        self.properties(&mut out);
        cases.iter().for_each(|case| write(&mut out, &self.run.scenario, case));
        let _ = writeln!(out, "<system-out>{}</system-out>", esc(self.summary.table()));
        out.push_str("<system-err></system-err>\n</testsuite>\n</testsuites>\n");
        out
    }

    fn properties(&self, out: &mut String) {
        let properties = [
            ("trials", self.summary.trials.to_string()),
            ("held", self.summary.held.to_string()),
            ("asked", self.run.asked.to_string()),
            ("interrupted", self.run.interrupted.to_string()),
            ("build", self.run.build.clone()),
        ];
        out.push_str("<properties>\n");
        for (name, value) in properties {
            let _ = writeln!(out, "<property name=\"{name}\" value=\"{}\"/>", esc(value));
        }
        out.push_str("</properties>\n");
    }

    fn of_guarantee(&self, guaranteed: &Guaranteed) -> Case {
        let tally = self.summary.guarantees.get(&guaranteed.id).copied().unwrap_or_default();
        let id = guaranteed.id.to_string();
        let came = if tally.failed > 0 {
            let seeds = self.summary.failing.get(&id).into_iter().flatten();
            let commands: Vec<String> = seeds.map(|seed| self.run.replay(*seed)).collect();
            let message = format!("{id} failed in {} of {} trials", tally.failed, self.summary.trials);
            Came::Failure(id.clone(), message, commands.join("\n"))
        } else if tally.tested == 0 {
            Came::Skipped("no trial put it to the test".to_owned())
        } else {
            Came::Passed
        };
        Case { class: "guarantees", name: format!("{id} {}", guaranteed.text), came }
    }

    fn of_failure(&self, failure: &Failure) -> Case {
        let Failure { seed, what, at_ns, text } = failure;
        let name = self.run.name(*seed);
        let message = format!("{what} at {:.3} s: {}", *at_ns as f64 / 1e9, one_line(text));
        let whole = format!("{text}\n\n{}\n{}", self.run.replay(*seed), self.run.shrink(*seed));
        Case { class: "seeds", name, came: Came::Failure(what.clone(), shortened(&message, MAX_MESSAGE), whole) }
    }

    fn of_lost(&self, seed: u64) -> Case {
        let diverged = self.summary.failing.get(DIVERGENCE).is_some_and(|seeds| seeds.contains(&seed));
        let what = if diverged { DIVERGENCE } else { CRASH };
        let message = if diverged { "it did two different things" } else { "its worker died" };
        let came = Came::Error(what.to_owned(), message.to_owned(), self.run.replay(seed));
        Case { class: "seeds", name: self.run.name(seed), came }
    }
}

fn write(out: &mut String, scenario: &str, case: &Case) {
    let class = format!("seaworthy.{}.{}", one_line(scenario), case.class);
    let _ = write!(out, "<testcase classname=\"{}\" name=\"{}\" time=\"0\"", esc(class), esc(one_line(&case.name)));
    let fault = |out: &mut String, tag: &str, what: &str, message: &str, whole: &str| {
        let (what, message, whole) = (esc(what), esc(message), esc(whole));
        let _ = writeln!(out, "><{tag} type=\"{what}\" message=\"{message}\">{whole}</{tag}></testcase>");
    };
    match &case.came {
        Came::Passed => out.push_str("/>\n"),
        Came::Skipped(why) => {
            let _ = writeln!(out, "><skipped message=\"{}\"/></testcase>", esc(why));
        }
        Came::Failure(what, message, whole) => fault(out, "failure", what, message, whole),
        Came::Error(what, message, whole) => fault(out, "error", what, message, whole),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::tests::assert_nested;
    use crate::run::{Run, Seeds};
    use crate::summary::Summary;
    use crate::summary::tests::{record, untested, violated};
    use expect_test::expect;
    use record::Guarantee;

    fn run() -> Run {
        Run {
            scenario: "store".into(),
            folder: "target/trials".into(),
            begun_unix_s: 1_795_728_193,
            took_s: 1.5,
            asked: 3,
            seeds: Seeds::of(1..=3),
            ..Run::default()
        }
    }

    #[test]
    fn there_is_a_case_for_each_guarantee_and_each_failing_seed() {
        let mut summary = Summary::of(&record(1), 7);
        let mut failed = record(2);
        violated(&mut failed, Guarantee::C2, 41_318_000_000, "a \"write\"\nis <lost> & gone\u{1}");
        untested(&mut failed, Guarantee::C7);
        summary.add(&failed, 7);
        summary.merge(&Summary::crashed(3));
        // A tally in which nothing was ever tested.
        summary.guarantees.insert(Guarantee::C12, crate::Tally { vacuous: 2, ..Default::default() });
        let xml = Report { run: &run(), summary: &summary, previous: None }.junit();
        assert_nested(&xml);
        let (cases, table) = xml.split_once("<system-out>").unwrap();
        expect![[r#"
            <?xml version="1.0" encoding="UTF-8"?>
            <testsuites>
            <testsuite id="0" package="seaworthy" name="sea trials: store" timestamp="2026-11-26T21:23:13" hostname="localhost" tests="12" failures="2" errors="1" skipped="1" time="1.500">
            <properties>
            <property name="trials" value="3"/>
            <property name="held" value="1"/>
            <property name="asked" value="3"/>
            <property name="interrupted" value="false"/>
            <property name="build" value=""/>
            </properties>
            <testcase classname="seaworthy.store.guarantees" name="C1 Reads and writes happen one after the other, in real time." time="0"/>
            <testcase classname="seaworthy.store.guarantees" name="C2 Later reads have each acknowledged write, or a newer one." time="0"><failure type="C2" message="C2 failed in 1 of 3 trials">cargo trial replay --seed 2</failure></testcase>
            <testcase classname="seaworthy.store.guarantees" name="C3 Members that applied the same log hold the same state." time="0"/>
            <testcase classname="seaworthy.store.guarantees" name="C4 What changes something raises the revision by exactly one." time="0"/>
            <testcase classname="seaworthy.store.guarantees" name="C5 A term has at most one leader." time="0"/>
            <testcase classname="seaworthy.store.guarantees" name="C6 While a majority is able and connected, writes commit." time="0"/>
            <testcase classname="seaworthy.store.guarantees" name="C7 A watch brings every change once and in order." time="0"/>
            <testcase classname="seaworthy.store.guarantees" name="C9 A lease outlives each acknowledged keep-alive by its TTL." time="0"/>
            <testcase classname="seaworthy.store.guarantees" name="C10 A lease that nobody keeps alive ends in time." time="0"/>
            <testcase classname="seaworthy.store.guarantees" name="C12 A transaction whose precondition fails never applies." time="0"><skipped message="no trial put it to the test"/></testcase>
            <testcase classname="seaworthy.store.seeds" name="seed 2" time="0"><failure type="C2" message="C2 at 41.318 s: a &quot;write&quot; is &lt;lost&gt; &amp; gone&#xFFFD;">a &quot;write&quot;
            is &lt;lost&gt; &amp; gone&#xFFFD;

            cargo trial replay --seed 2
            cargo trial shrink target/trials/2.json</failure></testcase>
            <testcase classname="seaworthy.store.seeds" name="seed 3" time="0"><error type="crash" message="its worker died">cargo trial replay --seed 3</error></testcase>
        "#]]
        .assert_eq(&cases.replace(char::REPLACEMENT_CHARACTER, "&#xFFFD;"));
        assert!(table.ends_with("</system-out>\n<system-err></system-err>\n</testsuite>\n</testsuites>\n"));
    }

    #[test]
    fn what_diverged_and_what_was_seen_at_length_are_said_in_short() {
        let mut failed = record(2);
        violated(&mut failed, Guarantee::C2, 5, &"long ".repeat(200));
        let mut summary = Summary::of(&failed, 7);
        summary.merge(&Summary::diverged(9));
        let xml = Report { run: &run(), summary: &summary, previous: None }.junit();
        assert!(xml.contains("<error type=\"divergence\" message=\"it did two different things\">"), "{xml}");
        let message = xml.split("message=\"C2 at").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        assert!(message.chars().count() <= MAX_MESSAGE && message.ends_with('…'), "{message}");
    }
}
