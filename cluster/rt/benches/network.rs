//! How fast the simulated network is: simulated seconds per CPU second under two loads, with nothing else to do.
//!
//! `RUSTFLAGS="--cfg madsim" cargo bench -p rt --profile trial`. It says nothing in the production build.

#[cfg(madsim)]
mod simulated;

fn main() {
    #[cfg(madsim)]
    simulated::main();
}
