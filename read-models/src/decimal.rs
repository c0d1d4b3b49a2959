//! Exact decimal numbers of a fixed scale: sums, order and equality are those of integers, so they are the same in every
//! database. It refuses floating point.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// The most digits after the point.
pub(crate) const MAX_SCALE: u8 = 9;
/// The digits that every database holds exactly in a column of any scale; one more power of ten has too many.
pub(crate) const DIGITS: u32 = 18;

/// A decimal number: `units` of 10 to the power of minus `scale`, with a scale of 0 to 9. `1.5` and `1.50` are equal.
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    units: i64,
    scale: u8,
}

/// A text that is no decimal number, or has more digits than fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "write a decimal number with up to 18 digits, at most 9 of them after the point, such as 12.50"
)]
pub struct InvalidDecimal;

impl Decimal {
    /// So many units of the last digit: `Decimal::of::<2>(1250)` is 12.50. The scale, 0 to 9, is checked when compiled.
    #[must_use]
    pub const fn of<const SCALE: u8>(units: i64) -> Self {
        const {
            assert!(
                SCALE <= MAX_SCALE,
                "a decimal has at most 9 digits after the point"
            );
        };
        Self {
            units,
            scale: SCALE,
        }
    }

    /// The same, for a scale that comes from a checked definition.
    pub(crate) const fn at(units: i64, scale: u8) -> Self {
        Self { units, scale }
    }

    /// How many units of 10 to the power of minus [`Decimal::scale`] it is.
    #[must_use]
    pub const fn units(self) -> i64 {
        self.units
    }

    /// Its digits after the point.
    #[must_use]
    pub const fn scale(self) -> u8 {
        self.scale
    }

    /// The same number with so many digits after the point. `None`: it has more of them, or more than 18 digits in all.
    #[must_use]
    pub fn rescaled(self, scale: u8) -> Option<Self> {
        let limit = 10_i64.pow(DIGITS);
        let units = if scale > MAX_SCALE {
            None
        } else if scale >= self.scale {
            let factor = 10_i64.pow(u32::from(scale - self.scale));
            self.units.checked_mul(factor)
        } else {
            let factor = 10_i64.pow(u32::from(self.scale - scale));
            (self.units % factor == 0).then_some(self.units / factor)
        };
        units
            .filter(|units| -limit < *units && *units < limit)
            .map(|units| Self { units, scale })
    }

    /// The sum, at this number's scale. `None` where it does not fit.
    pub(crate) fn plus(self, other: Self) -> Option<Self> {
        let units = self.units.checked_add(other.rescaled(self.scale)?.units)?;
        Self { units, ..self }.rescaled(self.scale)
    }

    /// At the greatest scale, where numbers of all scales can be compared.
    fn nanos(self) -> i128 {
        i128::from(self.units) * 10_i128.pow(u32::from(MAX_SCALE - self.scale))
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.nanos() == other.nanos()
    }
}
impl Eq for Decimal {}
impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos().cmp(&other.nanos())
    }
}
impl Hash for Decimal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nanos().hash(state);
    }
}

impl From<i64> for Decimal {
    fn from(number: i64) -> Self {
        Self::at(number, 0)
    }
}

/// As it is written: `-12.50`, with all digits of its scale.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.units < 0 { "-" } else { "" };
        let one = 10_u64.pow(u32::from(self.scale));
        let (whole, rest) = (
            self.units.unsigned_abs() / one,
            self.units.unsigned_abs() % one,
        );
        match self.scale {
            0 => write!(f, "{sign}{whole}"),
            scale => write!(
                f,
                "{sign}{whole}.{rest:0width$}",
                width = usize::from(scale)
            ),
        }
    }
}

/// Digits with at most one point between them, and maybe a sign; no exponent.
impl FromStr for Decimal {
    type Err = InvalidDecimal;

    fn from_str(text: &str) -> Result<Self, InvalidDecimal> {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (whole, rest) = digits.split_once('.').unwrap_or((digits, "0"));
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(whole) || !all_digits(rest) {
            return Err(InvalidDecimal);
        }
        let rest = rest.trim_end_matches('0');
        let scale = u8::try_from(rest.len()).map_err(|_| InvalidDecimal)?;
        let sign = if text.starts_with('-') { "-" } else { "" };
        let units = format!("{sign}{whole}{rest}");
        let units = units.parse().map_err(|_| InvalidDecimal)?;
        if scale > MAX_SCALE {
            return Err(InvalidDecimal);
        }
        Self { units, scale }.rescaled(scale).ok_or(InvalidDecimal)
    }
}

/// An exact JSON number with all digits of its scale (RFC 8259, section 6), never by way of floating point.
impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.to_string())
            .map_err(serde::ser::Error::custom)?
            .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Decimal, InvalidDecimal> {
        text.parse()
    }

    #[test]
    fn numbers_are_read_and_written_exactly() {
        for (text, written) in [
            ("12.5", "12.5"),
            ("-0.01", "-0.01"),
            ("+7", "7"),
            ("007.10", "7.1"),
            ("999999999999999999", "999999999999999999"),
            ("999999999.999999999", "999999999.999999999"),
        ] {
            assert_eq!(parsed(text).unwrap().to_string(), written);
        }
        let price = Decimal::of::<2>(-1250);
        assert_eq!(serde_json::to_string(&price).unwrap(), "-12.50");
        assert_eq!(Decimal::of::<9>(1).to_string(), "0.000000001");
    }

    #[test]
    fn what_is_no_number_or_too_long_is_refused() {
        for text in [
            "",
            "-",
            ".",
            "1.",
            ".5",
            "1e3",
            "0x1",
            "1.2.3",
            "--1",
            " 1",
            "1,5",
            "NaN",
            "٣",
            "1000000000000000000",
            "0.0000000001",
            "9999999999.999999999",
        ] {
            assert_eq!(parsed(text), Err(InvalidDecimal), "{text}");
        }
    }

    #[test]
    fn equality_and_order_are_those_of_the_numbers() {
        let [low, high] = [Decimal::of::<1>(15), Decimal::of::<3>(1501)];
        assert!(low < high && low == Decimal::of::<4>(15_000));
        assert!(Decimal::of::<2>(-1) < Decimal::from(0));
        assert!(Decimal::from(i64::MAX) > Decimal::of::<9>(i64::MAX));
    }

    #[test]
    fn rescaling_and_adding_never_round() {
        assert_eq!(Decimal::of::<3>(1500).rescaled(1).unwrap().units(), 15);
        assert_eq!(Decimal::of::<3>(1501).rescaled(1), None);
        assert_eq!(Decimal::from(i64::MAX).rescaled(1), None);
        assert_eq!(Decimal::from(1).rescaled(10), None);
        let most = Decimal::of::<2>(999_999_999_999_999_999);
        assert_eq!(most.plus(Decimal::of::<2>(1)), None);
        assert_eq!(
            most.plus(Decimal::of::<2>(-1)).unwrap().units(),
            999_999_999_999_999_998
        );
        assert_eq!(Decimal::of::<2>(1).plus(Decimal::of::<3>(1)), None);
    }
}
