//! The tables of a run's page: guarantees, coverage, marks.

use super::grouped;
use crate::coverage::{Component, Phase};
use crate::escape::esc;
use crate::summary::{Summary, Tally};
use record::Kind;
use std::fmt::Write;

pub(super) fn guarantees(out: &mut String, summary: &Summary) {
    out.push_str(
        "<section id=\"guarantees\">\n<h2>Guarantees</h2>\n<div class=\"wide\"><table>\n<thead><tr><th></th><th>Guarantee</th>\
         <th>In trials</th><th class=\"n\">Held</th><th class=\"n\">Failed</th><th class=\"n\">Vacuous</th>\
         <th class=\"n\">Tested</th><th class=\"n\">Largest</th><th class=\"n\">Bound</th></tr></thead>\n<tbody>\n",
    );
    for guaranteed in summary.promised() {
        let tally = summary.guarantees.get(&guaranteed.id).copied().unwrap_or_default();
        let Tally { held, failed, vacuous, tested, largest_ns } = tally;
        let tone = match tally {
            _ if failed > 0 => "bad",
            _ if tested == 0 => "warn",
            _ => "",
        };
        let seconds =
            |ns: Option<u64>, digits: usize| ns.map_or(String::new(), |ns| format!("{:.digits$} s", ns as f64 / 1e9));
        let (id, text) = (guaranteed.id, esc(guaranteed.text));
        let _ = writeln!(
            out,
            "<tr class=\"{tone}\"><th>{id}</th><td>{text}</td><td>{}</td><td class=\"n\">{held}</td>\
             <td class=\"n f\">{failed}</td><td class=\"n v\">{vacuous}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td></tr>",
            shares(tally),
            grouped(tested),
            seconds(largest_ns, 2),
            seconds(guaranteed.bound_ns, 0)
        );
    }
    out.push_str("</tbody></table></div>\n");
    out.push_str(
        "<p class=\"note\">Tested says how often a guarantee could have failed, in all trials together. Vacuous are the trials \
         in which it could not.</p>\n</section>\n",
    );
}

/// A bar with a part for each of held, failed and vacuous.
fn shares(tally: Tally) -> String {
    let all = tally.held + tally.failed + tally.vacuous;
    let part = |class: &str, trials: u64| {
        let percent = if all == 0 { 0.0 } else { trials as f64 * 100.0 / all as f64 };
        format!("<i class=\"{class}\" style=\"width:{percent:.1}%\"></i>")
    };
    let parts = [part("f", tally.failed), part("h", tally.held), part("v", tally.vacuous)];
    format!("<span class=\"bar\" aria-hidden=\"true\">{}</span>", parts.concat())
}

pub(super) fn coverage(out: &mut String, summary: &Summary) {
    let orchestrates = summary.clusters.is_some();
    let components = Component::ALL.into_iter().filter(|it| orchestrates || *it < Component::Node);
    let components: Vec<Component> = components.collect();
    let phases: Vec<Phase> = Phase::ALL.into_iter().filter(|it| orchestrates || *it != Phase::Rollout).collect();
    let largest = summary.coverage.values().flat_map(|it| it.values().flat_map(|it| it.values())).max().copied();
    out.push_str(
        "<section id=\"coverage\">\n<h2>Coverage</h2>\n<p class=\"note\">How often each kind of fault hit what, and what was \
         going on then. A dot: it never did.</p>\n<div class=\"wide\"><table class=\"matrix\">\n<thead><tr><th rowspan=\"2\">Fault</th>\
         <th rowspan=\"2\" class=\"n\">Struck</th><th rowspan=\"2\" class=\"n\">Busy</th>",
    );
    for component in &components {
        let _ = write!(out, "<th class=\"group\" colspan=\"{}\">{}</th>", phases.len(), component.name());
    }
    out.push_str("</tr>\n<tr>");
    for _ in &components {
        for (index, phase) in phases.iter().enumerate() {
            let first = if index == 0 { " first" } else { "" };
            let _ = write!(out, "<th class=\"phase{first}\"><span>{}</span></th>", phase.name());
        }
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    // Nobody is missed who is not frozen: only some scenarios leave a minority as it is.
    let frozen = Some(Kind::Frozen).filter(|kind| summary.faults.contains_key(kind.name()));
    for kind in Kind::all().filter(|kind| orchestrates || Kind::STORE.contains(kind)).chain(frozen) {
        let struck = summary.faults.get(kind.name()).copied().unwrap_or_default();
        let tone = if struck.busy == 0 { " class=\"warn\"" } else { "" };
        let (name, places) = (kind.name(), summary.coverage.get(kind.name()));
        let _ = write!(
            out,
            "<tr{tone}><th>{name}</th><td class=\"n\">{}</td><td class=\"n\">{}</td>",
            struck.struck, struck.busy
        );
        for component in &components {
            let met = places.and_then(|places| places.get(component));
            for (index, phase) in phases.iter().enumerate() {
                let first = if index == 0 { " first" } else { "" };
                let times = met.and_then(|phases| phases.get(phase)).copied().unwrap_or_default();
                let (heat, text) = match (met, times) {
                    (None, _) => ("none".to_owned(), String::new()),
                    (Some(_), 0) => ("gap".to_owned(), "·".to_owned()),
                    (Some(_), _) => (format!("h{}", heat(times, largest.unwrap_or(1))), times.to_string()),
                };
                let _ = write!(out, "<td class=\"cell {heat}{first}\">{text}</td>");
            }
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n</section>\n");
}

/// From 1 to 5, by the number of digits more or less: a kind that strikes ten times as often is not ten times as well
/// covered.
fn heat(times: u64, largest: u64) -> u32 {
    let share = (times as f64).ln_1p() / (largest as f64).ln_1p().max(1e-9);
    (share * 5.0).ceil().clamp(1.0, 5.0) as u32
}

pub(super) fn marks(out: &mut String, summary: &Summary) {
    if summary.marks.is_empty() {
        return;
    }
    let never = summary.never_reached();
    let reached = summary.marks.len() - never.len();
    let _ = writeln!(
        out,
        "<section id=\"marks\">\n<h2>Marks</h2>\n<p>{reached} of {} rare situations that the source marks were reached.</p>",
        summary.marks.len()
    );
    if !never.is_empty() {
        let _ = writeln!(out, "<details><summary>{} never</summary>\n<ul class=\"marks\">", never.len());
        never.iter().for_each(|mark| out.push_str(&format!("<li>{}</li>\n", esc(mark))));
        out.push_str("</ul></details>\n");
    }
    out.push_str("</section>\n");
}
