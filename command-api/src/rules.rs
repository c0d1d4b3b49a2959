//! Rules for single fields. Each returns the canonical form, or a code and a sentence that says what to write.

use chrono::{Datelike, NaiveDate};
use unicode_normalization::UnicodeNormalization;

use crate::form::Problem;

const EMAIL_BYTES: usize = 254;
const NAME_CHARS: usize = 100;
const POSTAL_ADDRESS_CHARS: usize = 500;
const LOCALE_BYTES: usize = 35;

/// A name: NFC, 1 to 100 characters, none of them a control character.
pub fn name(text: &str) -> Result<String, Problem> {
    clean(text, NAME_CHARS, false)
}

/// A postal address: NFC, 1 to 500 characters; line breaks are allowed, other control characters are not.
pub fn postal_address(text: &str) -> Result<String, Problem> {
    clean(text, POSTAL_ADDRESS_CHARS, true)
}

fn clean(text: &str, most: usize, lines: bool) -> Result<String, Problem> {
    let text: String = text.nfc().collect::<String>().trim().to_owned();
    let count = text.chars().count();
    if count == 0 {
        return Err(("too_short", "write at least one visible character".into()));
    }
    if count > most {
        return Err((
            "too_long",
            format!("write at most {most} characters; these are {count}"),
        ));
    }
    if text
        .chars()
        .any(|c| (c.is_control() && !(lines && c == '\n')) || is_bidi_control(c))
    {
        return Err(("control_character", "leave out control characters".into()));
    }
    Ok(text)
}

/// Characters that reorder what stands around them: they make one name look like another.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// An e-mail address: one `@`, something on both sides, no spaces, at most 254 bytes (RFC 5321, 4.5.3.1.3).
pub fn email(text: &str) -> Result<String, Problem> {
    let text: String = text.nfc().collect::<String>().trim().to_owned();
    let invalid = || {
        (
            "invalid_email",
            "write an e-mail address like ada@example.org".to_owned(),
        )
    };
    if text.len() > EMAIL_BYTES {
        return Err((
            "too_long",
            format!("an e-mail address has at most {EMAIL_BYTES} bytes"),
        ));
    }
    let (local, domain) = text.split_once('@').ok_or_else(invalid)?;
    let labels_fit = domain
        .split('.')
        .all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'));
    let bad = |c: char| {
        c.is_control()
            || c.is_whitespace()
            || is_bidi_control(c)
            || matches!(c, '@' | '<' | '>' | '"' | ',' | ';' | '\\' | '(' | ')')
    };
    if local.is_empty()
        || local.len() > 64
        || !labels_fit
        || local.chars().any(bad)
        || domain.chars().any(bad)
    {
        return Err(invalid());
    }
    Ok(text)
}

/// A telephone number in E.164: `+`, then 7 to 15 digits, the first of them not 0. Spaces and hyphens are dropped.
pub fn phone(text: &str) -> Result<String, Problem> {
    let text: String = text.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
    let digits = text.strip_prefix('+').unwrap_or("");
    let fits = (7..=15).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && !digits.starts_with('0');
    if fits {
        Ok(text)
    } else {
        Err((
            "invalid_phone",
            "write a number in international form like +4930123456".into(),
        ))
    }
}

/// A birth date as `YYYY-MM-DD`, from 1900. That it is not in the future is checked where the time is known.
pub fn birth_date(text: &str) -> Result<String, Problem> {
    match NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        Ok(date) if date.year() >= 1900 && date.to_string() == text => Ok(text.to_owned()),
        _ => Err((
            "invalid_date",
            "write a date from 1900 on as YYYY-MM-DD".into(),
        )),
    }
}

/// A language tag that is well-formed by BCP 47 (RFC 5646, 2.1): language, then script, region, variants.
pub fn locale(text: &str) -> Result<String, Problem> {
    let invalid = || {
        (
            "invalid_locale",
            "write a BCP 47 language tag like en, de-CH or zh-Hant-TW".to_owned(),
        )
    };
    let mut parts = text.split('-');
    let language = parts.next().unwrap_or("");
    let alphabetic = |part: &str| part.bytes().all(|b| b.is_ascii_alphabetic());
    if text.len() > LOCALE_BYTES || !(2..=3).contains(&language.len()) || !alphabetic(language) {
        return Err(invalid());
    }
    let mut canonical = language.to_ascii_lowercase();
    for part in parts {
        if !(2..=8).contains(&part.len()) || !part.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(invalid());
        }
        canonical.push('-');
        match part.len() {
            2 if alphabetic(part) => canonical.push_str(&part.to_ascii_uppercase()),
            4 if alphabetic(part) => {
                canonical.push_str(&part[..1].to_ascii_uppercase());
                canonical.push_str(&part[1..].to_ascii_lowercase());
            }
            _ => canonical.push_str(&part.to_ascii_lowercase()),
        }
    }
    Ok(canonical)
}

/// A time zone of the IANA database.
pub fn time_zone(text: &str) -> Result<String, Problem> {
    text.parse::<chrono_tz::Tz>()
        .map(|zone| zone.name().to_owned())
        .map_err(|_| {
            (
                "unknown_time_zone",
                "write an IANA time zone like Europe/Berlin".into(),
            )
        })
}

/// One word of a fixed list is checked where it is parsed; this lets any text through.
pub fn word(text: &str) -> Result<String, Problem> {
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_trimmed_and_odd_ones_refused() {
        assert_eq!(email(" Ada@Example.org ").unwrap(), "Ada@Example.org");
        assert!(email("jörg@bücher.example").is_ok());
        for bad in [
            "",
            "ada",
            "@x.org",
            "ada@",
            "a da@x.org",
            "a@b@c",
            "ada@x..org",
            "ada@x.org\r\nBcc: y",
        ] {
            assert!(email(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_are_unicode_but_hold_no_control_characters() {
        assert_eq!(name("Zoe\u{308}").unwrap(), "Zo\u{eb}");
        for bad in ["", "   ", "a\u{0}b", "a\u{202E}b", &"x".repeat(101)] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn phones_dates_locales_and_zones_have_a_canonical_form() {
        assert_eq!(phone("+49 30-123456").unwrap(), "+4930123456");
        assert!(phone("030123456").is_err() && phone("+0123456789").is_err());
        assert!(birth_date("1815-12-10").is_err() && birth_date("2000-02-30").is_err());
        assert!(birth_date("2000-02-29").is_ok());
        assert_eq!(locale("ZH-hant-tw").unwrap(), "zh-Hant-TW");
        assert!(locale("english").is_err() && locale("e").is_err());
        assert!(time_zone("Europe/Berlin").is_ok() && time_zone("Mars/Base").is_err());
    }
}
