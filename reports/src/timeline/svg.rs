//! A timeline as SVG in HTML.
//!
//! Places in time are percentages of the width, so that a reader zooms by making the picture wider: nothing is distorted
//! and nothing is computed anew.

use super::{Flag, Lane, Mark, Sort, Timeline, words};
use crate::escape::esc;
use record::Ns;
use std::fmt::Write;

/// Above the lanes: flags of failures and the axis, in pixels.
const HEAD: u32 = 36;

/// Between lanes.
const GAP: u32 = 5;

/// The lowest lane has space for its name.
const LEAST: u32 = 18;

/// Pixels per simulated second before zooming: two minutes fit a wide screen twice over.
const PIXELS_PER_SECOND: f64 = 12.0;

/// The picture is at least and at most so wide before zooming.
const WIDTHS: (f64, f64) = (900.0, 4_000.0);

/// What is shorter than this part of the trial has no label: there would not be space for it at any zoom.
const LEAST_LABELLED: u64 = 250;

/// Flags closer to each other than this part of the trial share a label.
const FLAG_LABEL: u64 = 40;

/// What a reader can switch off beside sorts: outcomes.
const OUTCOMES: [(&str, &str); 3] =
    [(words::OK, "answered"), (words::REFUSED, "refused"), (words::UNKNOWN, "unanswered")];

impl Timeline {
    /// The picture with its controls, for a page with this crate's style and script.
    pub(crate) fn html(&self) -> String {
        let mut out = String::from("<div class=\"timeline\">\n");
        self.controls(&mut out);
        let tops = self.tops();
        let height = tops.last().map_or(HEAD, |(top, lane)| top + tall(lane) + GAP);
        let seconds = self.ended_ns as f64 / 1e9;
        let width = (seconds * PIXELS_PER_SECOND).clamp(WIDTHS.0, WIDTHS.1);
        out.push_str(
            "<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"timeline, scrolls sideways\">\n",
        );
        let _ = write!(out, "<div class=\"names\" style=\"height:{height}px\">");
        for (top, lane) in &tops {
            let (name, tall) = (esc(&lane.name), tall(lane));
            let _ = write!(out, "<span style=\"top:{top}px;height:{tall}px\">{name}</span>");
        }
        out.push_str("</div>\n");
        let seed = self.seed;
        let _ = writeln!(
            out,
            "<svg class=\"picture\" role=\"img\" width=\"{width:.0}\" height=\"{height}\" data-width=\"{width:.0}\" \
             aria-label=\"what happened in seed {seed}, {} simulated seconds\">",
            seconds.round()
        );
        self.axis(&mut out, height);
        for (top, lane) in &tops {
            let _ = writeln!(out, "<g class=\"lane\" transform=\"translate(0,{top})\">");
            let _ = writeln!(out, "<rect class=\"ground\" width=\"100%\" height=\"{}\"/>", tall(lane));
            lane.marks.iter().for_each(|mark| self.band(&mut out, mark, tall(lane)));
            lane.marks.iter().for_each(|mark| self.mark(&mut out, mark));
            out.push_str("</g>\n");
        }
        self.flags(&mut out, height);
        out.push_str("</svg>\n</div>\n");
        if !self.left_out.is_empty() {
            let _ = writeln!(out, "<p class=\"note\">{}.</p>", esc(self.left_out.join("; ")));
        }
        out.push_str("</div>\n");
        out
    }

    /// Each lane with its upper edge.
    fn tops(&self) -> Vec<(u32, &Lane)> {
        let mut top = HEAD;
        let place = |lane| {
            let at = top;
            top += tall(lane) + GAP;
            (at, lane)
        };
        self.lanes.iter().map(place).collect()
    }

    fn controls(&self, out: &mut String) {
        let seed = self.seed;
        out.push_str("<div class=\"controls\">\n");
        if self.first.is_some() {
            let _ = writeln!(out, "<a class=\"jump\" href=\"#first-{seed}\">Jump to the first failure</a>");
            if self.flags.len() > 1 {
                let _ = writeln!(out, "<button type=\"button\" class=\"next\">Next of {}</button>", self.flags.len());
            }
        }
        out.push_str("<label class=\"zoom\">Zoom <input type=\"range\" min=\"0\" max=\"50\" value=\"0\"></label>\n");
        let sorts = self.sorts();
        let asked = sorts.iter().any(|sort| matches!(sort, Sort::Operation | Sort::Write | Sort::Call));
        let outcomes = OUTCOMES.into_iter().filter(|_| asked);
        for (class, name) in sorts.iter().map(|sort| (sort.class(), sort.name())).chain(outcomes) {
            let _ = writeln!(
                out,
                "<label class=\"switch\"><input type=\"checkbox\" checked data-hide=\"{class}\">\
                 <i class=\"key {class}\"></i>{name}</label>"
            );
        }
        out.push_str("</div>\n");
    }

    fn axis(&self, out: &mut String, height: u32) {
        let step_ns = step(self.ended_ns);
        let mut at_ns = 0;
        while at_ns <= self.ended_ns {
            let (x, y, seconds) = (self.x(at_ns), HEAD - 6, at_ns / 1_000_000_000);
            let _ = write!(out, "<line class=\"tick\" x1=\"{x}\" x2=\"{x}\" y1=\"{}\" y2=\"{height}\"/>", HEAD - 3);
            // The last one would be cut off.
            if at_ns + step_ns / 2 < self.ended_ns {
                let _ = writeln!(out, "<text class=\"time\" x=\"{x}\" y=\"{y}\" dx=\"2\">{seconds} s</text>");
            }
            at_ns += step_ns;
        }
        if self.healed_ns > 0 && self.healed_ns < self.ended_ns {
            let x = self.x(self.healed_ns);
            let title = format!("the faults are over at {}", words::at(self.healed_ns));
            let _ = writeln!(
                out,
                "<g class=\"m healed\"><line x1=\"{x}\" x2=\"{x}\" y1=\"14\" y2=\"{height}\"/>\
                 <text x=\"{x}\" y=\"12\" dx=\"3\">faults are over</text><title>{title}</title></g>"
            );
        }
    }

    /// Behind everything on the lane: that a fault was active.
    fn band(&self, out: &mut String, mark: &Mark, lane: u32) {
        if mark.sort != Sort::Fault {
            return;
        }
        let (x, width) = (self.x(mark.from_ns), self.x(mark.until_ns.saturating_sub(mark.from_ns)));
        let (class, shade) = (mark.sort.class(), mark.shade);
        let _ = writeln!(out, "<rect class=\"band {class} {shade}\" x=\"{x}\" width=\"{width}\" height=\"{lane}\"/>");
    }

    fn mark(&self, out: &mut String, mark: &Mark) {
        let Mark { sort, shade, y, height, label, title, .. } = mark;
        let (x, width) = (self.x(mark.from_ns), self.x(mark.until_ns.saturating_sub(mark.from_ns)));
        let (class, title) = (sort.class(), esc(title));
        let _ = write!(out, "<g class=\"m {class} {shade}\">");
        let _ = write!(out, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>");
        if !label.is_empty() && (mark.until_ns - mark.from_ns) * LEAST_LABELLED >= self.ended_ns {
            // A picture within the picture cuts off what is longer than the mark.
            let (label, base) = (esc(label), height.saturating_sub(3));
            let _ = write!(
                out,
                "<svg x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"><text x=\"3\" y=\"{base}\">{label}</text></svg>"
            );
        }
        let _ = writeln!(out, "<title>{title}</title></g>");
    }

    fn flags(&self, out: &mut String, height: u32) {
        let gravest = self.first.as_ref();
        let is_first = |flag: &Flag| gravest.is_some_and(|it| it.what == flag.what && it.at_ns == flag.at_ns);
        let first = self.flags.iter().position(is_first);
        let mut labelled_ns = None;
        for (index, flag) in self.flags.iter().enumerate() {
            let (x, what, text) = (self.x(flag.at_ns), esc(&flag.what), esc(words::limited(&flag.text)));
            let id = if Some(index) == first { format!(" id=\"first-{}\"", self.seed) } else { String::new() };
            let percent = percent(flag.at_ns, self.ended_ns);
            let _ = write!(
                out,
                "<g class=\"m flag\"{id} data-at=\"{percent}\"><line x1=\"{x}\" x2=\"{x}\" y1=\"4\" y2=\"{height}\"/>"
            );
            if labelled_ns.is_none_or(|last| flag.at_ns - last >= self.ended_ns / FLAG_LABEL) {
                labelled_ns = Some(flag.at_ns);
                let _ = write!(out, "<text x=\"{x}\" y=\"12\" dx=\"4\">{}</text>", esc(self.label(index)));
            }
            let _ = writeln!(out, "<title>{what} at {}: {text}</title></g>", words::at(flag.at_ns));
        }
    }

    /// Names of what failed at this flag and soon after it, each once.
    fn label(&self, index: usize) -> String {
        let from_ns = self.flags[index].at_ns;
        let near = self.flags[index..].iter().take_while(|it| it.at_ns - from_ns < self.ended_ns / FLAG_LABEL);
        let mut names: Vec<&str> = Vec::new();
        for flag in near {
            if !names.contains(&flag.what.as_str()) {
                names.push(&flag.what);
            }
        }
        names.join(" ")
    }

    fn x(&self, ns: Ns) -> String {
        format!("{}%", percent(ns, self.ended_ns))
    }
}

/// A place in time without superfluous digits.
fn percent(ns: Ns, of_ns: Ns) -> String {
    let percent = format!("{:.4}", ns as f64 * 100.0 / of_ns as f64);
    percent.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn tall(lane: &Lane) -> u32 {
    lane.height.max(LEAST)
}

/// From tick to tick: a round number of seconds, so that there are about twenty.
fn step(ended_ns: Ns) -> Ns {
    const SECOND: Ns = 1_000_000_000;
    let steps = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_200, 3_600].map(|seconds| seconds * SECOND);
    steps.into_iter().find(|step| ended_ns / step <= 24).unwrap_or(ended_ns / 24 + SECOND)
}
