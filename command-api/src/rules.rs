//! Rules for single texts: each brings one into its canonical form, or says why not and what to write.

mod countries;
mod text;

use chrono::NaiveDate;
use icu_locale_core::Locale;
use unicode_normalization::UnicodeNormalization;

use self::text::{name, postal_address};
use crate::Rule;
use crate::form::Problem;

const EMAIL_BYTES: usize = 254;
const LOCALE_BYTES: usize = 35;

/// A name: NFC, one line, 1 to 100 characters as people count them (grapheme clusters, UAX 29).
pub const NAME: Rule = Rule::new(name)
    .of_length(1, text::NAME_CHARS)
    .example("Ada Lovelace")
    .meaning("One line of 1 to 100 characters as people count them, in any script; brought to NFC and trimmed.");

/// A postal address: NFC, 1 to 500 characters as people count them; line breaks are allowed.
pub const POSTAL_ADDRESS: Rule = Rule::new(postal_address)
    .of_length(1, text::POSTAL_ADDRESS_CHARS)
    .example("12 St James's Square\nLondon")
    .meaning("1 to 500 characters as people count them; line breaks are allowed.");

/// An e-mail address: one `@`, something on both sides, no spaces, at most 254 bytes (RFC 5321, 4.5.3.1.3), and a domain
/// whose ASCII form (IDNA) has the lengths that DNS allows: 63 bytes a label.
pub const EMAIL: Rule = Rule::new(email)
    .of_length(0, EMAIL_BYTES)
    .format("idn-email")
    .example("ada@example.org");

/// A telephone number in E.164: `+`, then 7 to 15 digits, the first of them not 0. Spaces and hyphens are dropped.
pub const PHONE: Rule = Rule::new(phone)
    .pattern("^[ -]*\\+[ -]*[1-9]([ -]*[0-9]){6,14}[ -]*$")
    .example("+4930123456")
    .meaning("A number in international form (E.164); spaces and hyphens are dropped.");

/// A birth date as `YYYY-MM-DD`. That it lies in a lifetime is checked where the time is known.
pub const BIRTH_DATE: Rule = Rule::new(birth_date)
    .format("date")
    .example("1990-12-10")
    .meaning("Not in the future, and less than 150 years ago.");

/// A country by its code of ISO 3166-1 alpha-2, upper-cased.
pub const COUNTRY: Rule = Rule::new(country)
    .pattern("^[A-Za-z]{2}$")
    .example("GB")
    .meaning("A code of ISO 3166-1 alpha-2; brought to upper case.");

/// A language tag that is well-formed by BCP 47 (RFC 5646, 2.1): language, then script, region, variants, and what
/// follows `x`, each at most once. Other extensions are refused: settings say such things in fields of their own.
pub const LOCALE: Rule = Rule::new(locale)
    .pattern("^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$")
    .example("de-CH")
    .meaning("A language tag (BCP 47).");

/// A time zone of the IANA database.
pub const TIME_ZONE: Rule = Rule::new(time_zone)
    .example("Europe/Berlin")
    .meaning("A time zone of the IANA database.");

/// Any text.
pub const ANY: Rule = Rule::new(any);

fn email(text: &str) -> Result<String, Problem> {
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
    let bad = |c: char| {
        !text::is_fit(c)
            || c.is_whitespace()
            || matches!(c, '@' | '<' | '>' | '"' | ',' | ';' | '\\' | '(' | ')')
    };
    if local.is_empty() || local.len() > 64 || local.chars().any(bad) || domain.chars().any(bad) {
        return Err(invalid());
    }
    mail::ascii_domain(domain).ok_or_else(invalid)?;
    Ok(text)
}

fn phone(text: &str) -> Result<String, Problem> {
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

fn birth_date(text: &str) -> Result<String, Problem> {
    match NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        Ok(date) if text.len() == 10 && date.to_string() == text => Ok(text.to_owned()),
        _ => Err(("invalid_date", "write a date as YYYY-MM-DD".into())),
    }
}

fn country(text: &str) -> Result<String, Problem> {
    let code = text.to_ascii_uppercase();
    if countries::CODES.binary_search(&code.as_str()).is_ok() {
        Ok(code)
    } else {
        Err((
            "unknown_country",
            "write a country's two letters of ISO 3166-1 like DE".into(),
        ))
    }
}

fn locale(text: &str) -> Result<String, Problem> {
    let invalid = || {
        (
            "invalid_locale",
            "write a BCP 47 language tag like en, de-CH or zh-Hant-TW".to_owned(),
        )
    };
    let language = text.split('-').next().unwrap_or("");
    // The parser takes more than BCP 47 does: underscores, and languages of up to eight letters.
    if text.len() > LOCALE_BYTES || text.contains('_') || !(2..=3).contains(&language.len()) {
        return Err(invalid());
    }
    let locale = Locale::try_from_str(text).map_err(|_| invalid())?;
    let extensions = &locale.extensions;
    let canonical = locale.to_string();
    // A subtag that came twice is dropped by the parser, or stands where it does not belong.
    let complete = canonical.len() == text.len();
    if complete
        && extensions.unicode.is_empty()
        && extensions.transform.is_empty()
        && extensions.other.is_empty()
    {
        Ok(canonical)
    } else {
        Err(invalid())
    }
}

fn time_zone(text: &str) -> Result<String, Problem> {
    text.parse::<chrono_tz::Tz>()
        .map(|zone| zone.name().to_owned())
        .map_err(|_| {
            (
                "unknown_time_zone",
                "write an IANA time zone like Europe/Berlin".into(),
            )
        })
}

#[expect(clippy::unnecessary_wraps, reason = "every check has this form")]
fn any(text: &str) -> Result<String, Problem> {
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
    fn a_domain_has_the_lengths_and_characters_that_dns_allows() {
        let label = |letter: &str, times| format!("ada@{}.example", letter.repeat(times));
        assert!(email(&label("x", 63)).is_ok() && email(&label("x", 64)).is_err());
        // 40 letters are 80 bytes of UTF-8 but fit in Punycode; 60 do not.
        assert!(email(&label("ü", 40)).is_ok() && email(&label("ü", 60)).is_err());
        for bad in [
            "ada@-x.org",
            "ada@x-.org",
            "ada@x.org.",
            "ada@x_y.org",
            "ada@[127.0.0.1]",
            "ada@xn--zzzzzzz99999.org",
            "a\u{200D}da@x.org",
            "a\u{E000}da@x.org",
        ] {
            assert_eq!(email(bad).unwrap_err().0, "invalid_email", "{bad:?}");
        }
    }

    #[test]
    fn phones_dates_and_zones_have_a_canonical_form() {
        assert_eq!(phone("+49 30-123456").unwrap(), "+4930123456");
        assert!(phone("030123456").is_err() && phone("+0123456789").is_err());
        assert!(birth_date("2000-02-30").is_err() && birth_date("2000-2-03").is_err());
        assert!(birth_date("2000-02-29").is_ok());
        assert!(time_zone("Europe/Berlin").is_ok() && time_zone("Mars/Base").is_err());
    }

    #[test]
    fn a_country_is_one_of_iso_3166() {
        assert_eq!(country("de").unwrap(), "DE");
        assert_eq!(country("GB").unwrap(), "GB");
        for bad in ["", "D", "DEU", "UK", "XX", "EU", "276", "ß", " DE"] {
            assert_eq!(country(bad).unwrap_err().0, "unknown_country", "{bad:?}");
        }
    }

    #[test]
    fn a_locale_is_a_language_tag_in_its_canonical_form() {
        for (text, canonical) in [
            ("EN", "en"),
            ("DE-ch", "de-CH"),
            ("ZH-hant-tw", "zh-Hant-TW"),
            ("es-419", "es-419"),
            ("sl-ROZAJ", "sl-rozaj"),
            ("de-1996", "de-1996"),
            ("de-DE-1901-x-Mine", "de-DE-1901-x-mine"),
            ("gsw", "gsw"),
        ] {
            assert_eq!(locale(text).unwrap(), canonical);
        }
        for bad in [
            "",
            "e",
            "english",
            "en_GB",
            "en-",
            "-en",
            "en--GB",
            "en-GB-GB",
            "en-GB-Latn",
            "zh-Hant-Hans",
            "de-1996-1996",
            "de-1996-DE",
            "de-x",
            "x-mine",
            "en-u-ca-buddhist",
            "en-t-de",
            "en-a-bcd",
            "de-123456789",
            "dé",
            "en-GB-oxendict-x-12345678-12345678-1",
        ] {
            assert_eq!(locale(bad).unwrap_err().0, "invalid_locale", "{bad:?}");
        }
    }

    #[test]
    fn what_a_rule_says_of_itself_is_so() {
        for rule in [
            NAME,
            POSTAL_ADDRESS,
            EMAIL,
            PHONE,
            BIRTH_DATE,
            COUNTRY,
            LOCALE,
            TIME_ZONE,
        ] {
            let schema = rule.schema();
            let example = schema["examples"][0].as_str().unwrap();
            assert!(rule.check(example).is_ok(), "{schema}");
            if let Some(most) = schema["maxLength"].as_u64() {
                let longer = "x".repeat(most as usize + 1);
                assert_eq!(rule.check(&longer).unwrap_err().0, "too_long", "{schema}");
            }
        }
    }
}
