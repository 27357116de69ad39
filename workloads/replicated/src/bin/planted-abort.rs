//! For `cargo trial operator`: the operator with a bug that ends its whole process when it starts again.

use std::sync::atomic::{AtomicBool, Ordering};

static STARTED: AtomicBool = AtomicBool::new(false);

fn main() -> std::process::ExitCode {
    operator::main(replicated::subject("planted-abort", |client| {
        if STARTED.swap(true, Ordering::Relaxed) {
            std::process::abort();
        }
        Box::pin(replicated::run(client, None))
    }))
}
