//! Which keys a request means.

use bytes::Bytes;
use std::ops::Bound;

/// The keys meant by `key` and `range_end` (see [`crate::types`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Span {
    /// One.
    Key(Bytes),
    /// From the first up to but without the second, which is greater.
    Between(Bytes, Bytes),
    /// From this one on.
    From(Bytes),
    /// None: the end is not behind the beginning.
    Nothing,
}

/// A first and a last key, or where they would be.
pub(super) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// A `range_end` of "everything from `key` on".
pub const TO_THE_END: &[u8] = &[0];

impl Span {
    /// Parses a request's two fields.
    pub fn new(key: Bytes, range_end: Bytes) -> Self {
        if range_end.is_empty() {
            Span::Key(key)
        } else if &range_end[..] == TO_THE_END {
            Span::From(key)
        } else if key < range_end {
            Span::Between(key, range_end)
        } else {
            Span::Nothing
        }
    }

    /// Whether `key` is meant.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Span::Key(only) => only == key,
            Span::Between(from, until) => &from[..] <= key && key < &until[..],
            Span::From(from) => &from[..] <= key,
            Span::Nothing => false,
        }
    }

    /// As bounds for an ordered map; `None` for no keys, which some maps do not take as a range.
    pub(super) fn bounds(&self) -> Option<Bounds<'_>> {
        match self {
            Span::Key(only) => Some((Bound::Included(only), Bound::Included(only))),
            Span::Between(from, until) => Some((Bound::Included(from), Bound::Excluded(until))),
            Span::From(from) => Some((Bound::Included(from), Bound::Unbounded)),
            Span::Nothing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_contains_what_its_bounds_select() {
        let keys = ["", "a", "aa", "b", "c", "\u{0}"];
        for key in keys {
            for end in keys {
                let span = Span::new(Bytes::from(key), Bytes::from(end));
                let map: imbl::OrdMap<Bytes, ()> = keys.iter().map(|k| (Bytes::from(*k), ())).collect();
                let selected: Vec<&[u8]> = match span.bounds() {
                    Some(bounds) => map.range::<_, [u8]>(bounds).map(|(key, ())| &key[..]).collect(),
                    None => Vec::new(),
                };
                let mut contained: Vec<&[u8]> =
                    keys.iter().map(|k| k.as_bytes()).filter(|key| span.contains(key)).collect();
                contained.sort_unstable();
                assert_eq!(selected, contained, "{key:?} to {end:?}");
            }
        }
    }
}
