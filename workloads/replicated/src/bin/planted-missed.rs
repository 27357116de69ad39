//! For `cargo trial operator`: the operator with a bug that a missed change shows.

fn main() -> std::process::ExitCode {
    operator::main(replicated::subject("planted-missed", |client| {
        Box::pin(replicated::run(client, Some(replicated::Bug::HearsayOnly)))
    }))
}
