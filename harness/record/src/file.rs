//! Records on disk: one JSON document each, written whole or not at all.
//!
//! A record may be edited by hand, so nothing in it is a checksum; what a reader refuses is what it cannot repeat: other
//! files, halves of files, other formats, and records of another build.

use crate::{FORMAT, Record};
use serde::Deserialize;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes `record` to `path`. Whoever reads `path` meanwhile sees the file that was there before, or the whole new one.
///
/// # Errors
/// What the file system says. Nothing at `path` has changed then.
pub fn write(path: &Path, record: &Record) -> io::Result<()> {
    let mut document = serde_json::to_vec(record).map_err(io::Error::other)?;
    document.push(b'\n');
    write_whole(path, &document)
}

/// Writes a file of which nobody ever sees a part. Whoever reads `path` meanwhile sees what was there before.
///
/// # Errors
/// What the file system says. Nothing at `path` has changed then.
pub fn write_whole(path: &Path, document: &[u8]) -> io::Result<()> {
    let partial = partial(path);
    let written = write_synced(&partial, document).and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        // What is left of a failed attempt helps nobody; that it cannot be removed says nothing new.
        let _ = fs::remove_file(&partial);
    }
    written
}

/// Reads the record at `path`, which must come from the build `build` (as in [`Record::build`]).
///
/// # Errors
/// One sentence that says what to do; the file is left as it is.
pub fn read(path: &Path, build: &str) -> Result<Record, ReadError> {
    let document =
        fs::read(path).map_err(|error| ReadError::Unreadable { path: path.to_owned(), error: error.to_string() })?;
    parse(path, build, &document)
}

/// Why a record cannot be used. Each is the user's error and says in one sentence what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No such file, or it may not be read.
    #[error("cannot read {path}: {error}; give the path of a record that `cargo trial run --out DIR` wrote")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        error: String,
    },
    /// Something else than a record.
    #[error("{path} is not a trial's record; give the path of one that `cargo trial run --out DIR` wrote")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A record that lost a part or was edited into something else.
    #[error("{path} is damaged ({error}); write it anew with `cargo trial run --seed S --out DIR`")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        error: String,
    },
    /// A record of another form.
    #[error("{path} has format {found} but this build reads format {FORMAT}; use the build that wrote it")]
    OtherFormat {
        /// The file.
        path: PathBuf,
        /// The format found.
        found: u64,
    },
    /// A record of other sources, under which the same seed is another trial.
    #[error(
        "{path} was written by build {found} and repeats only there, but this is build {own}; check out its sources, or run its seed anew"
    )]
    OtherBuild {
        /// The file.
        path: PathBuf,
        /// The build that wrote it.
        found: String,
        /// The build that reads it.
        own: String,
    },
}

/// What every record of every format begins with.
#[derive(Deserialize)]
struct Head {
    format: u64,
    build: String,
}

fn parse(path: &Path, build: &str, document: &[u8]) -> Result<Record, ReadError> {
    let corrupt = |error: serde_json::Error| ReadError::Corrupt { path: path.to_owned(), error: error.to_string() };
    let head: Head = match serde_json::from_slice(document) {
        Ok(head) => head,
        Err(error) if begins_as_a_record(document) => return Err(corrupt(error)),
        Err(_) => {
            return Err(ReadError::Foreign { path: path.to_owned() });
        }
    };
    if head.format != u64::from(FORMAT) {
        return Err(ReadError::OtherFormat { path: path.to_owned(), found: head.format });
    }
    if head.build != build {
        return Err(ReadError::OtherBuild { path: path.to_owned(), found: head.build, own: build.to_owned() });
    }
    serde_json::from_slice(document).map_err(corrupt)
}

/// Whether the first key is `format`, whatever follows and however it is indented.
fn begins_as_a_record(document: &[u8]) -> bool {
    let tokens: Vec<u8> = document.iter().copied().filter(|b| !b.is_ascii_whitespace()).take(10).collect();
    tokens == b"{\"format\":"
}

/// The name beside `path` under which it is written first. Two processes that write the same record do not meet.
fn partial(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    path.with_file_name(name)
}

fn write_synced(path: &Path, document: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(document)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Guarantee, KeyRange, Operation, Outcome, Reply, Request, Verdict, Violation};
    use std::collections::BTreeMap;

    fn record() -> Record {
        Record {
            format: FORMAT,
            build: "b1".into(),
            config: Config {
                scenario: "store".into(),
                members: 3,
                one_more_permille: 0,
                freeze_minority_permille: 0,
                client_hosts: 1,
                faults_ns: 1,
                calm_ns: 2,
                rate: 30,
                keys: 4,
                faults: true,
                cluster: None,
                backend: <_>::default(),
                rules: None,
            },
            seed: u64::MAX,
            executor_seed: 7,
            schedule: faults::Schedule::default(),
            strikes: vec![],
            operations: vec![Operation {
                id: 0,
                client: 1,
                invoked_ns: 5,
                completed_ns: 9,
                request: Request::Read { range: KeyRange::key("a\"\u{e9}"), revision: 0 },
                outcome: Outcome::Ok { revision: 1, member: 0, reply: Reply::Read(vec![]) },
            }],
            watches: vec![],
            observations: vec![],
            cluster: <_>::default(),
            marks: BTreeMap::from([("vote granted".to_owned(), 3)]),
            healed_ns: 1,
            ended_ns: 3,
            slack_ns: 0,
            log_hash: u64::MAX - 1,
            checkpoints: vec![1, u64::MAX],
            panics: vec![],
            verdicts: vec![Verdict {
                guarantee: Guarantee::C1,
                tested: 1,
                violations: vec![Violation { at_ns: 2, text: "it failed".into() }],
                largest_ns: None,
            }],
        }
    }

    fn refused(document: &[u8]) -> String {
        let error = parse(Path::new("r.json"), "b1", document).expect_err("is refused").to_string();
        assert!(!error.contains('\n'), "one line: {error}");
        error
    }

    /// A directory of this test alone, removed in the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("seaworthy-record-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let dir = Scratch::new("again");
        let path = dir.0.join("17.json");
        write(&path, &record()).unwrap();
        write(&path, &record()).unwrap();
        let again = read(&path, "b1").unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), serde_json::to_string(&record()).unwrap());
        let names: Vec<_> = fs::read_dir(&dir.0).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["17.json"], "nothing partial is left");
    }

    #[test]
    fn a_write_that_fails_leaves_nothing_behind() {
        let dir = Scratch::new("fails");
        // A directory stands where the record should be, so that the rename fails after everything was written.
        fs::create_dir_all(dir.0.join("17.json/inside")).unwrap();
        assert!(write(&dir.0.join("17.json"), &record()).is_err());
        assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 1);
    }

    #[test]
    fn a_record_edited_by_hand_is_read_however_it_is_indented() {
        let document = serde_json::to_vec_pretty(&record()).unwrap();
        assert_eq!(parse(Path::new("r.json"), "b1", &document).unwrap().seed, u64::MAX);
        assert!(begins_as_a_record(&document));
    }

    #[test]
    fn other_files_are_refused_as_what_they_are() {
        for foreign in ["", "hello", "[1, 2]", "{}", "{\"name\": \"x\"}", "\u{7f}ELF"] {
            assert!(refused(foreign.as_bytes()).starts_with("r.json is not a trial's record; "), "{foreign:?}");
        }
        let error = read(Path::new("/nonexistent/r.json"), "b1").expect_err("is not there").to_string();
        assert!(error.starts_with("cannot read /nonexistent/r.json: "), "{error}");
    }

    #[test]
    fn every_half_of_a_record_is_refused_as_damaged() {
        let document = serde_json::to_vec(&record()).unwrap();
        for length in 10..document.len() {
            assert!(refused(&document[..length]).starts_with("r.json is damaged ("), "the first {length} bytes");
        }
        let strange = String::from_utf8(document).unwrap().replace("\"operations\":[", "\"operations\":[7,");
        assert!(refused(strange.as_bytes()).starts_with("r.json is damaged ("));
    }

    #[test]
    fn other_formats_and_builds_are_refused_by_name() {
        let mut other = record();
        other.build = "b0".into();
        let error = refused(&serde_json::to_vec(&other).unwrap());
        assert!(
            error.starts_with("r.json was written by build b0 and repeats only there, but this is build b1;"),
            "{error}"
        );
        let error = refused(b"{\"format\": 99, \"build\": \"b1\", \"a form of the future\": []}");
        let expected = format!("r.json has format 99 but this build reads format {FORMAT};");
        assert!(error.starts_with(&expected), "{error}");
    }
}
