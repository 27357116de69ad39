//! The event log: one line per thing that happened, with its time, always hashed and kept as text if asked.
//!
//! Two runs of a trial are the same if their logs are. Whatever can differ from machine to machine (wall time, threads,
//! addresses) is not in it. What is too long for a line, such as the keys that a read returned, is in it as a hash.
//!
//! **Invariant:** the hash is that of the text, whether or not the text is kept (`hash_and_text_belong_together`).

use faults::Ns;
use std::fmt::Write as _;

/// The log of one trial.
#[derive(Debug, Default)]
pub(crate) struct Log {
    hasher: Hasher,
    /// The line being written.
    line: String,
    /// All of it, if it is kept.
    text: Option<String>,
    checkpoints: Vec<u64>,
}

impl Log {
    pub(crate) fn new(keep_text: bool) -> Self {
        Self { text: keep_text.then(String::new), ..Self::default() }
    }

    /// Adds a line, which `write` writes.
    pub(crate) fn line(&mut self, at_ns: Ns, write: impl FnOnce(&mut Line<'_>)) {
        self.line.clear();
        let mut line = Line(&mut self.line);
        line.number(at_ns);
        write(&mut line);
        self.line.push('\n');
        self.hasher.bytes(self.line.as_bytes());
        if let Some(text) = &mut self.text {
            text.push_str(&self.line);
        }
    }

    /// Ends a simulated second: what the network did until then belongs to it.
    pub(crate) fn checkpoint(&mut self, at_ns: Ns, net_digest: u64) {
        self.line(at_ns, |line| {
            line.word("network").hash(net_digest);
        });
        self.checkpoints.push(self.hasher.value());
    }

    /// Hash of the whole log, hashes at the end of each second, and the text if it was kept.
    pub(crate) fn finish(self) -> (u64, Vec<u64>, Option<String>) {
        (self.hasher.value(), self.checkpoints, self.text)
    }
}

/// A line that is being written. Numbers and words are written by hand: this runs several times per operation, and the
/// formatting machinery would cost more than all the rest of the log.
pub(crate) struct Line<'a>(&'a mut String);

impl Line<'_> {
    /// A word, after a space.
    pub(crate) fn word(&mut self, word: &str) -> &mut Self {
        self.0.push(' ');
        self.0.push_str(word);
        self
    }

    /// A number, after a space unless it comes first.
    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        self.digits(number);
        self
    }

    /// A number that may be negative.
    pub(crate) fn signed(&mut self, number: i64) -> &mut Self {
        self.0.push(' ');
        if number < 0 {
            self.0.push('-');
        }
        self.digits(number.unsigned_abs());
        self
    }

    /// A hash of something longer.
    pub(crate) fn hash(&mut self, hash: u64) -> &mut Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.0.push_str(" #");
        for at in (0..16).rev() {
            self.0.push(char::from(DIGITS[(hash >> (at * 4) & 15) as usize]));
        }
        self
    }

    /// Anything, for lines that are rare.
    pub(crate) fn debug(&mut self, thing: &dyn std::fmt::Debug) -> &mut Self {
        // Writing to a string cannot fail.
        let _ = write!(self.0, " {thing:?}");
        self
    }

    fn digits(&mut self, mut number: u64) {
        let mut digits = [0_u8; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.0.push_str(std::str::from_utf8(&digits[at..]).expect("digits are ASCII"));
    }
}

/// A streaming hash of 64 bits: each 8 bytes are folded in by a multiplication to 128. Not for adversaries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hasher(u64);

impl Default for Hasher {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Hasher {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.number(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.number(u64::from_le_bytes(last));
        self.number(bytes.len() as u64);
    }

    pub(crate) fn number(&mut self, number: u64) {
        let product = u128::from(self.0 ^ number) * u128::from(0xa076_1d64_78bd_642f_u64);
        // The rotation keeps what a product of zero would forget.
        self.0 = (product as u64) ^ ((product >> 64) as u64) ^ self.0.rotate_left(29);
    }

    pub(crate) fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(keep_text: bool, words: &[&str]) -> (u64, Vec<u64>, Option<String>) {
        let mut log = Log::new(keep_text);
        for (at, word) in words.iter().enumerate() {
            log.line(at as u64 * 1_000_000_007, |line| {
                line.word(word).signed(-7).number(0).hash(0xab).debug(&"x");
            });
        }
        log.checkpoint(5, 6);
        log.finish()
    }

    #[test]
    fn hash_and_text_belong_together() {
        let (hash, checkpoints, text) = log(true, &["a", "b"]);
        assert_eq!((hash, checkpoints.clone(), None), log(false, &["a", "b"]));
        assert_eq!(checkpoints, [hash]);
        let expected = "0 a -7 0 #00000000000000ab \"x\"\n1000000007 b -7 0 #00000000000000ab \"x\"\n\
                        5 network #0000000000000006\n";
        assert_eq!(text.as_deref(), Some(expected));
    }

    #[test]
    fn another_word_is_another_hash() {
        let mut hashes: Vec<u64> =
            [vec![], vec!["a"], vec!["b"], vec!["a", "b"], vec!["b", "a"], vec!["aaaaaaaaaaaaa"]]
                .iter()
                .map(|words| log(false, words).0)
                .collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 6);
    }

    #[test]
    fn the_hash_is_the_same_on_every_machine() {
        let mut hasher = Hasher::default();
        hasher.bytes(b"seaworthy under way");
        assert_eq!(hasher.value(), 9_768_487_664_989_776_157);
    }
}
