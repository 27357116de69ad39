//! The board of mutants from its patches to its exit code, in a workspace of a few lines whose compiler is a shell script.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing where it stands")]

#[path = "../src/sources.rs"]
mod sources;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What stands for cargo: makes a script that knows the hash of the copy, and whose trials fail as the planted line says.
/// Each build is noted in `builds`, and each run with its budget in `runs`.
const CARGO: &str = r##"#!/bin/sh
set -e
root=$(dirname "$0")
planted=$(cat cluster/x/src/lib.rs)
echo "$planted" >> "$root/builds"
[ "$planted" = broken ] && { echo "no such thing" >&2; exit 101; }
program="$root/program"
cat > "$program" <<END
#!/bin/sh
root=$root
planted=$planted
hash=$(cat "$root/hashes/$planted")
END
cat >> "$program" <<'END'
[ "$1" = build-hash ] && { echo "$hash"; exit; }
word=$1
while [ $# -gt 0 ]; do
    case $1 in
        --brief) brief=$2 ;;
        --budget) budget=$2 ;;
        --out) out=$2 ;;
    esac
    shift
done
if [ "$word" = shrink ]; then cp "$root/small.toml" "$out"; exit; fi
echo "$planted $budget" >> "$root/runs"
case $planted in
    early) failed='"C1"'; trials=3 ;;
    late) failed='"C7"'; trials=30 ;;
    *) failed=; trials=400 ;;
esac
[ -n "$failed" ] && echo '{}' > "$out/3.json"
echo "{\"trials\": $trials, \"cpu_s\": 1.5, \"failed\": [$failed], \"trial\": \"3\", \"situations\": 9}" > "$brief"
END
chmod +x "$program"
echo "{\"reason\": \"compiler-artifact\", \"target\": {\"name\": \"seatrial\"}, \"executable\": \"$program\"}"
"##;

/// A shrunk trial with two faults.
const SMALL: &str = r#"
format = 1
seed = 3
executor_seed = 3
[config]
scenario = "store"
members = 3
one_more_permille = 0
client_hosts = 1
faults_ns = 9
calm_ns = 1
rate = 1
keys = 1
faults = true
[[faults]]
id = 1
kind = "kill"
for_ns = 1
when = { At = 1 }
what = { Kill = { target = "Leader" } }
[[faults]]
id = 2
kind = "kill"
for_ns = 1
when = { At = 3 }
what = { Kill = { target = "Leader" } }
"#;

struct Workspace(PathBuf);

impl Workspace {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("seatrial-mutants-{name}-{}", std::process::id()));
        let workspace = Self(root);
        workspace.write("harness/seatrial/Cargo.toml", "");
        workspace.write("cluster/x/src/lib.rs", "sound\n");
        workspace.write("cargo", CARGO);
        workspace.write("small.toml", SMALL);
        fs::set_permissions(workspace.0.join("cargo"), fs::Permissions::from_mode(0o755)).unwrap();
        workspace
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A mutant that makes the only line of the product say `planted`.
    fn mutant(&self, planted: &str, guarantee: &str) {
        let patch = format!(
            "Guarantee: {guarantee}\nSource: a test\nMechanism: it says {planted}.\n\n--- a/cluster/x/src/lib.rs\n\
             +++ b/cluster/x/src/lib.rs\n@@ -1,1 +1,1 @@\n-sound\n+{planted}\n"
        );
        self.write(&format!("harness/mutants/says-{planted}.patch"), &patch);
        self.note_hash(planted);
    }

    /// What the sources' hash is while this is planted.
    fn note_hash(&self, planted: &str) {
        let line = "cluster/x/src/lib.rs";
        self.write(line, &format!("{planted}\n"));
        let hash = sources::hash(&self.0, &sources::list(&self.0).unwrap()).unwrap();
        self.write(line, "sound\n");
        self.write(&format!("hashes/{planted}"), &hash);
    }

    /// The exit code, what was printed, and the lines of the builds and runs that it took.
    fn board(&self, words: &[&str]) -> (Option<i32>, String, Vec<String>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seatrial"));
        command.arg("mutants").args(words).current_dir(&self.0).env("CARGO", self.0.join("cargo"));
        let output = command.output().unwrap();
        let mut done = Vec::new();
        for name in ["builds", "runs"] {
            let path = self.0.join(name);
            done.extend(fs::read_to_string(&path).unwrap_or_default().lines().map(|line| format!("{name} {line}")));
            let _ = fs::remove_file(path);
        }
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!printed.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        (output.status.code(), printed, done)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn json(printed: &str) -> serde_json::Value {
    serde_json::from_str(printed).unwrap()
}

#[test]
fn each_mutant_is_built_run_within_its_budget_and_judged() {
    let workspace = Workspace::new("judged");
    workspace.mutant("early", "C1, C2");
    workspace.mutant("late", "C1");
    workspace.mutant("nothing", "none");
    let (code, printed, done) = workspace.board(&["--json", "--budget", "77", "--shrink"]);
    assert_eq!(code, Some(0), "{printed}");
    let expected =
        ["builds early", "builds late", "builds nothing", "runs early 77", "runs late 77", "runs nothing 77"];
    assert_eq!(done, expected);
    let all = json(&printed);
    let facts: Vec<String> = ["found", "easy", "trials", "cpu_s", "shrunk_to"]
        .iter()
        .map(|key| {
            all["rows"].as_array().unwrap().iter().map(|row| row[*key].to_string()).collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert_eq!(facts, ["\"expected\" \"otherwise\" \"no\"", "true false false", "3 30 400", "1.5 1.5 1.5", "2 2 null"]);
    assert_eq!((&all["good"], &all["score"]["found"], &all["score"]["flagged"]), (&true.into(), &2.into(), &0.into()));
    let copy = fs::read_to_string(workspace.0.join("target/mutants/copy/cluster/x/src/lib.rs")).unwrap();
    assert_eq!(copy, "sound\n", "no bug stays planted");
    assert!(is_empty(&workspace.0.join("target/mutants/programs")), "no program stays");
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn a_board_goes_on_where_it_was_as_long_as_nothing_has_changed() {
    let workspace = Workspace::new("resumed");
    workspace.mutant("early", "C1");
    workspace.mutant("late", "C1");
    // As if the board had been stopped after the first one.
    workspace.board(&["says-early"]);
    let (code, printed, done) = workspace.board(&["--resume"]);
    assert_eq!((code, done), (Some(0), vec!["builds late".to_owned(), "runs late 1200".to_owned()]), "{printed}");
    assert!(printed.contains("2 of 2 mutants found (1 only by another guarantee than named, 1 easily)"), "{printed}");
    assert_eq!(workspace.board(&["--resume"]).2, Vec::<String>::new());
    workspace.mutant("early", "C2");
    assert_eq!(workspace.board(&["--resume"]).2, ["builds early", "runs early 1200"], "the patch is another one");
    workspace.write("cluster/x/src/more.rs", "");
    ["early", "late"].iter().for_each(|planted| workspace.note_hash(planted));
    assert_eq!(workspace.board(&["--resume"]).2.len(), 4, "the sources are others");
    assert_eq!(workspace.board(&["says-late"]).2.len(), 2, "without --resume everything is run again");
}

#[test]
fn a_bug_that_is_missed_or_a_program_that_is_stale_or_missing_ends_with_another_code() {
    let workspace = Workspace::new("missed");
    workspace.mutant("nothing", "C1");
    let (code, printed, _) = workspace.board(&[]);
    assert_eq!(code, Some(10), "{printed}");
    assert!(printed.contains("NOT FOUND") && printed.contains("0 of 1 mutants found"), "{printed}");
    workspace.mutant("broken", "none");
    let (code, printed, _) = workspace.board(&["says-broken"]);
    assert_eq!(code, Some(10), "{printed}");
    assert!(printed.contains("1 broken"), "{printed}");
    workspace.mutant("early", "C1");
    workspace.write("hashes/early", "of something else");
    let (code, printed, done) = workspace.board(&["says-early"]);
    assert_eq!((code, done), (Some(10), vec!["builds early".to_owned()]), "a stale program is not run: {printed}");
    workspace.write("cluster/x/src/lib.rs", "other\n");
    assert_eq!(workspace.board(&["says-early"]).0, Some(1), "a patch that does not apply");
}
