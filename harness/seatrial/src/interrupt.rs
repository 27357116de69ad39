//! Ctrl-C and SIGTERM: the first one asks for an early end, the second one is the end.

use crate::exit::Exit;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set by the first signal.
static STOP: AtomicBool = AtomicBool::new(false);

/// From now on the first signal sets what is returned, and the second one ends this process. Workers end with it.
pub fn listen() -> &'static AtomicBool {
    std::thread::spawn(|| {
        rt::task::block_on(async {
            rt::task::shutdown_signal().await;
            STOP.store(true, Ordering::Relaxed);
            eprintln!("interrupted: what was done so far follows; Ctrl-C again ends it at once");
            rt::task::shutdown_signal().await;
            std::process::exit(Exit::INTERRUPTED.code().into());
        });
    });
    &STOP
}
