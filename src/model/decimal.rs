//! Exact decimal shifts of binary numbers, as Java's `BigDecimal.valueOf(x)` gives them: 0.57 times a hundred is 57.

/// Whole part of `value` times ten to the power of `scale`, counted with the fewest decimal digits that stand for `value`. Of
/// what exceeds 64 bits the low ones stay, as in Java. `None` if it is infinite or no number.
pub fn shifted(value: f64, scale: u32) -> Option<i64> {
    if !value.is_finite() {
        return None;
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e')?;
    let (is_negative, digits) = match mantissa.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, mantissa),
    };
    let exponent: i64 = exponent.parse().ok()?;
    let whole_digits = usize::try_from(exponent + i64::from(scale) + 1).unwrap_or(0);
    let digits = digits.bytes().filter(u8::is_ascii_digit);
    let number = digits
        .map(|digit| i64::from(digit - b'0'))
        .chain(std::iter::repeat(0))
        .take(whole_digits)
        .fold(0_i64, |n, digit| n.wrapping_mul(10).wrapping_add(digit));
    Some(if is_negative {
        number.wrapping_neg()
    } else {
        number
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifts_are_decimal_and_cut_off() {
        for (value, scale, want) in [
            (0.57, 2, 57),
            (0.579, 2, 57),
            (-0.579, 2, -57),
            (1.005, 3, 1005),
            (0.005, 3, 5),
            (2.5, 3, 2500),
            (123.999, 0, 123),
            (1e-9, 3, 0),
            (0.0, 3, 0),
            (-0.0, 0, 0),
            (1e15, 3, 1_000_000_000_000_000_000),
            (9_223_372_036_854_775_000.0, 0, 9_223_372_036_854_775_000),
            // 10^20 mod 2^64
            (1e20, 0, 7_766_279_631_452_241_920),
            (1e300, 0, 0),
            (f64::MIN_POSITIVE, 18, 0),
        ] {
            assert_eq!(shifted(value, scale), Some(want), "{value} {scale}");
        }
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(shifted(value, 0), None, "{value}");
        }
    }
}
