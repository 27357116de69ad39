//! Numbers that may be percentages of another: `maxSurge: 25%`.

use api::IntOrString;

/// The number that `value` means of `total`; upstream's `GetScaledValueFromIntOrPercent`.
///
/// # Errors
/// It is a text but no percentage, with upstream's words.
pub fn scaled(value: &IntOrString, total: i32, round_up: bool) -> Result<i32, String> {
    let text = match value {
        IntOrString::Int(number) => return Ok(*number),
        IntOrString::String(text) => text,
    };
    let Some(digits) = text.strip_suffix('%') else {
        return Err("invalid value for IntOrString: invalid type: string is not a percentage".to_owned());
    };
    let invalid = |error| format!("invalid value for IntOrString: invalid value {text:?}: {error}");
    let percent: i32 = digits.parse().map_err(invalid)?;
    let product = i64::from(percent) * i64::from(total);
    let quotient = if round_up { -(-product).div_euclid(100) } else { product.div_euclid(100) };
    Ok(i32::try_from(quotient).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, total: i32) -> (i32, i32) {
        let value = IntOrString::String(text.to_owned());
        (scaled(&value, total, false).unwrap(), scaled(&value, total, true).unwrap())
    }

    #[test]
    fn a_percentage_is_rounded_as_asked() {
        assert_eq!(of("25%", 10), (2, 3));
        assert_eq!(of("50%", 10), (5, 5));
        assert_eq!(of("0%", 10), (0, 0));
        assert_eq!(of("1%", 1), (0, 1));
        assert_eq!(scaled(&IntOrString::Int(7), 1, true), Ok(7));
    }

    #[test]
    fn a_text_that_is_no_percentage_is_refused() {
        assert!(scaled(&IntOrString::String("7".to_owned()), 1, true).is_err());
        assert!(scaled(&IntOrString::String("x%".to_owned()), 1, true).is_err());
    }
}
