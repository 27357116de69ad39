//! Streams of randomness that belong to a trial's seed, whatever process draws from them.

use rt::random::Random;

/// The stream `name` of client `number`: FNV-1a, then splitmix64's finish, so that near names give far seeds.
pub fn stream(seed: u64, name: &str, number: u32) -> Random {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let bytes = seed.to_le_bytes().into_iter().chain(name.bytes()).chain(number.to_le_bytes());
    for byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Random::from_seed(hash ^ (hash >> 31))
}
