//! What processes say in their logs of what a trial wants to see: the events of crate `mark`, a JSON object per line.
//!
//! ```text
//! product --mark, lead, effect, container--> stderr --> NAME.log --Tail--> lines --parse--> Said { at, what }
//! ```
//!
//! A process writes a line before it goes on, so that one which is killed has said all that it did. The times are those of
//! the machine's wall clock, which all processes share with the trial.

use serde::Deserialize;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// By what a process is told to say all of it, beside warnings.
pub(crate) const ARGUMENTS: [&str; 4] =
    ["--log-format", "json", "--log", "warn,mark=info,lead=info,effect=info,container=info"];

/// Something that a process said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Said {
    /// Nanoseconds since 1970.
    pub(crate) wall_ns: u64,
    pub(crate) what: What,
}

/// What it said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    /// A rare situation came up.
    Mark(String),
    /// A member of the store came to lead in this term, or ceased to.
    Leads { term: u64, leads: bool },
    /// A leader of the store counted replicas and so committed.
    Commits { term: u64, index: u64, entry_term: u64 },
    /// It came to believe that it holds a Lease, or ceased to.
    Elected { lease: String, epoch: i64, leads: bool },
    /// A controller begins one write of a plan.
    Effect { controller: String, key: String },
    /// Something happened to a container.
    Container { event: Event, pod_uid: String, name: String, id: String },
}

/// What happened to a container.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Event {
    Started,
    /// A new process took it up.
    Adopted,
    Exited(i32),
    Signalled {
        kill: bool,
    },
}

/// All that lines of any kind may have; what a line's target does not have is absent.
#[derive(Deserialize)]
#[serde(default)]
struct Line {
    timestamp: String,
    target: String,
    mark: String,
    lead: String,
    term: u64,
    index: u64,
    entry_term: u64,
    lease: String,
    transitions: i64,
    controller: String,
    key: String,
    phase: String,
    container: String,
    pod_uid: String,
    name: String,
    id: String,
    code: i32,
    signal: String,
}

impl Default for Line {
    fn default() -> Self {
        let text = String::new;
        Self {
            timestamp: text(),
            target: text(),
            mark: text(),
            lead: text(),
            term: 0,
            index: 0,
            entry_term: 0,
            lease: text(),
            transitions: 0,
            controller: text(),
            key: text(),
            phase: text(),
            container: text(),
            pod_uid: text(),
            name: text(),
            id: text(),
            code: 0,
            signal: text(),
        }
    }
}

/// What a line of a log says; `None` for one that says something else, such as a warning.
pub(crate) fn parse(line: &str) -> Option<Said> {
    // A panic's message is no JSON, and a warning may have fields of other types.
    let line: Line = serde_json::from_str(line).ok()?;
    let what = match line.target.as_str() {
        "mark" => What::Mark(line.mark),
        "lead" => match line.lead.as_str() {
            "leads" => What::Leads { term: line.term, leads: true },
            "steps down" => What::Leads { term: line.term, leads: false },
            "commits" => What::Commits { term: line.term, index: line.index, entry_term: line.entry_term },
            "elected" => What::Elected { lease: line.lease, epoch: line.transitions, leads: true },
            "unelected" => What::Elected { lease: line.lease, epoch: line.transitions, leads: false },
            _ => return None,
        },
        "effect" if line.phase == "before" => What::Effect { controller: line.controller, key: line.key },
        "container" => {
            let event = match line.container.as_str() {
                "started" => Event::Started,
                "adopted" => Event::Adopted,
                "exited" => Event::Exited(line.code),
                "signalled" => Event::Signalled { kill: line.signal == "SIGKILL" },
                _ => return None,
            };
            What::Container { event, pod_uid: line.pod_uid, name: line.name, id: line.id }
        }
        _ => return None,
    };
    Some(Said { wall_ns: wall_ns(&line.timestamp)?, what })
}

/// `2025-01-02T03:04:05.678901Z` as nanoseconds since 1970.
fn wall_ns(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, separator| -> Option<[u64; 3]> {
        let parts: Vec<u64> = text.split(separator).map(str::parse).collect::<Result<_, _>>().ok()?;
        parts.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-')?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let [hours, minutes, seconds] = numbers(clock, ':')?;
    let fraction: u64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    // Years begin in March here, so that a leap day is the last one.
    let (year, month) = if month <= 2 { (year.checked_sub(1)?, month + 9) } else { (year, month.checked_sub(3)?) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    // That many days lie between the first of March of the year 0 and 1970, the first of them counted as one.
    let days = days.checked_sub(719_469)?;
    Some((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1_000_000_000 + fraction)
}

/// What was added to a log.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct News {
    pub(crate) said: Vec<Said>,
    /// Where product code panicked, as it says.
    pub(crate) panics: Vec<String>,
}

impl News {
    fn hear(&mut self, line: &str) {
        if line.starts_with("thread '") && line.contains("panicked at ") {
            self.panics.push(line.to_owned());
        }
        self.said.extend(parse(line));
    }
}

/// Reads what is added to a log.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    file: Option<File>,
    /// The beginning of a line whose end is not there yet.
    rest: Vec<u8>,
}

impl Tail {
    /// What was said in `path` since the last call. Nothing while there is no such file.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn news(&mut self, path: &Path) -> io::Result<News> {
        let file = match &mut self.file {
            Some(file) => file,
            none => match File::open(path) {
                Ok(file) => none.insert(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(News::default()),
                Err(error) => return Err(error),
            },
        };
        file.read_to_end(&mut self.rest)?;
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Ok(News::default()) };
        let mut news = News::default();
        String::from_utf8_lossy(&self.rest[..=end]).lines().for_each(|line| news.hear(line));
        self.rest.drain(..=end);
        Ok(news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, OpenOptions};
    use std::io::Write;

    #[test]
    fn times_are_nanoseconds_since_1970() {
        let seconds = |text: &str| wall_ns(text).map(|ns| ns / 1_000_000_000);
        assert_eq!(seconds("1970-01-01T00:00:00.000000Z"), Some(0));
        assert_eq!(seconds("2000-02-29T12:00:00Z"), Some(951_825_600));
        assert_eq!(seconds("2024-03-01T00:00:00.5Z"), Some(1_709_251_200));
        assert_eq!(seconds("2025-12-31T23:59:59.999999Z"), Some(1_767_225_599));
        assert_eq!(wall_ns("1970-01-01T00:00:01.000002Z"), Some(1_000_002_000));
        assert_eq!([wall_ns("yesterday"), wall_ns("1969-12-31T23:59:59Z")], [None; 2]);
    }

    fn said(fields: &str) -> Option<What> {
        let line = format!(r#"{{"timestamp":"2025-01-02T03:04:05.678901Z","level":"INFO",{fields}}}"#);
        parse(&line).map(|said| said.what)
    }

    #[test]
    fn lines_are_what_crate_mark_says() {
        assert_eq!(said(r#""mark":"vote granted","target":"mark""#), Some(What::Mark("vote granted".into())));
        let leads = said(r#""lead":"steps down","member":2,"term":7,"target":"lead""#);
        assert_eq!(leads, Some(What::Leads { term: 7, leads: false }));
        let elected = said(r#""lead":"elected","lease":"a/b","identity":"s1","transitions":3,"target":"lead""#);
        assert_eq!(elected, Some(What::Elected { lease: "a/b".into(), epoch: 3, leads: true }));
        let effect =
            |phase: &str| said(&format!(r#""controller":"c","key":"k","index":1,"phase":"{phase}","target":"effect""#));
        assert_eq!(effect("before"), Some(What::Effect { controller: "c".into(), key: "k".into() }));
        assert_eq!(effect("after"), None);
        let container = |event: &str, more: &str| {
            said(&format!(
                r#""container":"{event}","node":"n1","pod_uid":"u","name":"web","id":"c1",{more}"target":"container""#
            ))
        };
        let happened =
            |event| Some(What::Container { event, pod_uid: "u".into(), name: "web".into(), id: "c1".into() });
        assert_eq!(container("exited", r#""code":137,"#), happened(Event::Exited(137)));
        assert_eq!(container("signalled", r#""signal":"SIGKILL","#), happened(Event::Signalled { kill: true }));
        assert_eq!(container("probed", r#""probe":"liveness","success":true,"#), None);
    }

    #[test]
    fn other_lines_say_nothing() {
        assert_eq!(said(r#""message":"slow","id":7,"target":"store""#), None);
        assert_eq!(parse("thread 'main' panicked at src/main.rs:1:1:"), None);
    }

    #[test]
    fn a_log_is_read_line_by_line_as_it_grows() {
        let path = std::env::temp_dir().join(format!("real-tail-{}", std::process::id()));
        let mut tail = Tail::default();
        assert_eq!(tail.news(&path).unwrap(), News::default());
        let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        let line = r#"{"timestamp":"1970-01-01T00:00:01Z","mark":"m","target":"mark"}"#;
        let (first, second) = line.split_at(20);
        write!(file, "{line}\n{first}").unwrap();
        assert_eq!(tail.news(&path).unwrap().said.len(), 1);
        let panic = "thread 'main' (7) panicked at src/main.rs:1:1:";
        writeln!(file, "{second}\n{panic}").unwrap();
        let said = vec![Said { wall_ns: 1_000_000_000, what: What::Mark("m".into()) }];
        assert_eq!(tail.news(&path).unwrap(), News { said, panics: vec![panic.to_owned()] });
        fs::remove_file(&path).unwrap();
    }
}
