//! What judging a trial costs: `cargo run --release -p checkers --example judge_bench [seconds [operations per second]]`.

use rustix::time::{ClockId, clock_gettime};

type Check = fn(&record::Record) -> record::Verdict;

#[path = "../src/legal.rs"]
mod legal;

/// Enough for the fastest round to be the machine's own speed.
const ROUNDS: u32 = 50;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse().expect("a number"));
    let seconds = arguments.next().unwrap_or(100);
    let rate = arguments.next().unwrap_or(30);
    let shape = legal::Shape { clients: 6, seconds, rate, keys: 32, unknown_permille: 30 };
    let record = legal::history(1, shape);
    println!(
        "{seconds} s at {rate}/s: {} operations, {} observations, {} watches, {} strikes",
        record.operations.len(),
        record.observations.len(),
        record.watches.len(),
        record.strikes.len()
    );
    let checks: [(&str, Check); 10] = [
        ("C1", checkers::c1),
        ("C2", checkers::c2),
        ("C3", checkers::c3),
        ("C4", checkers::c4),
        ("C5", checkers::c5),
        ("C6", checkers::c6),
        ("C7", checkers::c7),
        ("C9", checkers::c9),
        ("C10", checkers::c10),
        ("C12", checkers::c12),
    ];
    for (name, check) in checks {
        println!("{name:>6} {:8.3} ms, with the index that all share", fastest_ms(|| drop(check(&record))));
    }
    println!("{:>6} {:8.3} ms", "all", fastest_ms(|| drop(checkers::judge(&record))));
    for verdict in checkers::judge(&record) {
        assert!(verdict.violations.is_empty(), "a legal history passes: {verdict:?}");
        println!(
            "{:>6} tested {:6} largest {:?} ns",
            verdict.guarantee.to_string(),
            verdict.tested,
            verdict.largest_ns
        );
    }
}

/// CPU time of the fastest round, whoever else is at work on this machine.
fn fastest_ms(run: impl Fn()) -> f64 {
    let cpu_ms = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
    };
    let once = || {
        let begin = cpu_ms();
        run();
        cpu_ms() - begin
    };
    (0..ROUNDS).map(|_| once()).fold(f64::INFINITY, f64::min)
}
