//! Decimals in PostgreSQL's binary form of `numeric`: digits to the base of 10,000, with the weight of the first and the
//! number of decimal digits after the point. It refuses what is no number of the column's scale.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};

use crate::Decimal;
use crate::decimal::MAX_SCALE;

/// `numeric` and `numeric[]` in the catalogue, the same in every database.
const NUMERIC: Oid = Oid(1700);
const NUMERIC_ARRAY: Oid = Oid(1231);
/// Each digit counts as four decimal ones.
const BASE: u64 = 10_000;
const BASE_DIGITS: u32 = 4;
const NEGATIVE: u16 = 0x4000;

/// A decimal on its way to the server or back, where it has the scale that the server says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numeric(pub(super) Decimal);

impl Type<Postgres> for Numeric {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(NUMERIC)
    }
}

impl PgHasArrayType for Numeric {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(NUMERIC_ARRAY)
    }
}

impl Encode<'_, Postgres> for Numeric {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let (amount, scale) = (self.0.units().unsigned_abs(), u32::from(self.0.scale()));
        let one = 10_u64.pow(scale);
        let (mut whole, fraction) = (amount / one, amount % one);
        // Digits of the base stand on both sides of the point, so the fraction is filled up to whole ones.
        let groups = scale.div_ceil(BASE_DIGITS);
        let mut fraction = fraction * 10_u64.pow(groups * BASE_DIGITS - scale);
        let mut digits = Vec::with_capacity(8);
        for _ in 0..groups {
            digits.push(fraction % BASE);
            fraction /= BASE;
        }
        while whole > 0 {
            digits.push(whole % BASE);
            whole /= BASE;
        }
        let weight = digits.len() as i16 - groups as i16 - 1;
        let sign = if self.0.units() < 0 { NEGATIVE } else { 0 };
        for header in [
            digits.len() as u16,
            weight.cast_unsigned(),
            sign,
            scale as u16,
        ] {
            buffer.extend_from_slice(&header.to_be_bytes());
        }
        for digit in digits.iter().rev() {
            buffer.extend_from_slice(&(*digit as u16).to_be_bytes());
        }
        Ok(IsNull::No)
    }
}

impl Decode<'_, Postgres> for Numeric {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        let words: Vec<u16> = value
            .as_bytes()?
            .chunks_exact(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .collect();
        decode(&words).ok_or_else(|| "a numeric that is no decimal of the column's scale".into())
    }
}

fn decode(words: &[u16]) -> Option<Numeric> {
    let [count, weight, sign, scale, digits @ ..] = words else {
        return None;
    };
    if digits.len() != usize::from(*count) || (*sign != 0 && *sign != NEGATIVE) {
        return None;
    }
    let scale = u8::try_from(*scale)
        .ok()
        .filter(|scale| *scale <= MAX_SCALE)?;
    let mut amount: i128 = 0;
    for digit in digits {
        amount = amount.checked_mul(i128::from(BASE))? + i128::from(*digit);
    }
    // The last digit counts as 10 to this power, in units of the scale.
    let last = i32::from(weight.cast_signed()) + 1 - i32::from(*count);
    let power = last * BASE_DIGITS as i32 + i32::from(scale);
    let factor = 10_i128.checked_pow(power.unsigned_abs())?;
    let units = match power {
        0.. => amount.checked_mul(factor)?,
        _ if amount % factor == 0 => amount / factor,
        _ => return None,
    };
    let units = i64::try_from(if *sign == 0 { units } else { -units }).ok()?;
    Some(Numeric(Decimal::at(units, scale)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_come_back_from_their_binary_form() {
        for scale in 0..=9 {
            for units in [
                0,
                1,
                -1,
                9_999,
                10_000,
                -10_001,
                123_456_789,
                100_000_000,
                i64::MAX,
            ] {
                let mut buffer = PgArgumentBuffer::default();
                let number = Numeric(Decimal::at(units, scale));
                _ = number.encode_by_ref(&mut buffer).unwrap();
                let pairs = buffer.chunks_exact(2);
                let words: Vec<u16> = pairs.map(|b| u16::from_be_bytes([b[0], b[1]])).collect();
                let Numeric(back) = decode(&words).unwrap();
                assert_eq!((back.units(), back.scale()), (units, scale));
            }
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let not_a_number = [0, 0, 0xC000, 0];
        let half_a_unit = [1, 0xFFFF, 0, 0, 5_000];
        let too_fine = [1, 0, 0, 10, 1];
        for words in [
            &not_a_number[..],
            &half_a_unit,
            &too_fine,
            &[1, 0, 0],
            &[2, 0, 0, 0, 1],
        ] {
            assert!(decode(words).is_none(), "{words:?}");
        }
    }
}
