//! One trial on a page: what failed, how to repeat it, its timeline, and what happened just before.

use super::document;
use crate::escape::{esc, shortened};
use crate::failure::Failure;
use crate::run::Run;
use crate::timeline::{Timeline, at};
use faults::{Fault, When};
use record::{Record, Verdict};
use std::fmt::Write;

/// Characters of what was seen, where it stands beside other trials.
const MAX_HEADLINE: usize = 180;

/// A trial that is drawn.
#[derive(Clone, Debug)]
pub struct Trial {
    /// What happened in it.
    pub timeline: Timeline,
    /// What is left of it when it has been shrunk.
    pub shrunk: Option<Shrunk>,
}

/// A failing trial made small.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What fails in it.
    pub fails: String,
    /// What still goes wrong.
    pub faults: Vec<Fault>,
}

/// A page about one judged trial, failing or not, that `repeat` repeats.
pub fn trial_page(record: &Record, repeat: &str) -> String {
    let failure = Failure::first_of(record);
    let title = match &failure {
        Some(Failure { what, at_ns, .. }) => format!("{what} failed at {} of seed {}", at(*at_ns), record.seed),
        None => format!("Seed {} held", record.seed),
    };
    let tone = if failure.is_some() { "bad" } else { "good" };
    let (heading, scenario, build) = (esc(&title), esc(&record.config.scenario), esc(&record.build));
    let mut body = format!(
        "<header class=\"{tone}\">\n<h1>{heading}</h1>\n<p>Scenario <b>{scenario}</b>, seed {}, {} simulated, build \
         <code>{build}</code></p>\n</header>\n<section>\n",
        record.seed,
        at(record.ended_ns)
    );
    if let Some(failure) = &failure {
        let _ = writeln!(body, "<p class=\"seen\">{}</p>", esc(&failure.text));
    }
    let _ = writeln!(body, "<pre>{}</pre>", esc(repeat));
    let trial = Trial { timeline: Timeline::of(record), shrunk: None };
    picture(&mut body, &trial);
    body.push_str("</section>\n");
    verdicts(&mut body, &record.verdicts);
    document(&title, &body)
}

/// A failed trial among others.
pub(super) fn failed(out: &mut String, run: &Run, failure: &Failure, drawn: Option<&Trial>, open: bool) {
    let Failure { seed, what, at_ns, text } = failure;
    let open = if open { " open" } else { "" };
    let (what, name, headline) = (esc(what), run.name(*seed), esc(shortened(text, MAX_HEADLINE)));
    let _ = writeln!(
        out,
        "<details class=\"trial\" id=\"seed-{seed}\"{open}>\n<summary><span class=\"pill bad\">{what}</span> \
         <b>{name}</b> at {}: {headline}</summary>",
        at(*at_ns)
    );
    if text.chars().count() > MAX_HEADLINE {
        let _ = writeln!(out, "<p class=\"seen\">{}</p>", esc(text));
    }
    let _ = writeln!(out, "<pre>{}\n{}</pre>", esc(run.replay(*seed)), esc(run.shrink(*seed)));
    match drawn {
        Some(trial) => {
            if let Some(left) = &trial.shrunk {
                shrunk(out, left, &run.replay_shrunk(*seed));
            }
            picture(out, trial);
        }
        None => {
            let _ = writeln!(
                out,
                "<p class=\"note\">Not drawn here; <code>{} --html {seed}.html</code> draws it.</p>",
                esc(run.replay(*seed))
            );
        }
    }
    out.push_str("</details>\n");
}

fn picture(out: &mut String, trial: &Trial) {
    let timeline = &trial.timeline;
    out.push_str(&timeline.html());
    if !timeline.eve.is_empty() {
        out.push_str("<details class=\"eve\" open><summary>What happened before it failed</summary>\n<ol>\n");
        for (at_ns, told) in &timeline.eve {
            let _ = writeln!(out, "<li><time>{}</time> {}</li>", at(*at_ns), esc(told));
        }
        if let Some(Failure { what, at_ns, .. }) = &timeline.first {
            let _ = writeln!(out, "<li class=\"bad\"><time>{}</time> {} fails</li>", at(*at_ns), esc(what));
        }
        out.push_str("</ol></details>\n");
    }
    if timeline.flags.len() > 1 {
        let _ = writeln!(out, "<details class=\"eve\"><summary>All {} failures</summary>\n<ol>", timeline.flags.len());
        for flag in &timeline.flags {
            let (what, text) = (esc(&flag.what), esc(&flag.text));
            let _ = writeln!(out, "<li><time>{}</time> <b>{what}</b> {text}</li>", at(flag.at_ns));
        }
        out.push_str("</ol></details>\n");
    }
}

fn shrunk(out: &mut String, shrunk: &Shrunk, replay: &str) {
    let count = match shrunk.faults.len() {
        0 => "no fault at all".to_owned(),
        1 => "one fault".to_owned(),
        many => format!("{many} faults"),
    };
    let _ = writeln!(out, "<div class=\"shrunk\"><p>Shrunk: {} still fails with {count}.</p>", esc(&shrunk.fails));
    if !shrunk.faults.is_empty() {
        out.push_str("<ul>\n");
        for fault in &shrunk.faults {
            let when = match &fault.when {
                When::At(at_ns) => format!("at {}", at(*at_ns)),
                When::Marked { mark, delay_ns, .. } => format!("{} after “{mark}”", at(*delay_ns)),
                When::Effect { nth, before, .. } => {
                    format!("{} effect {nth}", if *before { "before" } else { "after" })
                }
            };
            let (kind, when, what) = (fault.kind.name(), esc(when), esc(format!("{:?}", fault.what)));
            let _ = writeln!(out, "<li><b>{kind}</b> {when} for {}: <code>{what}</code></li>", at(fault.for_ns));
        }
        out.push_str("</ul>\n");
    }
    let _ = writeln!(out, "<pre>{}</pre></div>", esc(replay));
}

fn verdicts(out: &mut String, verdicts: &[Verdict]) {
    out.push_str(
        "<section>\n<h2>Guarantees</h2>\n<div class=\"wide\"><table>\n<thead><tr><th></th><th>Guarantee</th><th></th>\
         <th class=\"n\">Tested</th></tr></thead>\n<tbody>\n",
    );
    for verdict in verdicts {
        let (tone, came) = match (verdict.violations.len(), verdict.tested) {
            (0, 0) => ("warn", "never tested"),
            (0, _) => ("good", "held"),
            _ => ("bad", "failed"),
        };
        let (id, text) = (verdict.guarantee, esc(verdict.guarantee.guaranteed().text));
        let _ = writeln!(
            out,
            "<tr><th>{id}</th><td>{text}</td><td><span class=\"pill {tone}\">{came}</span></td><td class=\"n\">{}</td></tr>",
            verdict.tested
        );
    }
    out.push_str("</tbody></table></div>\n</section>\n");
}
