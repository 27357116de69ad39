//! The wire form of protobuf: numbered parts.

use super::ProtobufError;

pub(super) const VARINT: u8 = 0;
pub(super) const FIXED64: u8 = 1;
pub(super) const BYTES: u8 = 2;
pub(super) const FIXED32: u8 = 5;

/// Largest number of a field in protobuf.
const MAX_NUMBER: u64 = (1 << 29) - 1;

/// What stands under a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Part<'a> {
    Number(u64),
    Fixed(u8, u64),
    Bytes(&'a [u8]),
}

impl<'a> Part<'a> {
    pub(super) fn bytes(self, field: &str) -> Result<&'a [u8], ProtobufError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) => Err(wrong(VARINT, field)),
            Self::Fixed(wire, _) => Err(wrong(wire, field)),
        }
    }

    pub(super) fn number(self, field: &str) -> Result<u64, ProtobufError> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Bytes(_) => Err(wrong(BYTES, field)),
            Self::Fixed(wire, _) => Err(wrong(wire, field)),
        }
    }

    pub(super) fn fixed(self, field: &str) -> Result<u64, ProtobufError> {
        match self {
            Self::Fixed(FIXED64, bits) => Ok(bits),
            Self::Fixed(wire, _) => Err(wrong(wire, field)),
            Self::Number(_) => Err(wrong(VARINT, field)),
            Self::Bytes(_) => Err(wrong(BYTES, field)),
        }
    }

    pub(super) fn text(self, field: &str) -> Result<String, ProtobufError> {
        text(self.bytes(field)?, field)
    }
}

fn wrong(wire: u8, field: &str) -> ProtobufError {
    ProtobufError::WireType { wire, field: field.to_owned() }
}

pub(super) fn text(bytes: &[u8], field: &str) -> Result<String, ProtobufError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| ProtobufError::Utf8(field.to_owned()))
}

/// Walks over the parts of a message; ends after the first error.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn part(&mut self) -> Result<(u32, Part<'a>), ProtobufError> {
        let tag = varint(&mut self.rest)?;
        let number = tag >> 3;
        if number == 0 || number > MAX_NUMBER {
            return Err(ProtobufError::Tag(tag));
        }
        let part = match (tag & 7) as u8 {
            VARINT => Part::Number(varint(&mut self.rest)?),
            FIXED64 => Part::Fixed(FIXED64, self.little_endian(8)?),
            FIXED32 => Part::Fixed(FIXED32, self.little_endian(4)?),
            BYTES => {
                let length = varint(&mut self.rest)?;
                Part::Bytes(self.take(usize::try_from(length).map_err(|_| ProtobufError::Truncated)?)?)
            }
            _ => return Err(ProtobufError::Tag(tag)),
        };
        Ok((number as u32, part))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtobufError> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(ProtobufError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    fn little_endian(&mut self, length: usize) -> Result<u64, ProtobufError> {
        Ok(self.take(length)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<(u32, Part<'a>), ProtobufError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let part = self.part();
        if part.is_err() {
            self.rest = &[];
        }
        Some(part)
    }
}

/// Takes a number of variable length off the front.
pub(super) fn varint(bytes: &mut &[u8]) -> Result<u64, ProtobufError> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or(ProtobufError::Truncated)?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(ProtobufError::Overflow)
}

/// Puts a number of variable length at the end.
pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn put_tag(out: &mut Vec<u8>, number: u32, wire: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(wire));
}

pub(super) fn put_number(out: &mut Vec<u8>, number: u32, value: u64) {
    put_tag(out, number, VARINT);
    put_varint(out, value);
}

pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
