//! What the testbed asks of the machine it runs on: CPU time, memory, and that its children do not outlive it.

use anyhow::Context;
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::time::{ClockId, clock_gettime};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// CPU time that this process has used, all threads together, in nanoseconds.
pub fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    // Neither part is negative: the clock begins at 0 with the process.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Seconds since 1970; 0 if the clock is before that.
pub fn unix_s() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}

/// CPU time that a process has used, user and system, all threads together, in nanoseconds, in steps of the system's tick;
/// also that of one that has ended, until somebody waits for it. `None` if there is no such process.
pub fn cpu_ns_of(process: u32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{process}/stat")).ok()?;
    // The program's name, in parentheses, may hold anything; behind the last of them are numbers.
    let stat = String::from_utf8_lossy(&stat).into_owned();
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(FIELDS_BEFORE_CPU);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let (user, system) = (ticks()?, ticks()?);
    Some((user + system) * (1_000_000_000 / rustix::param::clock_ticks_per_second()))
}

/// Of the fields of `/proc/PID/stat` that follow the name, those before user and system time (proc_pid_stat(5)).
const FIELDS_BEFORE_CPU: usize = 11;

/// Resident memory of this process, in bytes; 0 if the system does not say.
pub fn rss_bytes() -> u64 {
    let pages =
        std::fs::read_to_string("/proc/self/statm").ok().and_then(|it| it.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// The most resident memory of this process since it began or [`forget_peak`], in bytes; 0 if the system does not say.
pub fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Lets [`peak_bytes`] count anew (proc_pid_clear_refs(5)). Where the system refuses, it counts on from the beginning.
pub fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Hands back to the system what this program's allocator holds of threads that have ended, if this program has grown large.
/// Does nothing on any thread but the first.
pub fn give_back_memory() {
    if rss_bytes() < LARGE_BYTES {
        return;
    }
    #[expect(unsafe_code, reason = "the allocator has no safe interface; it may be asked for this at any time")]
    // SAFETY: it looks only at what is free (mimalloc's documentation of `mi_collect`).
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
}

/// Resident memory of a program that has grown large. A trial of an orchestrator leaves more, and takes so long that a new
/// process is nothing beside it; one of a store leaves less, which is of use for the next.
pub const LARGE_BYTES: u64 = 128 << 20;

/// Where this program is.
///
/// # Errors
/// The system does not say.
pub fn this_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("this program cannot find itself")
}

/// A program with one word to it.
pub fn command(program: &Path, word: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(word);
    command
}

/// A worker, of that kind: in a group of its own, so that Ctrl-C is not for it to take.
pub fn worker(program: &Path, kind: &str) -> Command {
    let mut command = command(program, kind);
    command.process_group(0);
    command
}

/// From now on this process is killed when the thread that started it ends.
///
/// # Errors
/// What the system says.
pub fn end_with_parent() -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from)
}

/// Becomes `command`, which then ends with this process's parent. Only comes back with the reason why it could not.
pub fn tether(command: &[OsString]) -> io::Error {
    let Some((program, arguments)) = command.split_first() else {
        return io::Error::new(io::ErrorKind::InvalidInput, "no command is given");
    };
    match end_with_parent() {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_cpu_time_and_memory() {
        let before = cpu_ns();
        let mut sum = 0_u64;
        while cpu_ns() - before < 1_000_000 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        assert!(cpu_ns() > before);
        assert!(rss_bytes() > 100_000, "a program is larger than that");
    }

    #[test]
    fn the_cpu_time_of_another_process_is_what_it_says_itself() {
        while cpu_ns() < 30_000_000 {
            std::hint::black_box(cpu_ns());
        }
        let seen = cpu_ns_of(std::process::id()).expect("this process is there");
        assert!(seen >= 10_000_000 && seen <= cpu_ns() + 20_000_000, "{seen} of {}", cpu_ns());
        assert_eq!(cpu_ns_of(u32::MAX), None);
    }
}
