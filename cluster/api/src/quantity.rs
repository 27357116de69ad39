//! Quantities: amounts of resources as upstream's `resource.Quantity` reads, orders, adds and writes them.
//!
//! An amount is held in billionths of the unit, upstream's finest grain: what is finer is rounded up, away from zero, so
//! that who asks for a little gets a little. Everything saturates; nothing overflows.

use crate::QuantityText;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Billionths in one unit.
const NANOS: i128 = 1_000_000_000;

/// Bound of an amount in billionths: 10^38 is the last power of ten that an `i128` holds, and far above the exabytes
/// for which there is a suffix.
const BOUND: i128 = 10_i128.pow(38);

/// Bound of what is written with a binary suffix, in billionths: upstream caps those at the largest `int64`.
const BINARY_BOUND: i128 = (i64::MAX as i128) * NANOS;

/// Exponents beyond this are all the same: anything but zero is then at its bound, or the smallest amount.
const EXPONENT_BOUND: i64 = 1_000;

/// Decimal digits of a fraction that are multiplied by a binary suffix: 19 digits times 2^60 fits 128 bits.
const FRACTION_DIGITS: usize = 19;

/// How an amount is written: its suffixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `n u m k M G T P E`: powers of a thousand.
    DecimalSi,
    /// `Ki Mi Gi Ti Pi Ei`: powers of 1024.
    BinarySi,
    /// `e3`, `E6`.
    DecimalExponent,
}

/// Why a text is no quantity; the texts are upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It does not look like a number with a suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// Nobody knows this suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// An amount of a resource, and how it likes to be written. Equality and order are those of the amounts alone.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    /// Reads upstream's notation.
    ///
    /// # Errors
    /// The text is no quantity: the user's mistake, with upstream's words.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let parts = Parts::split(text)?;
        let (base, exponent, mut format) = suffix(parts.suffix).ok_or(QuantityError::Suffix)?;
        let mut nanos = parts.magnitude(base, exponent);
        if format == Format::BinarySi {
            nanos = nanos.min(BINARY_BOUND);
            if nanos > 0 && nanos < NANOS {
                format = Format::DecimalSi;
            }
        }
        Ok(Self { nanos: if parts.negative { -nanos } else { nanos }, format })
    }

    /// A whole number of units.
    pub fn of(value: i64) -> Self {
        Self { nanos: i128::from(value) * NANOS, format: Format::DecimalSi }
    }

    /// A whole number of units that is written with binary suffixes, as memory is.
    pub fn of_bytes(value: i64) -> Self {
        Self { nanos: i128::from(value) * NANOS, format: Format::BinarySi }
    }

    /// A whole number of thousandths, as CPU time is.
    pub fn of_milli(value: i64) -> Self {
        Self { nanos: i128::from(value) * (NANOS / 1_000), format: Format::DecimalSi }
    }

    /// The exact amount in billionths.
    pub fn nanos(&self) -> i128 {
        self.nanos
    }

    /// How it is written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// In units, rounded away from zero, saturating.
    pub fn value(&self) -> i64 {
        saturate(divide_up(self.nanos, NANOS))
    }

    /// In thousandths, rounded away from zero, saturating.
    pub fn milli_value(&self) -> i64 {
        saturate(divide_up(self.nanos, NANOS / 1_000))
    }

    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Whether it is less than nothing.
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// Whether it is a whole number of units.
    pub fn is_whole(&self) -> bool {
        self.nanos % NANOS == 0
    }

    /// The same rounded to thousandths, away from zero: what upstream's defaulting does to every amount of a resource.
    pub fn round_up_milli(self) -> Self {
        let milli = NANOS / 1_000;
        Self { nanos: divide_up(self.nanos, milli) * milli, ..self }
    }

    /// The sum; nothing takes over the other's way of being written.
    #[expect(clippy::should_implement_trait, reason = "saturates, which `+` would hide")]
    pub fn add(self, other: Self) -> Self {
        self.with(other, self.nanos.saturating_add(other.nanos))
    }

    /// The difference; nothing takes over the other's way of being written.
    #[expect(clippy::should_implement_trait, reason = "saturates, which `-` would hide")]
    pub fn sub(self, other: Self) -> Self {
        self.with(other, self.nanos.saturating_sub(other.nanos))
    }

    /// The product with a whole number.
    pub fn times(self, factor: i64) -> Self {
        self.with(self, self.nanos.saturating_mul(i128::from(factor)))
    }

    fn with(self, other: Self, nanos: i128) -> Self {
        let format = if self.nanos == 0 { other.format } else { self.format };
        Self { nanos: nanos.clamp(-BOUND, BOUND), format }
    }

    /// As the API carries it.
    pub fn to_text(&self) -> QuantityText {
        QuantityText(self.to_string())
    }

    fn write_decimal(&self, f: &mut fmt::Formatter<'_>, exponents: bool) -> fmt::Result {
        let (mut number, mut exponent) = (self.nanos, -9_i32);
        while number % 1_000 == 0 {
            number /= 1_000;
            exponent += 3;
        }
        let suffix = DECIMAL.iter().find(|(_, power)| *power == exponent).map(|(text, _)| *text);
        match suffix {
            Some(_) if exponents && exponent == 0 => write!(f, "{number}"),
            Some(suffix) if !exponents => write!(f, "{number}{suffix}"),
            Some(_) | None => write!(f, "{number}e{exponent}"),
        }
    }

    fn write_binary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut number, mut place) = (self.nanos / NANOS, 0_usize);
        while number % 1_024 == 0 && place < BINARY.len() {
            number /= 1_024;
            place += 1;
        }
        let suffix = place.checked_sub(1).map_or("", |place| BINARY[place].0);
        write!(f, "{number}{suffix}")
    }
}

/// Canonical form: the largest suffix that leaves a whole number.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        match self.format {
            Format::BinarySi if self.is_whole() && self.nanos.abs() >= 1_024 * NANOS => self.write_binary(f),
            Format::BinarySi | Format::DecimalSi => self.write_decimal(f, false),
            Format::DecimalExponent => self.write_decimal(f, true),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Default for Quantity {
    fn default() -> Self {
        Self::ZERO
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        Self::parse(text)
    }
}

impl TryFrom<&QuantityText> for Quantity {
    type Error = QuantityError;
    fn try_from(text: &QuantityText) -> Result<Self, QuantityError> {
        Self::parse(&text.0)
    }
}

impl From<&Quantity> for QuantityText {
    fn from(quantity: &Quantity) -> Self {
        quantity.to_text()
    }
}

/// Decimal suffixes and their powers of ten.
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

/// Binary suffixes and their powers of two.
const BINARY: [(&str, i64); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

/// Whose powers a suffix counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Base {
    Ten,
    Two,
}

fn suffix(text: &str) -> Option<(Base, i64, Format)> {
    if let Some((_, power)) = DECIMAL.iter().find(|(suffix, _)| *suffix == text) {
        return Some((Base::Ten, i64::from(*power), Format::DecimalSi));
    }
    if let Some((_, power)) = BINARY.iter().find(|(suffix, _)| *suffix == text) {
        return Some((Base::Two, *power, Format::BinarySi));
    }
    let exponent: i64 = text.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some((Base::Ten, exponent.clamp(-EXPONENT_BOUND, EXPONENT_BOUND), Format::DecimalExponent))
}

/// A text taken apart, its digits without leading zeros.
struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

impl<'a> Parts<'a> {
    fn split(text: &'a str) -> Result<Self, QuantityError> {
        if text.is_empty() {
            return Err(QuantityError::Format);
        }
        let negative = text.starts_with('-');
        let rest = text.strip_prefix(['-', '+']).unwrap_or(text).trim_start_matches('0');
        let (whole, rest) = digits(rest);
        let (fraction, suffix) = rest.strip_prefix('.').map_or(("", rest), digits);
        let exponent = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        if !digits(exponent).1.is_empty() {
            return Err(QuantityError::Format);
        }
        Ok(Self { negative, whole, fraction, suffix })
    }

    /// The amount without its sign, in billionths, rounded up.
    fn magnitude(&self, base: Base, exponent: i64) -> i128 {
        let text = format!("{}{}", self.whole, self.fraction);
        let significant = text.trim_start_matches('0');
        if significant.is_empty() {
            return 0;
        }
        let places = i64::try_from(self.fraction.len()).unwrap_or(i64::MAX);
        let power = match base {
            Base::Ten => exponent.saturating_sub(places).saturating_add(9),
            Base::Two => 9_i64.saturating_sub(places),
        };
        let factor = match base {
            Base::Ten => 1,
            Base::Two => 1_i128 << exponent,
        };
        let length = i64::try_from(significant.len()).unwrap_or(i64::MAX);
        // From here on, the amount is 0.significant times 10 to the power of `length + power`.
        let whole_digits = length.saturating_add(power);
        if whole_digits > 38 {
            return BOUND;
        }
        let whole_digits = usize::try_from(whole_digits.max(0)).unwrap_or(0);
        let zeros = usize::try_from((-length.saturating_add(power)).max(0)).unwrap_or(usize::MAX);
        let cut = whole_digits.min(significant.len());
        let padding = u32::try_from(whole_digits - cut).unwrap_or(0);
        let whole = number(&significant[..cut]).saturating_mul(10_i128.pow(padding)).saturating_mul(factor);
        whole.saturating_add(fraction_up(&significant[cut..], zeros, factor)).min(BOUND)
    }
}

/// The fraction `0.(zeros)digits` times `factor`, rounded up.
fn fraction_up(digits: &str, zeros: usize, factor: i128) -> i128 {
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() {
        return 0;
    }
    let kept = FRACTION_DIGITS.saturating_sub(zeros).min(digits.len());
    let rest = FRACTION_DIGITS.saturating_sub(zeros) - kept;
    let number = number(&digits[..kept]).saturating_mul(10_i128.pow(u32::try_from(rest).unwrap_or(0)));
    let scale = 10_i128.pow(u32::try_from(FRACTION_DIGITS).unwrap_or(0));
    let product = number.saturating_mul(factor);
    // What was cut off counts as something: the amount is never less than what was asked for.
    let more = product % scale != 0 || kept < digits.len();
    product / scale + i128::from(more)
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn number(digits: &str) -> i128 {
    digits.bytes().fold(0_i128, |sum, digit| sum.saturating_mul(10).saturating_add(i128::from(digit - b'0')))
}

fn divide_up(number: i128, divisor: i128) -> i128 {
    let more = i128::from(number % divisor != 0) * number.signum();
    number / divisor + more
}

fn saturate(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn q(text: &str) -> Quantity {
        Quantity::parse(text).expect(text)
    }

    #[test]
    fn reads_every_suffix() {
        let cases: &[(&str, i128)] = &[
            ("0", 0),
            ("1n", 1),
            ("1u", 1_000),
            ("1m", 1_000_000),
            ("1", NANOS),
            ("1k", 1_000 * NANOS),
            ("1M", 1_000_000 * NANOS),
            ("1G", 1_000_000_000 * NANOS),
            ("1T", 1_000_000_000_000 * NANOS),
            ("1P", 1_000_000_000_000_000 * NANOS),
            ("1E", 1_000_000_000_000_000_000 * NANOS),
            ("1Ki", 1_024 * NANOS),
            ("1Mi", (1 << 20) * NANOS),
            ("1Gi", (1 << 30) * NANOS),
            ("1Ti", (1 << 40) * NANOS),
            ("1Pi", (1 << 50) * NANOS),
            ("1Ei", (1 << 60) * NANOS),
            ("1e3", 1_000 * NANOS),
            ("1E-3", NANOS / 1_000),
            ("1e+2", 100 * NANOS),
            ("-1.5", -NANOS - NANOS / 2),
            ("+1.5Ki", 1_536 * NANOS),
            ("1.", NANOS),
            (".5", NANOS / 2),
            ("007", 7 * NANOS),
        ];
        for (text, nanos) in cases {
            assert_eq!(q(text).nanos(), *nanos, "{text}");
        }
    }

    #[test]
    fn rounds_up_what_is_finer_than_a_billionth() {
        assert_eq!(q("0.1n").nanos(), 1);
        assert_eq!(q("-0.1n").nanos(), -1);
        assert_eq!(q("1.0000000001").nanos(), NANOS + 1);
        assert_eq!(q(".000000000001Ki").to_string(), "2n");
        assert_eq!(q("1e-1000000").nanos(), 1);
        assert_eq!((q("1.1").value(), q("-1.1").value(), q("1.1m").milli_value()), (2, -2, 2));
        assert_eq!(q("100n").round_up_milli().to_string(), "1m");
    }

    #[test]
    fn saturates() {
        assert_eq!(q("100Ei").value(), i64::MAX);
        assert_eq!(q("100E").value(), i64::MAX);
        assert_eq!(q("-1e99999").value(), i64::MIN);
        assert_eq!(q("1e999999999999").nanos(), BOUND);
        assert_eq!(q("1e99").add(q("1e99")).nanos(), BOUND);
        assert_eq!(q(&"9".repeat(10_000)).nanos(), BOUND);
    }

    #[test]
    fn writes_the_canonical_form() {
        let cases = [
            ("1024Mi", "1Gi"),
            ("1000M", "1G"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1500m", "1500m"),
            ("1.5k", "1500"),
            (".001Ki", "1024m"),
            (".000001Ki", "1024u"),
            ("1023Ki", "1023Ki"),
            ("0.5Ki", "512"),
            ("1.5Ki", "1536"),
            ("1e3", "1e3"),
            ("12e4", "120e3"),
            ("1e0", "1"),
            ("1e-3", "1e-3"),
            ("0Mi", "0"),
            ("-2048Ki", "-2Mi"),
            ("1000E", "1e21"),
            ("1.00001Ki", "1024010240u"),
        ];
        for (text, canonical) in cases {
            assert_eq!(q(text).to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong_as_upstream() {
        for text in ["", "1.1.M", "1+1.0M", "aoeu", " 1", "1 ", "1_0", "1Mi ", "é"] {
            assert_eq!(Quantity::parse(text), Err(QuantityError::Format), "{text:?}");
        }
        for text in ["0.1mi", "0.1am", ".5i", "1i", "-3.01i", "1K", "1e", "1ee3", "-3.01e-", "1e9999999999999999999"] {
            let error = Quantity::parse(text).expect_err(text);
            let format = text == "0.1am";
            assert_eq!(error, if format { QuantityError::Format } else { QuantityError::Suffix }, "{text:?}");
        }
    }

    #[test]
    fn orders_and_adds_amounts() {
        assert!(q("1Gi") > q("1G"));
        assert_eq!(q("1000m"), q("1"));
        assert_eq!(q("100m").add(q("1")).to_string(), "1100m");
        assert_eq!(q("0").add(q("1Gi")).to_string(), "1Gi");
        assert_eq!(q("1Gi").sub(q("1Mi")).to_string(), "1023Mi");
        assert_eq!(q("250m").times(8).to_string(), "2");
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,40}|[-+]?[0-9.]{0,60}[eEinumkKMGTP]{0,3}[-+]?[0-9]{0,25}") {
            if let Ok(quantity) = Quantity::parse(&text) {
                let _ = (quantity.to_string(), quantity.value(), quantity.milli_value(), quantity.add(quantity));
            }
        }

        #[test]
        fn the_canonical_form_is_the_same_amount(text in "[-+]?[0-9]{1,12}(\\.[0-9]{1,12})?(|n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e[0-9]|E-[0-9])") {
            let quantity = q(&text);
            let again = q(&quantity.to_string());
            prop_assert_eq!(quantity, again);
            prop_assert_eq!(quantity.to_string(), again.to_string());
        }
    }
}
