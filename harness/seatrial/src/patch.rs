//! Planted bugs as patches: read, bounded, and applied strictly.
//!
//! ```text
//! Guarantee: C1, C2          any of these may find it; `none` for a change that must not be found
//! Number: 5                  which bug of the design's catalogue it is; left out where it is none of those
//! Source: etcd#7331          where such a bug was real
//! Scenario: squall           what is tried; left out, what `run` tries without `--scenario`
//! Mechanism: what the change does, in a sentence
//!
//! --- a/cluster/raft/src/lib.rs
//! +++ b/cluster/raft/src/lib.rs
//! @@ -10,3 +10,2 @@
//! ```
//!
//! **Invariant:** a patch changes what its author saw, or nothing: every line of context must be there, at the place
//! given or at exactly one other (`a_hunk_that_fits_at_two_places_is_refused`).

use crate::trial::STORE;

/// The most lines that a patch may add and remove together: a planted bug is a slip, not a rewrite.
pub const MAX_CHANGED_LINES: usize = 15;

/// A patch of the board.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// The file's name without `.patch`.
    pub name: String,
    /// Any of these may find it. Empty: a harmless control, which nothing may flag.
    pub guarantees: Vec<String>,
    /// Its number in the catalogue of bugs that the design wants planted, if it is one of those.
    pub number: Option<u32>,
    /// Where such a bug was real.
    pub source: String,
    /// In which scenario the trials have to find it.
    pub scenario: String,
    /// What the change does.
    pub mechanism: String,
    /// What changes.
    pub files: Vec<FilePatch>,
}

impl Patch {
    /// Whether nothing may flag it.
    pub fn is_control(&self) -> bool {
        self.guarantees.is_empty()
    }
}

/// The changes to one file.
#[derive(Clone, Debug, PartialEq)]
pub struct FilePatch {
    /// From the root.
    pub path: String,
    /// In order.
    pub hunks: Vec<Hunk>,
}

/// Lines in a row, some of which change.
#[derive(Clone, Debug, PartialEq)]
pub struct Hunk {
    /// Where the old lines begin, counted from 1.
    pub line: usize,
    /// Kept, removed and added lines.
    pub lines: Vec<Line>,
}

/// A line of a hunk.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// In both.
    Kept(String),
    /// Only in the old text.
    Removed(String),
    /// Only in the new text.
    Added(String),
}

impl Hunk {
    fn before(&self) -> Vec<&str> {
        self.lines
            .iter()
            .filter_map(|line| match line {
                Line::Kept(text) | Line::Removed(text) => Some(text.as_str()),
                Line::Added(_) => None,
            })
            .collect()
    }

    fn after(&self) -> Vec<&str> {
        self.lines
            .iter()
            .filter_map(|line| match line {
                Line::Kept(text) | Line::Added(text) => Some(text.as_str()),
                Line::Removed(_) => None,
            })
            .collect()
    }

    fn changed(&self) -> usize {
        self.lines.iter().filter(|line| !matches!(line, Line::Kept(_))).count()
    }
}

/// Reads a patch and holds it to the board's rules. The error is one sentence.
pub fn parse(name: &str, text: &str) -> Result<Patch, String> {
    let start = text.find("\n--- ").ok_or("no `--- a/FILE` line after a header")?;
    let (header, body) = text.split_at(start + 1);
    let field = |key: &str| {
        header
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
            .ok_or(format!("no `{key}: ...` line in its header"))
    };
    let named = field("Guarantee")?;
    let guarantees = match named.as_str() {
        "none" => Vec::new(),
        some => some.split(',').map(|it| it.trim().to_owned()).collect(),
    };
    let number = match field("Number") {
        Err(_) => None,
        Ok(text) => Some(text.parse().map_err(|_| format!("`Number: {text}` is no number"))?),
    };
    let patch = Patch {
        name: name.to_owned(),
        guarantees,
        number,
        source: field("Source")?,
        scenario: field("Scenario").unwrap_or_else(|_| STORE.to_owned()),
        mechanism: field("Mechanism")?,
        files: parse_files(body)?,
    };
    let changed: usize = patch.files.iter().flat_map(|file| &file.hunks).map(Hunk::changed).sum();
    if changed == 0 {
        return Err("it changes nothing".into());
    }
    if changed > MAX_CHANGED_LINES {
        return Err(format!("it changes {changed} lines; at most {MAX_CHANGED_LINES} are allowed"));
    }
    Ok(patch)
}

fn parse_files(body: &str) -> Result<Vec<FilePatch>, String> {
    let mut files: Vec<FilePatch> = Vec::new();
    let mut lines = body.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(old) = line.strip_prefix("--- ") {
            let new = lines.next().and_then(|it| it.strip_prefix("+++ ")).ok_or("`---` without `+++` after it")?;
            files.push(FilePatch { path: path_of(old, new)?, hunks: Vec::new() });
        } else if let Some(range) = line.strip_prefix("@@ -") {
            let file = files.last_mut().ok_or("a hunk before the first file")?;
            let (line, old_count, new_count) = parse_range(range).ok_or(format!("not a hunk: `{line}`"))?;
            let hunk = parse_hunk(line, old_count, new_count, &mut lines)?;
            file.hunks.push(hunk);
        } else if !line.is_empty() && !line.starts_with("diff ") && !line.starts_with("index ") && line != "-- " {
            return Err(format!("a line outside every hunk: `{line}`"));
        }
    }
    match files.iter().find(|file| file.hunks.is_empty()) {
        Some(file) => Err(format!("no change to {}", file.path)),
        None => Ok(files),
    }
}

fn path_of(old: &str, new: &str) -> Result<String, String> {
    let (old, new) = (old.strip_prefix("a/").unwrap_or(old), new.strip_prefix("b/").unwrap_or(new));
    if old != new {
        return Err(format!("{old} becomes {new}: a bug is planted in a file that stays"));
    }
    if !new.starts_with("cluster/") || new.split('/').any(|part| part == "..") {
        return Err(format!("{new} is not under cluster/"));
    }
    Ok(new.to_owned())
}

/// `12,5 +12,4 @@ context` to where the old lines begin, and how many lines are old and new.
fn parse_range(range: &str) -> Option<(usize, usize, usize)> {
    let (old, rest) = range.split_once(" +")?;
    let (new, _) = rest.split_once(" @@")?;
    let parts = |it: &str| match it.split_once(',') {
        Some((line, count)) => Some((line.parse().ok()?, count.parse().ok()?)),
        None => Some((it.parse().ok()?, 1)),
    };
    let (line, old_count): (usize, usize) = parts(old)?;
    let (_, new_count): (usize, usize) = parts(new)?;
    Some((line, old_count, new_count))
}

fn parse_hunk<'a>(
    line: usize,
    old_count: usize,
    new_count: usize,
    lines: &mut impl Iterator<Item = &'a str>,
) -> Result<Hunk, String> {
    let mut hunk = Hunk { line, lines: Vec::new() };
    while hunk.before().len() < old_count || hunk.after().len() < new_count {
        let line = lines.next().ok_or("a hunk is shorter than it says")?;
        // An empty kept line often loses its one blank on its way through editors.
        let (sign, text) = if line.is_empty() { (" ", "") } else { line.split_at_checked(1).unwrap_or((line, "")) };
        hunk.lines.push(match sign {
            " " => Line::Kept(text.to_owned()),
            "-" => Line::Removed(text.to_owned()),
            "+" => Line::Added(text.to_owned()),
            _ => return Err(format!("not a line of a hunk: `{line}`")),
        });
    }
    Ok(hunk)
}

/// The text with the changes made. The error is one sentence.
pub fn apply(file: &FilePatch, original: &str) -> Result<String, String> {
    let mut lines: Vec<&str> = original.split('\n').collect();
    // Earlier hunks move the lines behind them.
    let mut moved: isize = 0;
    for (number, hunk) in file.hunks.iter().enumerate() {
        let (old, new) = (hunk.before(), hunk.after());
        let place = place_of(&old, hunk.line.saturating_sub(1).saturating_add_signed(moved), &lines)
            .map_err(|why| format!("hunk {} of {} {why}", number + 1, file.path))?;
        lines.splice(place..place + old.len(), new.iter().copied());
        moved += new.len() as isize - old.len() as isize;
    }
    Ok(lines.join("\n"))
}

/// Where `old` stands: at the place `stated`, or else at the one place where it does.
fn place_of(old: &[&str], stated: usize, lines: &[&str]) -> Result<usize, &'static str> {
    let at = |place: usize| lines.get(place..place + old.len()).is_some_and(|there| there == old);
    if at(stated) {
        return Ok(stated);
    }
    let mut places = (0..lines.len()).filter(|place| at(*place));
    match (places.next(), places.next()) {
        (Some(place), None) => Ok(place),
        (None, _) => Err("does not apply: the lines that it expects are not there"),
        (Some(_), Some(_)) => Err("does not apply: the lines that it expects are there more than once"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "Guarantee: C1, C2\nSource: etcd#7331\nMechanism: reads without asking.\n\n";

    fn patch(body: &str) -> Result<Patch, String> {
        parse("p", &format!("{HEADER}{body}"))
    }

    fn on_file(hunks: &str) -> String {
        format!("--- a/cluster/raft/src/lib.rs\n+++ b/cluster/raft/src/lib.rs\n{hunks}")
    }

    fn applied(hunks: &str, original: &str) -> Result<String, String> {
        apply(&patch(&on_file(hunks))?.files[0], original)
    }

    #[test]
    fn header_names_the_guarantees_and_the_source() {
        let it = patch(&on_file("@@ -1 +1 @@\n-a\n+b\n")).expect("a good patch");
        assert_eq!((it.guarantees, it.source), (vec!["C1".to_owned(), "C2".to_owned()], "etcd#7331".to_owned()));
        let control = HEADER.replace("C1, C2", "none") + &on_file("@@ -1 +1 @@\n-a\n+b\n");
        assert!(parse("p", &control).expect("a good patch").is_control());
    }

    #[test]
    fn header_may_name_the_scenario() {
        let body = on_file("@@ -1 +1 @@\n-a\n+b\n");
        assert_eq!(patch(&body).expect("a good patch").scenario, STORE);
        let named = format!("Scenario: squall\n{HEADER}{body}");
        assert_eq!(parse("p", &named).expect("a good patch").scenario, "squall");
    }

    #[test]
    fn header_may_have_the_bugs_number() {
        let body = on_file("@@ -1 +1 @@\n-a\n+b\n");
        assert_eq!(patch(&body).expect("a good patch").number, None);
        let numbered = |number: &str| parse("p", &format!("Number: {number}\n{HEADER}{body}"));
        assert_eq!(numbered("5").expect("a good patch").number, Some(5));
        assert_eq!(numbered("five"), Err("`Number: five` is no number".to_owned()));
    }

    #[test]
    fn a_patch_without_a_header_field_is_refused() {
        for key in ["Guarantee", "Source", "Mechanism"] {
            let text = format!("{HEADER}{}", on_file("@@ -1 +1 @@\n-a\n+b\n")).replace(key, "Other");
            assert_eq!(parse("p", &text), Err(format!("no `{key}: ...` line in its header")));
        }
    }

    #[test]
    fn hunks_are_applied_at_their_place_and_move_those_behind() {
        let hunks = "@@ -1,2 +1,3 @@\n a\n+new\n b\n@@ -4,2 +5,1 @@\n d\n-e\n";
        assert_eq!(applied(hunks, "a\nb\nc\nd\ne\n"), Ok("a\nnew\nb\nc\nd\n".into()));
    }

    #[test]
    fn a_hunk_is_found_where_its_lines_moved_to() {
        assert_eq!(applied("@@ -1,2 +1,2 @@\n a\n-b\n+x\n", "0\n0\na\nb\n"), Ok("0\n0\na\nx\n".into()));
    }

    #[test]
    fn a_hunk_that_fits_at_two_places_is_refused() {
        let wrong = applied("@@ -1,1 +1,1 @@\n-b\n+x\n", "a\nb\nb\n");
        assert!(wrong.is_err_and(|it| it.contains("more than once")));
    }

    #[test]
    fn a_hunk_whose_context_is_gone_is_refused() {
        let wrong = applied("@@ -1,2 +1,2 @@\n z\n-b\n+x\n", "a\nb\n");
        assert!(wrong.is_err_and(|it| it.contains("not there")));
    }

    #[test]
    fn a_patch_of_more_than_fifteen_lines_is_refused() {
        let added = "+x\n".repeat(MAX_CHANGED_LINES);
        let fits = format!("@@ -1,1 +1,{} @@\n a\n{added}", MAX_CHANGED_LINES + 1);
        assert!(patch(&on_file(&fits)).is_ok());
        let too_long = format!("@@ -1,1 +1,{} @@\n a\n{added}+x\n", MAX_CHANGED_LINES + 2);
        assert!(patch(&on_file(&too_long)).is_err_and(|it| it.contains("changes 16 lines")));
    }

    #[test]
    fn a_patch_outside_the_cluster_is_refused() {
        for path in ["harness/sim/src/lib.rs", "cluster/../faults/src/lib.rs"] {
            let text = format!("--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-a\n+b\n");
            assert!(patch(&text).is_err_and(|it| it.contains("not under cluster/")), "{path}");
        }
    }

    #[test]
    fn a_patch_that_adds_or_moves_a_file_is_refused() {
        let text = "--- /dev/null\n+++ b/cluster/raft/src/new.rs\n@@ -0,0 +1 @@\n+a\n";
        assert!(patch(text).is_err_and(|it| it.contains("a file that stays")));
    }
}
