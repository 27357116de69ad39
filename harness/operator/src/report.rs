//! What came of an operator's trials, for people and for machines.

use crate::trials::{Finding, Sum, Trials};
use record::StrikeKind;
use serde::Serialize;
use std::fmt::Write;
use std::path::Path;
use tabled::builder::Builder;
use tabled::settings::Style;

/// Everything, for machines.
///
/// # Errors
/// What cannot be written as JSON; that is nothing.
pub fn json(name: &str, sum: &Sum) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct All<'a> {
        operator: &'a str,
        #[serde(flatten)]
        sum: &'a Sum,
    }
    serde_json::to_string_pretty(&All { operator: name, sum })
}

/// What undisturbed runs have, in a line.
pub fn undisturbed(name: &str, trials: &Trials) -> String {
    let aims = trials.aims;
    format!(
        "{name}, undisturbed: {} writes, {} changes told, {} objects in the end",
        aims.writes, aims.changes, trials.objects
    )
}

/// Everything, for people. `called` is the command that repeats.
pub fn table(sum: &Sum, out: &Path, called: &str) -> String {
    let mut builder = Builder::default();
    builder.push_record(["strike", "hit", "in failing trials"]);
    for kind in StrikeKind::ALL {
        let [hit, failing] = sum.hits.get(&kind).copied().unwrap_or_default();
        builder.push_record([kind.name().to_owned(), hit.to_string(), failing.to_string()]);
    }
    let mut text = builder.build().with(Style::psql()).to_string();
    let failed = sum.findings.len() as u64;
    let _ = write!(text, "\n\n{} trials ({} held, {failed} failed)", sum.trials, sum.trials - failed);
    for (cause, findings) in causes(&sum.findings) {
        let seeds: Vec<String> = findings.iter().map(|finding| finding.judged.seed.to_string()).collect();
        let _ = write!(text, "\n\n{cause}\n  seeds {}", seeds.join(", "));
        if let Some(first) = findings.iter().min_by_key(|finding| finding.small.strikes.len()) {
            let strikes: Vec<String> = first.small.strikes.iter().map(ToString::to_string).collect();
            let strikes =
                if strikes.is_empty() { "nothing: it goes wrong by itself".to_owned() } else { strikes.join("; ") };
            let _ = write!(text, "\n  takes {strikes}");
            first.wrong.iter().skip(1).for_each(|line| {
                let _ = write!(text, "\n  also {line}");
            });
            let _ = write!(text, "\n  {called} --plan {}", file(out, first).display());
        }
    }
    text
}

/// Findings by the first thing that is wrong: most of them are one bug.
fn causes(findings: &[Finding]) -> Vec<(&str, Vec<&Finding>)> {
    let mut causes: Vec<(&str, Vec<&Finding>)> = Vec::new();
    for finding in findings {
        let cause = finding.wrong.first().map_or("", String::as_str);
        match causes.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, these)) => these.push(finding),
            None => causes.push((cause, vec![finding])),
        }
    }
    causes
}

/// Where a finding's plan is kept.
pub fn file(out: &Path, finding: &Finding) -> std::path::PathBuf {
    out.join(format!("{}.toml", finding.judged.seed))
}
