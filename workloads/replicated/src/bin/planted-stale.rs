//! For `cargo trial operator`: the operator with a bug that an old view shows.

fn main() -> std::process::ExitCode {
    operator::main(replicated::subject("planted-stale", |client| {
        Box::pin(replicated::run(client, Some(replicated::Bug::OldView)))
    }))
}
