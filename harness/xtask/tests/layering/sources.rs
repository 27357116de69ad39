//! What the product's sources may name.
//!
//! A file is cut into tokens, so that comments and texts do not count, and `use` trees are spread out into whole paths,
//! so that `use std::{time::{Duration, Instant}}` is seen for what it is.

use std::path::Path;

/// What of the standard library only `rt` may name, and why.
const ONLY_RT: &[(&[&str], &str)] = &[
    (&["std", "time", "Instant"], "time comes from rt::time"),
    (&["std", "time", "SystemTime"], "time comes from rt::time"),
    (&["std", "time", "UNIX_EPOCH"], "time comes from rt::time"),
    (&["std", "thread"], "tasks come from rt::task"),
    (&["std", "fs"], "files come from rt::disk"),
    (&["std", "net", "TcpStream"], "connections come from rt::net"),
    (&["std", "net", "TcpListener"], "connections come from rt::net"),
    (&["std", "net", "UdpSocket"], "connections come from rt::net"),
    (&["std", "net", "ToSocketAddrs"], "names are resolved by rt::net"),
    (&["std", "os", "unix", "net"], "connections come from rt::net"),
    (&["std", "process", "Command"], "the simulator has no processes to start"),
];

/// What of tokio has nothing to do with its runtime: such modules and macros work under every backend.
const TOKIO_ANYWHERE: &[&str] = &["sync", "io", "select", "join", "try_join", "pin"];

/// Words that decide differently from run to run, or that tell the builds apart.
const WORDS: &[(&str, &str)] = &[
    ("HashMap", "its order changes from run to run: BTreeMap or imbl::OrdMap"),
    ("HashSet", "its order changes from run to run: BTreeSet or imbl::OrdSet"),
    ("RandomState", "it is different in every run"),
    ("madsim", "product code does not know which build it is in"),
    ("turmoil", "product code does not know which build it is in"),
];

/// Crates of randomness: rt::random has the only streams.
const RANDOM_CRATES: &[&str] = &["rand", "rand_core", "rand_chacha", "rand_xoshiro", "getrandom", "fastrand", "uuid"];

/// `file`, a path from the root, breaks these rules.
pub fn violations(file: &str, text: &str) -> Vec<String> {
    if file.starts_with("cluster/rt/") {
        return Vec::new();
    }
    let reads_files = file == "cluster/seaworthy/src/main.rs";
    let tokens = tokens(text);
    let mut wrong: Vec<(usize, String)> = Vec::new();
    for path in paths(&tokens) {
        if let Some(why) = of_path(&path)
            && !(reads_files && path.words.starts_with(&["std".into(), "fs".into()]))
        {
            wrong.push((path.line, format!("{}: {why}", path.words.join("::"))));
        }
    }
    for (at, token) in tokens.iter().enumerate() {
        let Kind::Word(word) = &token.kind else {
            continue;
        };
        if let Some((_, why)) = WORDS.iter().find(|(it, _)| it == word) {
            wrong.push((token.line, format!("{word}: {why}")));
        }
        if word == "select" && unbiased(&tokens[at + 1..]) {
            wrong.push((
                token.line,
                "select! must begin with `biased;`: otherwise it draws from a generator of its own".into(),
            ));
        }
    }
    wrong.sort();
    wrong.into_iter().map(|(line, what)| format!("{file}:{line}: {what}")).collect()
}

fn of_path(path: &Named) -> Option<&'static str> {
    let words: Vec<&str> = path.words.iter().map(String::as_str).collect();
    if words[0] == "tokio" {
        let outside = words.get(1).is_none_or(|it| !TOKIO_ANYWHERE.contains(it));
        return (outside && (words.len() > 1 || path.imported)).then_some("tokio's runtime comes in through rt alone");
    }
    if RANDOM_CRATES.contains(&words[0]) && (words.len() > 1 || path.imported) {
        return Some("randomness comes from rt::random");
    }
    let named = |only: &[&str]| words.starts_with(only);
    // Whoever imports the module around it can name it in a way that is not seen here.
    let around = |only: &[&str]| path.imported && words.len() > 1 && only.starts_with(&words);
    ONLY_RT.iter().find(|(only, _)| named(only) || around(only)).map(|(_, why)| *why)
}

fn unbiased(after: &[Token]) -> bool {
    match after {
        [bang, open, first, ..] if bang.kind == Kind::Other('!') && open.kind == Kind::Open => {
            first.kind != Kind::Word("biased".into())
        }
        _ => false,
    }
}

/// Something named by a path.
#[derive(Debug)]
struct Named {
    line: usize,
    words: Vec<String>,
    /// Whether a `use` names it. A glob names the module that it opens.
    imported: bool,
}

fn paths(tokens: &[Token]) -> Vec<Named> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at].kind {
            Kind::Word(word) if word == "use" => at = tree(tokens, at + 1, &[], &mut found),
            Kind::Word(_) => {
                let (words, next) = path(tokens, at);
                found.push(Named { line: tokens[at].line, words, imported: false });
                at = next;
            }
            Kind::Colons | Kind::Open | Kind::Close | Kind::Comma | Kind::Other(_) => at += 1,
        }
    }
    found
}

/// Words joined by `::` from `at` on, and where they end.
fn path(tokens: &[Token], mut at: usize) -> (Vec<String>, usize) {
    let mut words = Vec::new();
    while let Some(Kind::Word(word)) = tokens.get(at).map(|it| &it.kind) {
        words.push(word.clone());
        at += 1;
        let goes_on = tokens.get(at).is_some_and(|it| it.kind == Kind::Colons);
        if !goes_on || !matches!(tokens.get(at + 1).map(|it| &it.kind), Some(Kind::Word(_))) {
            break;
        }
        at += 1;
    }
    (words, at)
}

/// The paths of one `use` tree, and where it ends.
fn tree(tokens: &[Token], mut at: usize, before: &[String], found: &mut Vec<Named>) -> usize {
    at += usize::from(tokens.get(at).is_some_and(|it| it.kind == Kind::Colons));
    let line = tokens.get(at).map_or(0, |it| it.line);
    let (words, next) = path(tokens, at);
    at = next;
    let mut words: Vec<String> = before.iter().cloned().chain(words).collect();
    at += usize::from(tokens.get(at).is_some_and(|it| it.kind == Kind::Colons));
    if tokens.get(at).is_some_and(|it| it.kind == Kind::Open) {
        at += 1;
        while tokens.get(at).is_some_and(|it| it.kind != Kind::Close) {
            at = tree(tokens, at, &words, found);
            at += usize::from(tokens.get(at).is_some_and(|it| it.kind == Kind::Comma));
        }
        return at + 1;
    }
    words.retain(|word| word != "self");
    if let Some(renamed) = words.iter().position(|word| word == "as") {
        words.truncate(renamed);
    }
    if !words.is_empty() {
        found.push(Named { line, words, imported: true });
    }
    // A rename or a glob ends with the leaf.
    let ends = |kind: &Kind| matches!(kind, Kind::Comma | Kind::Close | Kind::Other(';'));
    while tokens.get(at).is_some_and(|it| !ends(&it.kind)) {
        at += 1;
    }
    at
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Word(String),
    Colons,
    Open,
    Close,
    Comma,
    Other(char),
}

#[derive(Clone, Debug)]
struct Token {
    line: usize,
    kind: Kind,
}

/// Cuts Rust into tokens; comments, texts and characters are left out.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let next = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => until(&chars, at, |it| it[0] == '\n'),
            '/' if chars.get(at + 1) == Some(&'*') => after_block_comment(&chars, at),
            '"' => after_text(&chars, at),
            'r' | 'b' | 'c' if let Some(end) = after_prefixed_text(&chars, at) => end,
            '\'' => after_quote(&chars, at),
            first if first.is_alphanumeric() || first == '_' => {
                let end = until(&chars, at, |it| !(it[0].is_alphanumeric() || it[0] == '_'));
                found.push(Token { line, kind: Kind::Word(chars[at..end].iter().collect()) });
                end
            }
            ':' if chars.get(at + 1) == Some(&':') => {
                found.push(Token { line, kind: Kind::Colons });
                at + 2
            }
            first => {
                let kind = match first {
                    '{' => Some(Kind::Open),
                    '}' => Some(Kind::Close),
                    ',' => Some(Kind::Comma),
                    blank if blank.is_whitespace() => None,
                    other => Some(Kind::Other(other)),
                };
                found.extend(kind.map(|kind| Token { line, kind }));
                at + 1
            }
        };
        line += chars[at..next].iter().filter(|it| **it == '\n').count();
        at = next;
    }
    found
}

fn until(chars: &[char], mut at: usize, stop: impl Fn(&[char]) -> bool) -> usize {
    while at < chars.len() && !stop(&chars[at..]) {
        at += 1;
    }
    at
}

fn after_block_comment(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at.min(chars.len())
}

fn after_text(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// `r"..."`, `br#"..."#`, `b"..."`, `c"..."`; a word that merely begins with such a letter is none.
fn after_prefixed_text(chars: &[char], at: usize) -> Option<usize> {
    let begins_word = at == 0 || !(chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    let prefix_end = until(chars, at, |it| !matches!(it[0], 'r' | 'b' | 'c'));
    let raw = chars[at..prefix_end].contains(&'r');
    let quote = if raw { until(chars, prefix_end, |it| it[0] != '#') } else { prefix_end };
    if !begins_word || prefix_end - at > 2 || chars.get(quote) != Some(&'"') {
        return None;
    }
    if !raw {
        return Some(after_text(chars, quote));
    }
    let hashes = quote - prefix_end;
    let closes = |it: &[char]| it[0] == '"' && it.len() > hashes && it[1..=hashes].iter().all(|hash| *hash == '#');
    Some((until(chars, quote + 1, closes) + 1 + hashes).min(chars.len()))
}

/// A character is skipped; of a lifetime, the tick alone.
fn after_quote(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => (until(chars, at + 3, |it| it[0] == '\'') + 1).min(chars.len()),
        (Some(_), Some('\'')) => at + 3,
        _ => at + 1,
    }
}

/// Every Rust file under cluster/*/src, by its path from the root. Tests in folders of their own are not product code.
pub fn read_cluster(root: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for name in names(&root.join("cluster")) {
        walk(root, &format!("cluster/{name}/src"), &mut files);
    }
    files
}

fn walk(root: &Path, folder: &str, files: &mut Vec<(String, String)>) {
    for name in names(&root.join(folder)) {
        let path = format!("{folder}/{name}");
        if root.join(&path).is_dir() {
            walk(root, &path, files);
        } else if name.ends_with(".rs") {
            let text = std::fs::read_to_string(root.join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
            files.push((path, text));
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("a folder can be read").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[cfg(test)]
fn check(text: &str, expected: &[&str]) {
    let found = violations("cluster/store/src/x.rs", text);
    let found: Vec<&str> = found.iter().map(|it| it.trim_start_matches("cluster/store/src/x.rs:")).collect();
    let matches = found.len() == expected.len() && found.iter().zip(expected).all(|(it, begin)| it.starts_with(begin));
    assert!(matches, "{text:?}: found {found:?}, expected {expected:?}");
}

#[test]
fn clocks_threads_and_files_are_noticed_however_they_are_named() {
    check("let now = std::time::Instant::now();", &["1: std::time::Instant::now"]);
    check("use std::{sync::Arc, time::{Duration, SystemTime}};", &["1: std::time::SystemTime"]);
    check("use std::time as clock;", &["1: std::time"]);
    check("use std::time::*;", &["1: std::time"]);
    check("use std::fs::{self, File};", &["1: std::fs", "1: std::fs::File"]);
    check("\n::std::thread::spawn(|| ());", &["2: std::thread::spawn"]);
    check("use std::time::Duration;\nuse std::sync::{Arc, Mutex};", &[]);
}

#[test]
fn tokio_may_be_named_only_where_it_has_no_runtime() {
    check("use tokio::sync::mpsc;\nuse tokio::io::{AsyncRead, AsyncWrite};\ntokio::pin!(x);", &[]);
    check("tokio::spawn(async {});", &["1: tokio::spawn"]);
    check("use tokio::{sync::Notify, time::sleep};", &["1: tokio::time::sleep"]);
    check("use tokio;", &["1: tokio"]);
}

#[test]
fn select_must_be_biased() {
    check("tokio::select! { biased; _ = a => {} }", &[]);
    check("select! { _ = a => {} }", &["1: select! must begin"]);
}

#[test]
fn randomness_unordered_maps_and_knowledge_of_the_build_are_noticed() {
    check("let x = rand::random();", &["1: rand::random"]);
    check("use std::collections::{BTreeMap, HashMap};", &["1: HashMap"]);
    check("#[cfg(madsim)]\nfn f() {}", &["1: madsim"]);
}

#[test]
fn comments_and_texts_do_not_count() {
    check("// HashMap\n/* tokio::spawn /* nested */ std::fs */\nlet x = \"HashMap \\\" std::fs\";", &[]);
    check("let x = br#\"HashMap \" std::fs\"#; let c = '\"'; let l: &'static str = \"HashMap\";", &[]);
    check("let c = '\\''; HashMap::new();", &["1: HashMap"]);
}

#[test]
fn rt_is_free_and_seaworthys_main_may_read_files() {
    let text = "use std::fs;\nuse std::thread;";
    assert_eq!(violations("cluster/rt/src/real.rs", text), Vec::<String>::new());
    assert_eq!(
        violations("cluster/seaworthy/src/main.rs", text),
        ["cluster/seaworthy/src/main.rs:2: std::thread: tasks come from rt::task"]
    );
}
