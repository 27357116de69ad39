//! What a scalar without quotes means: YAML 1.1, as go-yaml has it.

use serde_json::{Number, Value};

/// The key by which a mapping takes over what others have.
pub(super) const MERGE: &str = "<<";

/// The value of a scalar that is neither quoted nor tagged; `None` for infinities and what is no number, which JSON lacks.
pub(super) fn resolve(text: &str) -> Option<Value> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Some(true.into()),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Some(false.into());
        }
        ".nan" | ".NaN" | ".NAN" => return None,
        _ => {}
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return None;
    }
    if !unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return Some(text.into());
    }
    let digits = text.replace('_', "");
    match integer(&digits) {
        Some(number) => Some(Value::Number(number)),
        None if is_float(&digits) => float(digits.parse().ok()?),
        None => Some(text.into()),
    }
}

/// Whether a text without quotes would be read as something else than that text.
pub(super) fn is_special(text: &str) -> bool {
    let is_text = resolve(text).is_some_and(|value| value.is_string());
    !is_text || text == MERGE || is_timestamp(text) || is_base_60(text)
}

/// Go's `ParseInt` with base 0: a prefix tells the base, and a mere zero in front is octal.
fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefixed =
        |prefix: &str| digits.get(..2).filter(|start| start.eq_ignore_ascii_case(prefix)).map(|_| &digits[2..]);
    let (base, digits) = if let Some(rest) = prefixed("0x") {
        (16, rest)
    } else if let Some(rest) = prefixed("0o") {
        (8, rest)
    } else if let Some(rest) = prefixed("0b") {
        (2, rest)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (8, &digits[1..])
    } else {
        (10, digits)
    };
    // The standard library would take a second sign.
    if !digits.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, base).ok()?;
    if negative { Some(0_i64.checked_sub_unsigned(magnitude)?.into()) } else { Some(magnitude.into()) }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.strip_prefix(['+', '-']).unwrap_or(exponent)),
        None => (unsigned, "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let has_any = !whole.is_empty() || (mantissa.contains('.') && !fraction.is_empty());
    has_any && digits(whole) && digits(fraction) && !exponent.is_empty() && digits(exponent)
}

/// On its way through JSON a float without a fraction becomes an integer.
fn float(value: f64) -> Option<Value> {
    /// Up to here every integer is a float of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        return format!("{value:.0}").parse::<i64>().ok().map(Value::from);
    }
    Number::from_f64(value).map(Value::Number)
}

/// `2006-1-2`, perhaps with a time of day: old readers would make a date of it.
fn is_timestamp(text: &str) -> bool {
    let (date, time) = text.split_once(['T', 't', ' ']).map_or((text, None), |(date, time)| (date, Some(time)));
    let parts: Vec<&str> = date.split('-').collect();
    let [year, month, day] = parts[..] else { return false };
    let digits =
        |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    year.len() == 4
        && digits(year, 4)
        && digits(month, 2)
        && digits(day, 2)
        && time.is_none_or(|time| time.starts_with(|first: char| first.is_ascii_digit()))
}

/// `190:20:30`: old readers would make a number of it.
fn is_base_60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = |byte: u8| byte.is_ascii_digit() || byte == b'_' || byte == b'.';
    text.contains(':')
        && unsigned.starts_with(|first: char| first.is_ascii_digit())
        && unsigned.split(':').all(|part| !part.is_empty() && part.bytes().all(digits))
}
