//! For `cargo trial operator`: the operator with a bug that crashes show.

fn main() -> std::process::ExitCode {
    operator::main(replicated::subject("planted-crash", |client| {
        Box::pin(replicated::run(client, Some(replicated::Bug::HalfMade)))
    }))
}
