//! What a hollow container does: [`Program`], chosen by [`Programs`] from what the container is made of.

use crate::runtime::ContainerConfig;
use std::time::Duration;

/// Chooses what a container does. [`StandardPrograms`] is for most; a trial can have its own.
pub trait Programs: Send + Sync + 'static {
    /// What a container of this configuration does.
    fn program(&self, container: &ContainerConfig) -> Program;

    /// Whether there is such an image at all.
    fn exists(&self, image: &str) -> bool;
}

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// It listens on the pod's address and every TCP port that it declares, and answers HTTP.
    pub serves: bool,
    /// What it calls its version in answers.
    pub version: String,
    /// It listens only after so long.
    pub starts_after: Duration,
    /// It ends by itself.
    pub ends: Option<End>,
    /// It is never ready.
    pub never_ready: bool,
    /// It is unready for so long, then ready for so long, and so on.
    pub flaps: Option<Duration>,
    /// It accepts connections and never answers.
    pub hangs: bool,
    /// It answers only after so long.
    pub slow: Duration,
    /// It does not end when asked to.
    pub ignores_term: bool,
    /// When asked to end it stops listening and ends after so long.
    pub drain: Duration,
    /// With this exit code.
    pub term_code: i32,
}

/// How a program ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Counted from its start.
    pub after: Duration,
    /// Its exit code.
    pub code: i32,
    /// The system killed it for the memory that it used.
    pub out_of_memory: bool,
}

/// How long a server goes on with what it is doing when it is asked to end.
const DRAIN: Duration = Duration::from_millis(50);
/// How long a job takes unless it is told otherwise.
const JOB: Duration = Duration::from_secs(5);
/// How long programs that crash by themselves run before.
const CRASH: Duration = Duration::from_secs(1);
/// How long a slow start takes unless it is told otherwise.
const SLOW_START: Duration = Duration::from_secs(20);
/// How long a flapping program stays one thing unless it is told otherwise.
const FLAP: Duration = Duration::from_secs(15);

impl Program {
    /// A server without any fault.
    pub fn server(version: &str) -> Program {
        Program {
            serves: true,
            version: version.to_owned(),
            starts_after: Duration::ZERO,
            ends: None,
            never_ready: false,
            flaps: None,
            hangs: false,
            slow: Duration::ZERO,
            ignores_term: false,
            drain: DRAIN,
            term_code: 0,
        }
    }

    /// A program that does nothing but end after a while.
    pub fn job(after: Duration, code: i32) -> Program {
        let ends = Some(End { after, code, out_of_memory: false });
        Program { serves: false, ends, drain: Duration::ZERO, term_code: 143, ..Program::server("") }
    }
}

/// The programs of the tables in the documentation of [`hollow`](crate::hollow).
#[derive(Clone, Copy, Debug, Default)]
pub struct StandardPrograms;

impl Programs for StandardPrograms {
    fn program(&self, container: &ContainerConfig) -> Program {
        let (name, tag) = split(&container.image);
        let mut program = of_image(name, tag);
        of_command(container, &mut program);
        of_env(container, &mut program);
        program
    }

    fn exists(&self, image: &str) -> bool {
        split(image).0 != "hollow/missing"
    }
}

/// An image's name and tag.
fn split(image: &str) -> (&str, &str) {
    match image.rsplit_once(':') {
        // A colon before the last slash is that of a registry's port.
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        Some(_) | None => (image, "latest"),
    }
}

fn of_image(name: &str, tag: &str) -> Program {
    let server = Program::server(tag);
    match name {
        "hollow/job" => Program { version: tag.to_owned(), ..Program::job(JOB, 0) },
        "hollow/fail" => Program { version: tag.to_owned(), ..Program::job(JOB, 1) },
        "hollow/sleep" => Program { ends: None, version: tag.to_owned(), ..Program::job(JOB, 0) },
        "hollow/crash" => Program { ends: Some(End { after: CRASH, code: 1, out_of_memory: false }), ..server },
        "hollow/oom" => Program { ends: Some(End { after: CRASH, code: 137, out_of_memory: true }), ..server },
        "hollow/never-ready" => Program { never_ready: true, ..server },
        "hollow/slow-start" => Program { starts_after: SLOW_START, ..server },
        "hollow/flapping" => Program { flaps: Some(FLAP), ..server },
        "hollow/hang" => Program { hangs: true, ..server },
        "hollow/stubborn" => Program { ignores_term: true, ..server },
        _ => server,
    }
}

fn of_command(container: &ContainerConfig, program: &mut Program) {
    let words: Vec<&str> = container.command.iter().chain(&container.args).map(String::as_str).collect();
    let job = |after: Duration, code| Program { version: program.version.clone(), ..Program::job(after, code) };
    let new = match words.as_slice() {
        ["true" | "/bin/true"] => job(Duration::ZERO, 0),
        ["false" | "/bin/false"] => job(Duration::ZERO, 1),
        ["sleep" | "/bin/sleep", "infinity"] => Program { ends: None, ..job(JOB, 0) },
        ["sleep" | "/bin/sleep", seconds] => match seconds.parse() {
            Ok(seconds) => job(Duration::from_secs(seconds), 0),
            Err(_) => job(Duration::ZERO, 1),
        },
        ["sh" | "/bin/sh", "-c", script] => match script.strip_prefix("exit ").map(str::parse) {
            Some(Ok(code)) => job(Duration::ZERO, code),
            Some(Err(_)) | None => return,
        },
        _ => return,
    };
    *program = new;
}

fn of_env(container: &ContainerConfig, program: &mut Program) {
    let text = |name: &str| container.env.get(name).map(String::as_str);
    let ms = |name: &str| text(name).and_then(|text| text.parse().ok()).map(Duration::from_millis);
    let code = |name: &str| text(name).and_then(|text| text.parse::<i32>().ok());
    let set = |name: &str| matches!(text(name), Some("1" | "true"));
    if let Some(version) = text("VERSION") {
        program.version = version.to_owned();
    }
    if let Some(after) = ms("HOLLOW_RUN_MS") {
        let code = code("HOLLOW_EXIT_CODE").unwrap_or(0);
        program.ends = Some(End { after, code, out_of_memory: false });
    } else if let (Some(code), Some(ends)) = (code("HOLLOW_EXIT_CODE"), &mut program.ends) {
        ends.code = code;
    }
    if let Some(after) = ms("HOLLOW_OOM_MS") {
        program.ends = Some(End { after, code: 137, out_of_memory: true });
    }
    program.starts_after = ms("HOLLOW_START_MS").unwrap_or(program.starts_after);
    program.flaps = ms("HOLLOW_FLAP_MS").or(program.flaps);
    program.slow = ms("HOLLOW_SLOW_MS").unwrap_or(program.slow);
    program.drain = ms("HOLLOW_DRAIN_MS").unwrap_or(program.drain);
    program.term_code = code("HOLLOW_TERM_CODE").unwrap_or(program.term_code);
    program.never_ready |= text("HOLLOW_READY") == Some("never");
    program.hangs |= set("HOLLOW_HANG");
    program.ignores_term |= set("HOLLOW_IGNORE_TERM");
}
