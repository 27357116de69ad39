//! A run, or one trial, as an HTML page of its own that asks the network for nothing.
//!
//! The order is that of a person's questions: did it hold, what failed and is that new, what happened there, how much was
//! tried at all.

#[cfg(test)]
mod browser;
mod tables;
#[cfg(test)]
pub(crate) mod tests;
mod trial;

pub use trial::{Shrunk, Trial, trial_page};

use crate::Report;
use crate::escape::esc;
use crate::findings::{self, Finding, News};
use crate::summary::{Operations, exit_code};
use crate::table::percent;
use std::fmt::Write;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

impl Report<'_> {
    /// `index.html`, with the timelines of these trials in this order.
    pub fn page(&self, trials: &[Trial]) -> String {
        let mut body = String::new();
        self.head(&mut body);
        self.findings_html(&mut body);
        self.failures_html(&mut body, trials);
        tables::guarantees(&mut body, self.summary);
        tables::coverage(&mut body, self.summary);
        tables::marks(&mut body, self.summary);
        document(&format!("Sea trials: {}", self.verdict()), &body)
    }

    fn head(&self, out: &mut String) {
        let (summary, run) = (self.summary, self.run);
        let tone = match exit_code(summary) {
            _ if summary.trials == 0 => "warn",
            0 if run.interrupted => "warn",
            0 => "good",
            14 => "warn",
            _ => "bad",
        };
        let (verdict, setting) = (esc(self.verdict()), esc(run.tried()));
        let _ = writeln!(out, "<header class=\"{tone}\">\n<h1>{verdict}</h1>");
        let (seeds, begun) = (esc(run.seeds.named(5)), run.begun().replace('T', " "));
        let _ = writeln!(
            out,
            "<p>Scenario <b>{setting}</b>, seeds {seeds}, begun {begun} UTC, {:.0} s of wall time, \
             build <code>{}</code></p>\n</header>",
            run.took_s,
            esc(&run.build)
        );
        out.push_str("<div class=\"tiles\">\n");
        let Operations { total, succeeded, overlapping, .. } = summary.operations;
        let failed = summary.trials - summary.held;
        let struck: u64 = summary.faults.values().map(|it| it.struck).sum();
        let busy: u64 = summary.faults.values().map(|it| it.busy).sum();
        tile(out, "trials", &grouped(summary.trials), &format!("{} held", grouped(summary.held)));
        let crashed = format!("{} crashed, {} diverged", summary.crashed, summary.diverged);
        tile(out, if failed > 0 { "failed bad" } else { "failed" }, &grouped(failed), &crashed);
        tile(out, "operations", &grouped(total), &format!("{} succeeded", percent(succeeded, total)));
        tile(out, "beside a fault", &percent(overlapping, total), "of operations");
        tile(out, "faults struck", &grouped(struck), &format!("{} while busy", percent(busy, struck)));
        tile(out, "change of leader", &percent(summary.leader_changed, summary.trials), "of trials");
        if let Some(clusters) = &summary.clusters {
            let answered = percent(clusters.calls.succeeded, clusters.calls.total);
            tile(out, "service calls", &grouped(clusters.calls.total), &format!("{answered} answered"));
            let done = percent(clusters.writes.succeeded, clusters.writes.total);
            tile(out, "users' writes", &grouped(clusters.writes.total), &format!("{done} done"));
        }
        let speed = summary.speed().map_or(String::new(), |it| format!("{it:.0} per CPU second"));
        tile(out, "simulated", &format!("{} s", grouped(summary.simulated_ns / 1_000_000_000)), &speed);
        out.push_str("</div>\n");
    }

    fn findings_html(&self, out: &mut String) {
        let changes = findings::changes(self.summary, self.run, self.previous);
        let _ = writeln!(
            out,
            "<section id=\"findings\">\n<h2>Findings</h2>\n<p class=\"note\">{}</p>",
            esc(self.compared())
        );
        if changes.is_empty() {
            out.push_str("<p>Nothing failed, and nothing had failed before.</p>\n</section>\n");
            return;
        }
        out.push_str(
            "<div class=\"wide\"><table>\n<thead><tr><th>News</th><th>What</th><th class=\"n\">Trials</th>\
             <th>Seeds</th></tr></thead>\n<tbody>\n",
        );
        for change in &changes {
            let (tone, news) = match change.news {
                News::New => ("bad", "new"),
                News::Known => ("warn", "known"),
                News::Resolved => ("good", "resolved"),
                News::Untried => ("mute", "not tried again"),
            };
            let Finding { what, trials, .. } = &change.finding;
            let gone = matches!(change.news, News::Resolved | News::Untried);
            let seeds =
                if gone { esc(findings::seeds(&change.finding)).to_string() } else { self.links(&change.finding) };
            let _ = writeln!(
                out,
                "<tr><td><span class=\"pill {tone}\">{news}</span></td><td><b>{}</b> {}</td>\
                 <td class=\"n\">{trials}</td><td>{seeds}</td></tr>",
                esc(what),
                esc(findings::sentence(what))
            );
        }
        out.push_str("</tbody></table></div>\n</section>\n");
    }

    /// Its seeds; those that have a place on the page lead there.
    fn links(&self, finding: &Finding) -> String {
        let has_place = |seed: u64| self.summary.failures.iter().any(|failure| failure.seed == seed);
        let link = |seed: &u64| match has_place(*seed) {
            true => format!("<a href=\"#seed-{seed}\">{seed}</a>"),
            false => seed.to_string(),
        };
        let links: Vec<String> = finding.seeds.iter().map(link).collect();
        let more = if finding.trials > links.len() as u64 { " and more" } else { "" };
        format!("{}{more}", links.join(", "))
    }

    fn failures_html(&self, out: &mut String, trials: &[Trial]) {
        let summary = self.summary;
        if summary.failures.is_empty() && summary.lost_seeds.is_empty() {
            return;
        }
        out.push_str("<section id=\"failures\">\n<h2>Failed trials</h2>\n");
        for (index, failure) in summary.failures.iter().enumerate() {
            let drawn = trials.iter().find(|trial| trial.timeline.seed == failure.seed);
            trial::failed(out, self.run, failure, drawn, index == 0);
        }
        let recorded = |seed: &&u64| !summary.failures.iter().any(|failure| failure.seed == **seed);
        for seed in summary.lost_seeds.iter().filter(recorded) {
            let command = esc(self.run.replay(*seed));
            let mut name = self.run.name(*seed);
            name[..1].make_ascii_uppercase();
            let _ = writeln!(
                out,
                "<p class=\"lost\">{name} left no record: its worker died, or it did two different things.</p>\n\
                 <pre>{command}</pre>"
            );
        }
        let failed = summary.trials - summary.held;
        let shown = summary.failures.len() + summary.lost_seeds.iter().filter(recorded).count();
        if failed > shown as u64 {
            let _ = writeln!(
                out,
                "<p class=\"note\">{} more failed; these are the lowest seeds. The records of all are in \
                 <code>{}</code>.</p>",
                failed - shown as u64,
                esc(&self.run.folder)
            );
        }
        out.push_str("</section>\n");
    }
}

/// A figure with what it is and what to know beside it.
fn tile(out: &mut String, name: &str, figure: &str, beside: &str) {
    let (name, tone) = name.split_once(" bad").map_or((name, ""), |(name, _)| (name, " bad"));
    let (name, figure, beside) = (esc(name), esc(figure), esc(beside));
    let _ = writeln!(
        out,
        "<div class=\"tile{tone}\"><span>{name}</span><strong>{figure}</strong><small>{beside}</small></div>"
    );
}

/// With thin spaces between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// A whole document. `body` is HTML.
fn document(title: &str, body: &str) -> String {
    let title = esc(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n\
         <div id=\"tip\" role=\"status\" hidden></div>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    )
}
