//! What is packed beside the program: units of systemd with examples of settings, manual pages, completions.
#![cfg(not(madsim))]
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing where it stands")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_seaworthy");

/// Of systemd's ten points of exposure, how many a unit may have: in its words, 2 and less is "OK" at worst.
const EXPOSURE: &str = "20";

const ROLES: [&str; 2] = ["server", "agent"];

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

fn unit(role: &str) -> String {
    fs::read_to_string(packaging().join(format!("seaworthy-{role}.service"))).unwrap()
}

/// Settings by their names; of those that stand more than once all values.
fn settings(unit: &str) -> BTreeMap<String, Vec<String>> {
    let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in unit.lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, value)) = line.split_once('=') {
            settings.entry(name.to_owned()).or_default().push(value.to_owned());
        }
    }
    settings
}

/// A new directory of this test.
fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("packaging-{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    dir
}

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

#[test]
fn units_start_what_there_is_and_confine_it() {
    for role in ROLES {
        let settings = settings(&unit(role));
        let one = |name: &str| settings.get(name).unwrap_or_else(|| panic!("{role}: {name} is not set"))[0].as_str();
        for on in ["DynamicUser", "NoNewPrivileges", "PrivateTmp", "ProtectHome", "MemoryDenyWriteExecute"] {
            assert_eq!(one(on), "yes", "{role}: {on}");
        }
        assert_eq!((one("ProtectSystem"), one("Restart")), ("strict", "on-failure"));
        // An agent that cannot read it takes each restart for the machine's, and its containers for gone.
        assert!(!settings.contains_key("ProcSubset"), "{role} must be able to read the identity of the boot");
        assert!(one("LimitNOFILE").parse::<u32>().is_ok_and(|limit| limit >= 65_536));
        // The program itself knows what it is started with; the configuration that is not there is the first thing wrong.
        let words: Vec<&str> = one("ExecStart").split(' ').collect();
        assert_eq!(words[..2], ["/usr/bin/seaworthy", role]);
        let data = format!("/var/lib/{}", one("StateDirectory"));
        assert!(words.contains(&data.as_str()), "{role}: {words:?}");
        let output = run(PROGRAM, &[&words[1..], &["--help"]].concat());
        assert!(output.status.success(), "{role}: {output:?}");
        assert_eq!(one("RestartPreventExitStatus"), "2");
    }
}

#[test]
fn examples_of_settings_are_understood() {
    for role in ROLES {
        let dir = scratch(role);
        let config = packaging().join(format!("{role}.toml"));
        // With a token that is none: that is complained of after the file was read, and nothing is started.
        let mut command = Command::new(PROGRAM);
        command.args([role, "--config"]).arg(&config).arg("--data-dir").arg(&dir).env("SEAWORTHY_TOKEN", "none");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("SEAWORTHY_TOKEN"), "{said}");
        fs::remove_dir_all(dir).unwrap();
    }
}

#[test]
fn systemd_takes_the_units_and_finds_them_confined() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return;
    }
    let dir = scratch("units");
    for role in ROLES {
        let path = dir.join(format!("seaworthy-{role}.service"));
        fs::write(&path, unit(role).replace("/usr/bin/seaworthy", PROGRAM)).unwrap();
        let path = path.to_str().unwrap();
        let verified = run("systemd-analyze", &["verify", "--man=no", path]);
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success() && !said.contains("seaworthy"), "{said}");
        let judged = run("systemd-analyze", &["security", "--offline=true", "--threshold", EXPOSURE, path]);
        assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
    }
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn every_command_has_a_manual_page() {
    let dir = scratch("man");
    assert!(run(PROGRAM, &["man", dir.to_str().unwrap()]).status.success());
    let page = |name: &str| fs::read_to_string(dir.join(format!("{name}.1"))).unwrap_or_default();
    for command in ["up", "server", "agent", "kubeconfig", "store", "kv", "kv-put", "completion"] {
        assert!(page(&format!("seaworthy-{command}")).starts_with(".ie"), "{command} has no page");
    }
    assert!(page("seaworthy").contains("seaworthy\\-up(1)"));
    assert!(page("seaworthy-up").contains("\\-\\-hollow\\-nodes"));
    assert!(page("seaworthy-man").is_empty(), "what is hidden has no page");
    fs::remove_dir_all(dir).unwrap();
    let nowhere = run(PROGRAM, &["man", "/nonexistent"]);
    assert_eq!(nowhere.status.code(), Some(1));
}

#[test]
fn shells_complete_commands_and_flags() {
    for shell in ["bash", "zsh", "fish"] {
        let script = String::from_utf8(run(PROGRAM, &["completion", shell]).stdout).unwrap();
        assert!(script.contains("hollow-nodes") && script.contains("kubeconfig"), "{shell}");
    }
}

#[test]
fn the_version_is_told() {
    let said = String::from_utf8(run(PROGRAM, &["--version"]).stdout).unwrap();
    assert!(said.starts_with(&format!("seaworthy {}", env!("CARGO_PKG_VERSION"))), "{said}");
}
