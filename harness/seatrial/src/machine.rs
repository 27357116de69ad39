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

/// Resident memory of this process, in bytes; 0 if the system does not say.
pub fn rss_bytes() -> u64 {
    let pages =
        std::fs::read_to_string("/proc/self/statm").ok().and_then(|it| it.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// Makes the allocator keep what is freed instead of handing it back to the system, which takes a sixth of a trial's CPU
/// time to do and to undo. It reads that once, before `main`: so this process becomes the same program anew, with the
/// variable set. Does nothing if it is set, or if that fails: then trials are only slower.
pub fn keep_freed_memory() {
    if std::env::var_os(PURGE_DELAY).is_none()
        && let Ok(program) = std::env::current_exe()
    {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_else(|| program.clone().into());
        // Comes back only with an error.
        let _ = Command::new(program).arg0(name).args(arguments).env(PURGE_DELAY, "-1").exec();
    }
}

/// mimalloc's: milliseconds until freed memory goes back to the system; never, if negative.
const PURGE_DELAY: &str = "MIMALLOC_PURGE_DELAY";

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
}
