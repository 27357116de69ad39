//! Panics in a simulation: caught, and kept with where and when they happened.
//!
//! The panic hook belongs to the whole program; ours keeps message and place for the thread if it runs a simulation
//! and leaves all other threads to the hook that was there before. With `RUST_BACKTRACE` set that one is called as well.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::panic;
use std::sync::Once;

use super::agenda::Ns;

/// A task that panicked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panicked {
    /// True time since the simulation began.
    pub at_ns: Ns,
    /// Name of the host, `harness` for the harness's own.
    pub host: String,
    /// Name of the task.
    pub task: String,
    /// What it said.
    pub message: String,
    /// Source file and line.
    pub location: String,
}

impl Panicked {
    /// What was just caught on this thread.
    pub(super) fn caught(payload: &(dyn Any + Send), at_ns: Ns, host: &str, task: &str) -> Self {
        let last = LAST.with_borrow_mut(|last| match last {
            Watch::Panicked { message, location } => {
                let taken = (std::mem::take(message), std::mem::take(location));
                *last = Watch::On;
                Some(taken)
            }
            Watch::Off | Watch::On => None,
        });
        let (message, location) = last.unwrap_or_else(|| (text(payload), String::from("unknown")));
        Panicked { at_ns, host: host.to_owned(), task: task.to_owned(), message, location }
    }

    /// What ended a simulation's thread, where nothing more is known.
    pub(super) fn outside(payload: &(dyn Any + Send)) -> Self {
        Panicked {
            at_ns: 0,
            host: String::from("harness"),
            task: String::from("simulator"),
            message: text(payload),
            location: String::from("unknown"),
        }
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Panicked { at_ns, host, task, message, location } = self;
        let (seconds, rest) = (at_ns / 1_000_000_000, at_ns % 1_000_000_000);
        write!(f, "{host}: task {task:?} panicked at {seconds}.{rest:09} s: {message} ({location})")
    }
}

impl std::error::Error for Panicked {}

thread_local!(static LAST: RefCell<Watch> = const { RefCell::new(Watch::Off) });

enum Watch {
    /// Not a simulation's thread.
    Off,
    On,
    Panicked {
        message: String,
        location: String,
    },
}

/// From now on panics on this thread are kept instead of printed, until the guard goes.
pub(super) fn watch_thread() -> impl Drop {
    struct Guard;
    impl Drop for Guard {
        fn drop(&mut self) {
            LAST.set(Watch::Off);
        }
    }
    LAST.set(Watch::On);
    Guard
}

/// Installs the hook, once per program.
pub(super) fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let verbose = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let kept = LAST.with_borrow_mut(|last| {
                if matches!(last, Watch::Off) {
                    return false;
                }
                let location = info.location();
                *last = Watch::Panicked {
                    message: text(info.payload()),
                    location: location.map_or_else(String::new, |l| format!("{}:{}", l.file(), l.line())),
                };
                true
            });
            if verbose || !kept {
                before(info);
            }
        }));
    });
}

/// The text that a panic carries.
fn text(payload: &(dyn Any + Send)) -> String {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => String::from("a panic without text"),
    }
}
