//! For `cargo trial operator`: the operator as it should be.

fn main() -> std::process::ExitCode {
    operator::main(replicated::subject("replicated", |client| Box::pin(replicated::run(client, None))))
}
