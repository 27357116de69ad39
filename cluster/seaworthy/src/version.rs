//! What this program was built from, as the build script tells it.

use seaworthy::Build;
use std::sync::LazyLock;

/// `COMMIT DATE`, where it is known.
const BUILD: Option<&str> = option_env!("SEAWORTHY_BUILD");

/// What `--version` says.
pub static TEXT: LazyLock<String> = LazyLock::new(|| text(&build()));

/// What `/version` says of the program.
pub fn build() -> Build {
    let (commit, date) = BUILD.and_then(|build| build.split_once(' ')).unwrap_or_default();
    Build { commit: commit.to_owned(), date: date.to_owned() }
}

fn text(Build { commit, date }: &Build) -> String {
    let version = env!("CARGO_PKG_VERSION");
    // As short as people write commits.
    let short = commit.get(..12).unwrap_or(commit);
    match date.split_once('T') {
        Some((day, _)) if !commit.is_empty() => format!("{version} ({short} {day})"),
        Some(_) | None => version.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_names_the_commit_if_it_is_known() {
        let build = Build { commit: "0123456789abcdef".to_owned(), date: "2026-01-02T03:04:05Z".to_owned() };
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(text(&build), format!("{version} (0123456789ab 2026-01-02)"));
        assert_eq!(text(&Build::default()), version);
    }
}
