//! Randomness in named streams, so that drawing from one shifts no other.
//!
//! In the simulator every stream is seeded from `hash(trial's seed, who draws, name)`: each directed link, host, disk
//! and process has its own. The executor's generator, which orders ready tasks, is never drawn from here.
//!
//! **Invariant:** the same seed gives the same numbers on every machine and in every build
//! (`streams_are_the_same_everywhere`).

use std::ops::Range;
use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// The stream `name` of this process.
///
/// In the simulator it is seeded from the trial's seed, the host's name, how often the process was started, `name`,
/// and how often this process asked for `name` before; two streams of one name therefore differ. On a real machine it
/// is seeded by the operating system, whatever the name.
pub fn stream(name: &str) -> Random {
    #[cfg(madsim)]
    if let Some(random) = crate::context::with(|node| node.random(name)) {
        return random;
    }
    let _ = name;
    Random::from_entropy()
}

/// Bytes that nobody can guess: for keys and tokens. On a real machine they are the operating system's; in the simulator,
/// where there is nobody to guess, those of the stream `name`.
pub fn secret<const N: usize>(name: &str) -> [u8; N] {
    #[cfg(madsim)]
    if let Some(mut random) = crate::context::with(|node| node.random(name)) {
        let mut bytes = [0; N];
        random.fill(&mut bytes);
        return bytes;
    }
    let _ = name;
    entropy()
}

/// A stream of random numbers: xoshiro256++, portable and repeatable, unfit for secrets.
#[derive(Clone, Debug)]
pub struct Random(Xoshiro256PlusPlus);

impl Random {
    /// The stream that `seed` stands for.
    pub fn from_seed(seed: u64) -> Random {
        Random(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// A stream that the operating system seeds.
    fn from_entropy() -> Random {
        Random(Xoshiro256PlusPlus::from_seed(entropy()))
    }

    /// Any number.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `n`, all equally likely. `n` must not be 0.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "no number is below 0");
        // Lemire's multiplication, which rejects the few draws that would favour small numbers.
        let threshold = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }

    /// A number in `range`, all equally likely. The range must not be empty.
    pub fn range(&mut self, range: Range<u64>) -> u64 {
        assert!(range.start < range.end, "an empty range has no number");
        range.start + self.below(range.end - range.start)
    }

    /// True in `permille` of 1000 cases.
    pub fn chance(&mut self, permille: u32) -> bool {
        self.below(1000) < u64::from(permille)
    }

    /// A duration in `[0, limit)`, by the nanosecond; zero if `limit` is zero.
    pub fn jitter(&mut self, limit: Duration) -> Duration {
        match u64::try_from(limit.as_nanos()) {
            Ok(0) => Duration::ZERO,
            Ok(limit) => Duration::from_nanos(self.below(limit)),
            Err(_) => Duration::from_nanos(self.next_u64()),
        }
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// From the operating system.
fn entropy<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        match rustix::rand::getrandom(&mut bytes[filled..], flags) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the operating system has no randomness: {error}"),
        }
    }
    bytes
}

/// The seed of the stream that `parts` name, under a trial's seed. A part's end is part of what is hashed, so that
/// ("ab", "c") and ("a", "bc") differ.
#[cfg(madsim)]
pub(crate) fn seed_of(seed: u64, parts: &[&[u8]]) -> u64 {
    // FNV-1a, then the finisher of splitmix64 so that near names give far seeds.
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    for byte in seed.to_le_bytes() {
        eat(byte);
    }
    for part in parts {
        for byte in (part.len() as u64).to_le_bytes() {
            eat(byte);
        }
        for &byte in *part {
            eat(byte);
        }
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_the_same_everywhere() {
        let mut random = Random::from_seed(7);
        let drawn = [random.next_u64(), random.below(10), random.range(5..7), random.next_u64()];
        assert_eq!(drawn, [1_021_219_803_524_665_661, 1, 6, 7_880_630_202_246_103_356]);
    }

    #[test]
    fn numbers_stay_in_bounds_and_reach_all_of_them() {
        let mut random = Random::from_seed(1);
        let mut seen = [0; 10];
        for _ in 0..10_000 {
            seen[random.below(10) as usize] += 1;
            assert!((3..5).contains(&random.range(3..5)));
            assert!(random.jitter(Duration::from_nanos(9)) < Duration::from_nanos(9));
        }
        assert!(seen.iter().all(|&n| (800..1200).contains(&n)), "{seen:?}");
        assert_eq!(random.jitter(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn chances_are_thousandths() {
        let mut random = Random::from_seed(2);
        let hits = (0..100_000).filter(|_| random.chance(30)).count();
        assert!((2700..3300).contains(&hits), "{hits}");
        assert!((0..1000).all(|_| !random.chance(0) && random.chance(1000)));
    }

    #[test]
    fn bytes_are_filled_to_the_last() {
        let mut bytes = [0; 13];
        Random::from_seed(3).fill(&mut bytes);
        assert!(bytes[8..].iter().any(|&b| b != 0) && bytes[..8].iter().any(|&b| b != 0));
    }

    #[test]
    fn the_system_seeds_differently_each_time() {
        assert_ne!(stream("a").next_u64(), stream("a").next_u64());
        assert_ne!(secret::<16>("a"), secret::<16>("a"));
    }

    #[cfg(madsim)]
    #[test]
    fn names_and_seeds_give_streams_of_their_own() {
        let seeds =
            [seed_of(1, &[b"ab", b"c"]), seed_of(1, &[b"a", b"bc"]), seed_of(1, &[b"abc"]), seed_of(2, &[b"abc"])];
        let distinct: std::collections::BTreeSet<_> = seeds.iter().collect();
        assert_eq!(distinct.len(), seeds.len());
    }
}
