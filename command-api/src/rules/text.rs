//! Rules for texts that people see: names and postal addresses, in any script.
//!
//! Refuses: what makes one text look like another or like nothing, and what breaks the line it stands in.

use icu_properties::CodePointSetData;
use icu_properties::props::{
    CanonicalCombiningClass, DefaultIgnorableCodePoint, EmojiModifier, EnumeratedProperty,
    ExtendedPictographic, GeneralCategory as Category, GeneralCategoryGroup as Group, JoiningType,
};
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

use crate::form::Problem;

/// The most characters, as people count them (grapheme clusters, UAX 29), of a name.
const NAME_GRAPHEMES: usize = 100;
/// The same for a postal address.
const POSTAL_ADDRESS_GRAPHEMES: usize = 500;
/// The most code points of a text, for each grapheme it may have: one grapheme alone has no bound.
const CHARS_FOR_A_GRAPHEME: usize = 4;
/// The most code points of a name.
pub(super) const NAME_CHARS: usize = NAME_GRAPHEMES * CHARS_FOR_A_GRAPHEME;
/// The most code points of a postal address.
pub(super) const POSTAL_ADDRESS_CHARS: usize = POSTAL_ADDRESS_GRAPHEMES * CHARS_FOR_A_GRAPHEME;
/// The most combining marks on one base. Living languages stack three or four.
const MARKS: usize = 8;

const ZWNJ: char = '\u{200C}';
const ZWJ: char = '\u{200D}';
/// Asks for the colourful form of an emoji.
const EMOJI_PRESENTATION: char = '\u{FE0F}';
/// Looks like a space, though it counts as a symbol.
const BRAILLE_BLANK: char = '\u{2800}';

/// A name: NFC, one line, 1 to 100 characters as people count them.
pub(super) fn name(text: &str) -> Result<String, Problem> {
    clean(text, NAME_GRAPHEMES, false)
}

/// A postal address: NFC, 1 to 500 characters as people count them; line breaks are allowed.
pub(super) fn postal_address(text: &str) -> Result<String, Problem> {
    clean(text, POSTAL_ADDRESS_GRAPHEMES, true)
}

fn clean(text: &str, most: usize, lines: bool) -> Result<String, Problem> {
    let text: String = text.nfc().collect::<String>().trim().to_owned();
    if !text.chars().any(is_visible) {
        return Err(("too_short", "write at least one visible character".into()));
    }
    if text.chars().count() > most * CHARS_FOR_A_GRAPHEME || text.graphemes(true).count() > most {
        return Err(("too_long", format!("write at most {most} characters")));
    }
    let chars: Vec<char> = text.chars().collect();
    for (at, c) in chars.iter().enumerate() {
        match category(*c) {
            _ if lines && *c == '\n' => {}
            Category::Format if joins(&chars[..at], *c, &chars[at + 1..]) => {}
            Category::Control
            | Category::Format
            | Category::LineSeparator
            | Category::ParagraphSeparator => {
                return Err(("control_character", "leave out control characters".into()));
            }
            _ if !is_fit(*c) => {
                return Err((
                    "unknown_character",
                    "leave out characters that Unicode gives no meaning".into(),
                ));
            }
            _ => {}
        }
    }
    if longest_pile(&chars) > MARKS {
        return Err((
            "too_many_marks",
            format!("put at most {MARKS} marks on a letter"),
        ));
    }
    Ok(text)
}

/// Whether a character has a meaning, and none that is only for machines.
pub(super) fn is_fit(c: char) -> bool {
    !matches!(
        category(c),
        Category::Control
            | Category::Format
            | Category::LineSeparator
            | Category::ParagraphSeparator
            | Category::Unassigned
            | Category::PrivateUse
            | Category::Surrogate
    )
}

fn category(c: char) -> Category {
    Category::for_char(c)
}

fn is_visible(c: char) -> bool {
    let shown = Group::Letter
        .union(Group::Number)
        .union(Group::Punctuation)
        .union(Group::Symbol);
    shown.contains(category(c))
        && c != BRAILLE_BLANK
        && !CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// Whether a joiner stands where a language or an emoji needs it: RFC 5892, A.1 and A.2, and UTS 51's sequences.
fn joins(before: &[char], joiner: char, after: &[char]) -> bool {
    if !matches!(joiner, ZWJ | ZWNJ) {
        return false;
    }
    let virama =
        |c: &char| CanonicalCombiningClass::for_char(*c) == CanonicalCombiningClass::Virama;
    if before.last().is_some_and(virama) {
        return true;
    }
    if joiner == ZWNJ {
        let joining = |c: &&char| JoiningType::for_char(**c) != JoiningType::Transparent;
        let left = before.iter().rev().find(joining);
        let right = after.iter().find(joining);
        return left.is_some_and(|c| {
            matches!(
                JoiningType::for_char(*c),
                JoiningType::LeftJoining | JoiningType::DualJoining
            )
        }) && right.is_some_and(|c| {
            matches!(
                JoiningType::for_char(*c),
                JoiningType::RightJoining | JoiningType::DualJoining
            )
        });
    }
    let dressing = |c: &char| {
        *c == EMOJI_PRESENTATION || CodePointSetData::new::<EmojiModifier>().contains(*c)
    };
    let emoji = |c: &char| CodePointSetData::new::<ExtendedPictographic>().contains(*c);
    before
        .iter()
        .rev()
        .find(|c| !dressing(c))
        .is_some_and(emoji)
        && after.first().is_some_and(emoji)
}

/// The most marks that stand on one base. A joiner between them is no base.
fn longest_pile(chars: &[char]) -> usize {
    let (mut longest, mut pile) = (0, 0);
    for c in chars {
        if Group::Mark.contains(category(*c)) {
            pile += 1;
            longest = longest.max(pile);
        } else if !matches!(*c, ZWJ | ZWNJ) {
            pile = 0;
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> &'static str {
        name(text).expect_err(text).0
    }

    #[test]
    fn names_of_every_script_are_taken_in_nfc() {
        assert_eq!(name(" Zoe\u{308} ").unwrap(), "Zo\u{eb}");
        for fine in [
            "O’Connor-Smith, Jr.",
            "Nguyễn Thị Minh Khai",
            "毛泽东",
            "山田 太郎",
            "김민준",
            "محمد بن سلمان",
            "שָׁלוֹם",
            "அ. ப. ஜெ. அப்துல் கலாம்",
            "สมชาย ใจดี",
            "Zoë 🎭",
            "R2-D2",
        ] {
            let nfc: String = fine.nfc().collect();
            assert_eq!(name(fine).expect(fine), nfc);
        }
    }

    #[test]
    fn a_name_has_at_most_100_characters_as_people_count_them() {
        // Each family is one character to see, and seven code points.
        let family = "👨\u{200D}👩\u{200D}👧\u{200D}👦";
        assert!(name(&family.repeat(57)).is_ok());
        assert_eq!(code(&family.repeat(58)), "too_long", "400 code points");
        // क्षि: four code points, one character.
        let letter = "\u{915}\u{94D}\u{937}\u{93F}";
        assert!(name(&letter.repeat(100)).is_ok());
        assert!(name(&"x".repeat(100)).is_ok());
        assert_eq!(code(&"x".repeat(101)), "too_long");
    }

    #[test]
    fn what_shows_nothing_is_no_name() {
        for blank in [
            "", "   ", "\u{3164}", "\u{2800}", "\u{200D}", "\u{301}", "\u{A0}",
        ] {
            assert_eq!(code(blank), "too_short", "{blank:?}");
        }
    }

    #[test]
    fn control_and_format_characters_and_lines_are_refused() {
        for c in [
            '\0',
            '\t',
            '\n',
            '\r',
            '\u{7F}',
            '\u{85}',
            '\u{AD}',
            '\u{61C}',
            '\u{200B}',
            '\u{200E}',
            '\u{2028}',
            '\u{2029}',
            '\u{202E}',
            '\u{2066}',
            '\u{FEFF}',
            '\u{E0041}',
        ] {
            assert_eq!(code(&format!("a{c}b")), "control_character", "{c:?}");
        }
        assert_eq!(postal_address("One\nTwo").unwrap(), "One\nTwo");
        assert!(postal_address("One\rTwo").is_err() && postal_address("One\u{2028}Two").is_err());
    }

    #[test]
    fn code_points_without_a_meaning_are_refused() {
        for c in [
            '\u{E000}',
            '\u{F8FF}',
            '\u{10FFFD}',
            '\u{378}',
            '\u{FFFE}',
            '\u{FDD0}',
            '\u{10FFFF}',
        ] {
            assert_eq!(code(&format!("a{c}b")), "unknown_character", "{c:?}");
        }
    }

    #[test]
    fn joiners_are_taken_where_they_belong_and_nowhere_else() {
        for fine in [
            // Persian: the letters on both sides join.
            "می\u{200C}خواهم",
            // After a virama: Sinhala and Marathi.
            "ශ්\u{200D}රී",
            "क्\u{200C}ष",
            // With a skin tone and with the colourful form.
            "👩🏽\u{200D}🚀",
            "❤\u{FE0F}\u{200D}🔥",
        ] {
            assert!(name(fine).is_ok(), "{fine:?}");
        }
        for bad in [
            "a\u{200C}b",
            "a\u{200D}b",
            "a\u{200D}🚀",
            "🚀\u{200D}a",
            "🚀\u{200D}",
            // Reh does not join to the left, so nothing is to be kept apart.
            "ر\u{200C}ر",
            "می\u{200C}a",
        ] {
            assert_eq!(code(bad), "control_character", "{bad:?}");
        }
    }

    #[test]
    fn a_pile_of_marks_is_refused() {
        let piled = |marks| format!("x{}", "\u{335}".repeat(marks));
        assert!(name(&piled(8)).is_ok());
        assert_eq!(code(&piled(9)), "too_many_marks");
        // A joiner after each virama does not begin a new pile.
        let hidden = format!("\u{915}{}", "\u{94D}\u{200D}".repeat(9));
        assert_eq!(code(&hidden), "too_many_marks");
    }
}
