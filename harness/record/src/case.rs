//! A trial to run again, as a file that people read and edit: what is left of a failing one when it has been shrunk.
//!
//! TOML, with everything that the trial is made of written out: it needs no build and no record, and says the same when
//! the scenario that it came from has changed. Whether the trial still goes the same way is another matter: that, only
//! the sources it was shrunk under promise.

use crate::Config;
use faults::{Fault, Schedule};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// Version of a case's form. A reader refuses every other one.
pub const CASE_FORMAT: u32 = 1;

/// A trial that is given, not drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// [`CASE_FORMAT`].
    pub format: u32,
    /// What fails in it: a guarantee's id, or `crash`. Empty if nothing is known to.
    #[serde(default)]
    pub fails: String,
    /// Of the workload, the network, the disks.
    pub seed: u64,
    /// Of the order in which ready tasks run.
    pub executor_seed: u64,
    /// Whether its twin without faults is run too, to compare with.
    #[serde(default)]
    pub twin: bool,
    /// What it is made of.
    pub config: Config,
    /// What goes wrong.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

/// Why a case cannot be used. One sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaseError {
    /// No such file, or it may not be read.
    #[error("cannot read {path}: {error}; give the path of a file that `cargo trial shrink` wrote")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        error: String,
    },
    /// It is not understood.
    #[error("{path} is no trial that can be run: {error}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column, on one line.
        error: String,
    },
    /// It is of another form.
    #[error("{path} has format {found} but this build reads format {CASE_FORMAT}; shrink the trial's record anew")]
    OtherFormat {
        /// The file.
        path: PathBuf,
        /// The format found.
        found: u32,
    },
}

impl Case {
    /// What is to go wrong.
    pub fn schedule(&self) -> Schedule {
        Schedule { faults: self.faults.clone() }
    }

    /// Writes it to `path`, whole or not at all.
    ///
    /// # Errors
    /// What the file system says. Nothing at `path` has changed then.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let text = toml::to_string(self).map_err(std::io::Error::other)?;
        let head = if self.fails.is_empty() {
            String::new()
        } else {
            format!("# {} fails in this trial. Repeat it with: cargo trial replay FILE\n\n", self.fails)
        };
        crate::file::write_whole(path, format!("{head}{text}").as_bytes())
    }

    /// Reads what [`Case::write`] wrote or somebody edited.
    ///
    /// # Errors
    /// One sentence that says what to do.
    pub fn read(path: &Path) -> Result<Self, CaseError> {
        let text = fs::read_to_string(path)
            .map_err(|error| CaseError::Unreadable { path: path.to_owned(), error: error.to_string() })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, CaseError> {
        /// What every case of every form has.
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        // Before the rest is read: another form has other fields. What has no format at all is wrong in another way.
        if let Ok(Head { format }) = toml::from_str(text)
            && format != CASE_FORMAT
        {
            return Err(CaseError::OtherFormat { path: path.to_owned(), found: format });
        }
        toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let message = error.message().replace('\n', " ");
            CaseError::Wrong { path: path.to_owned(), error: format!("line {at}: {message}") }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cluster;
    use faults::{Cut, DiskFault, Kind, Target, What, When};

    fn case() -> Case {
        let fault = |id, kind, when, what| Fault { id, kind, when, for_ns: 5, what };
        let effect = When::Effect { from: 1, nth: 2, index: 0, before: true };
        let marked = When::Marked { from: 1, mark: "vote granted".into(), delay_ns: 3 };
        let disk = What::Disk { target: Target::Nodes(vec![1, 2]), fault: DiskFault::Slow(7) };
        Case {
            format: CASE_FORMAT,
            fails: "C1".into(),
            seed: u64::MAX,
            executor_seed: 18,
            twin: true,
            config: Config {
                scenario: "squall".into(),
                members: 3,
                one_more_permille: 0,
                freeze_minority_permille: 0,
                client_hosts: 1,
                faults_ns: 70_000_000_000,
                calm_ns: 2,
                rate: 30,
                keys: 4,
                faults: true,
                cluster: Some(Cluster { nodes: 4, zones: 2, apps: 1, pods: 2, writes_per_ks: 3, calls_per_s: 4 }),
                backend: <_>::default(),
                rules: None,
            },
            faults: vec![
                fault(1, Kind::Kill, When::At(9), What::Kill { target: Target::Leader }),
                fault(2, Kind::CrashPoint, effect, What::Partition { side: Target::Marked, cut: Cut::Bridge }),
                fault(3, Kind::NodeDisk, marked, disk),
            ],
        }
    }

    fn refused(text: &str) -> String {
        let error = Case::parse(Path::new("c.toml"), text).expect_err("is refused").to_string();
        assert!(!error.contains('\n'), "one line: {error}");
        error
    }

    #[test]
    fn what_is_written_is_read_again() {
        let path = std::env::temp_dir().join(format!("seaworthy-case-{}.toml", std::process::id()));
        case().write(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let again = Case::read(&path);
        fs::remove_file(&path).unwrap();
        assert_eq!(again, Ok(case()));
        assert!(text.starts_with("# C1 fails in this trial."), "{text}");
        assert!(text.contains("[[faults]]\nid = 1\nkind = \"kill\"\n"), "{text}");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let text = toml::to_string(&case()).unwrap();
        let error = refused(&text.replace("kind = \"kill\"", "kind = \"kil\""));
        let line = text.lines().position(|line| line == "kind = \"kill\"").unwrap() + 1;
        assert!(
            error.starts_with(&format!("c.toml is no trial that can be run: line {line}: unknown variant `kil`")),
            "{error}"
        );
        assert!(refused(&text.replace("twin = true", "twins = true")).contains("unknown field `twins`"));
        assert!(refused("hello").contains("line 1"));
        assert!(
            refused(&text.replace("format = 1", "format = 9")).contains("has format 9 but this build reads format 1")
        );
        assert!(
            refused("format = 9\na_form = \"of the future\"").contains("has format 9 but this build reads format 1")
        );
        let missing = Case::read(Path::new("/nonexistent/c.toml")).expect_err("is not there").to_string();
        assert!(missing.starts_with("cannot read /nonexistent/c.toml: "), "{missing}");
    }
}
