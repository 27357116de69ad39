//! As much of DER as it takes to read from a certificate what it says (RFC 5280, section 4.1).
//!
//! Whether a certificate is genuine is rustls' business, which has verified it before anybody acts on what is read here.
//! What has another shape than a certificate of version 3 gives `None`.

use super::{Certificate, Subject, Validity};
use crate::time::Timestamp;
use std::net::IpAddr;

const BOOLEAN: u8 = 0x01;
const OCTET_STRING: u8 = 0x04;
const OBJECT: u8 = 0x06;
const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// Context-specific: the version, the extensions, and of alternative names the host's and the address's.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

/// 2.5.4.3, 2.5.4.10, 2.5.29.17.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

/// What was read.
pub(super) struct Parsed<'a> {
    pub(super) says: Certificate,
    /// The whole SubjectPublicKeyInfo.
    pub(super) public_key: &'a [u8],
}

/// Reads a certificate.
pub(super) fn certificate(der: &[u8]) -> Option<Parsed<'_>> {
    let mut all = Reader(der).expect(SEQUENCE)?;
    let mut signed = all.expect(SEQUENCE)?;
    signed.expect(VERSION)?;
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        signed.next()?;
    }
    let mut validity = signed.expect(SEQUENCE)?;
    let validity = Validity { from: validity.time()?, until: validity.time()? };
    let subject = subject(signed.expect(SEQUENCE)?)?;
    let public_key = signed.whole()?;
    let mut names = Vec::new();
    while let Some((tag, content)) = signed.next() {
        if tag == EXTENSIONS {
            names = alternative_names(Reader(content).expect(SEQUENCE)?)?;
        }
    }
    Some(Parsed { says: Certificate { subject, names, validity }, public_key })
}

fn subject(mut name: Reader<'_>) -> Option<Subject> {
    let mut subject = Subject::default();
    while !name.0.is_empty() {
        let mut set = name.expect(SET)?;
        while !set.0.is_empty() {
            let mut attribute = set.expect(SEQUENCE)?;
            let kind = attribute.expect(OBJECT)?.0;
            let (tag, value) = attribute.next()?;
            let text = || matches!(tag, UTF8 | PRINTABLE).then(|| std::str::from_utf8(value).ok()).flatten();
            match kind {
                COMMON_NAME => text()?.clone_into(&mut subject.common_name),
                ORGANIZATION => subject.organizations.push(text()?.to_owned()),
                _ => {}
            }
        }
    }
    Some(subject)
}

fn alternative_names(mut extensions: Reader<'_>) -> Option<Vec<String>> {
    let mut names = Vec::new();
    while !extensions.0.is_empty() {
        let mut extension = extensions.expect(SEQUENCE)?;
        let kind = extension.expect(OBJECT)?.0;
        let (tag, content) = match extension.next()? {
            // Whether it is critical.
            (BOOLEAN, _) => extension.next()?,
            other => other,
        };
        if kind != ALTERNATIVE_NAMES || tag != OCTET_STRING {
            continue;
        }
        let mut list = Reader(content).expect(SEQUENCE)?;
        while let Some((tag, value)) = list.next() {
            match (tag, value.len()) {
                (DNS_NAME, _) => names.push(std::str::from_utf8(value).ok()?.to_owned()),
                (IP_ADDRESS, 4) => names.push(IpAddr::from(<[u8; 4]>::try_from(value).ok()?).to_string()),
                (IP_ADDRESS, 16) => names.push(IpAddr::from(<[u8; 16]>::try_from(value).ok()?).to_string()),
                _ => {}
            }
        }
    }
    Some(names)
}

/// What is left of a sequence of values.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next value's tag and content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&short, rest) = rest.split_first()?;
        let (length, rest) = match short {
            0..=0x7f => (usize::from(short), rest),
            // A certificate of more than 65,535 bytes is none of ours.
            0x81 | 0x82 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next value, which must be of one kind.
    fn expect(&mut self, tag: u8) -> Option<Reader<'a>> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| Reader(content))
    }

    /// The next value with its tag and length.
    fn whole(&mut self) -> Option<&'a [u8]> {
        let before = self.0;
        self.next()?;
        before.get(..before.len() - self.0.len())
    }

    /// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`.
    fn time(&mut self) -> Option<Timestamp> {
        let (tag, text) = self.next()?;
        let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
        let century = match tag {
            // RFC 5280, section 4.1.2.5.1.
            UTC_TIME if text.get(..2)? < "50" => "20",
            UTC_TIME => "19",
            GENERALIZED_TIME => "",
            _ => return None,
        };
        let text = format!("{century}{text}");
        if text.len() != 14 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number = |from: usize, to: usize| text[from..to].parse::<i64>().ok();
        let days = days(number(0, 4)?, number(4, 6)?, number(6, 8)?);
        let seconds = number(8, 10)? * 3600 + number(10, 12)? * 60 + number(12, 14)?;
        // What lies beyond the year 2262 does not fit, and is as good as never.
        let unix_ns = (days * 86_400 + seconds).saturating_mul(1_000_000_000);
        Some(Timestamp { unix_ns })
    }
}

/// Days since 1970 of a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March have the leap day at their end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leaps + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_days_since_1970() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 2, 29), 11_016);
        assert_eq!(days(2000, 3, 1), 11_017);
        assert_eq!(days(2100, 3, 1), 47_541);
    }

    #[test]
    fn a_year_of_two_digits_is_of_the_century_that_the_standard_says() {
        let time = |tag, text: &str| {
            let mut value = vec![tag, u8::try_from(text.len()).unwrap()];
            value.extend(text.bytes());
            Reader(&value).time().map(|at| at.unix_ns / 1_000_000_000)
        };
        assert_eq!(time(UTC_TIME, "700101000001Z"), Some(1));
        assert_eq!(time(UTC_TIME, "200101000000Z"), Some(1_577_836_800));
        assert_eq!(time(GENERALIZED_TIME, "20200101000000Z"), Some(1_577_836_800));
        assert_eq!(time(GENERALIZED_TIME, "2020010100000Z"), None);
        assert_eq!(time(UTF8, "200101000000Z"), None);
    }

    #[test]
    fn what_is_cut_off_is_no_certificate() {
        assert!(certificate(&[]).is_none());
        assert!(certificate(&[0x30, 0x82, 0xff, 0xff, 0x30]).is_none());
        assert!(certificate(&[0x30, 0x84, 0, 0, 0, 0]).is_none());
    }
}
