//! Patterns of `like`: parsed once, so that every database and the comparison in memory read them the same. It refuses an
//! escape with nothing behind it.

/// A pattern for text: `%` stands for any characters, `_` for one, `\` makes the next one stand for itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    parts: Vec<Part>,
    ignore_case: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Literal(char),
    One,
    Any,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The last character is `\`.
    #[error("a pattern must not end in \\; write \\\\ for the character itself")]
    OpenEscape,
    /// No text holds the character NUL.
    #[error("a pattern holds no NUL character")]
    Nul,
}

impl Pattern {
    /// Reads a pattern. Where case is ignored, that is so for the letters A to Z alone: everything else depends on a
    /// database's locale.
    pub fn parse(text: &str, ignore_case: bool) -> Result<Self, PatternError> {
        let mut parts = Vec::with_capacity(text.len());
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            parts.push(match char {
                '\0' => return Err(PatternError::Nul),
                '%' if parts.last() == Some(&Part::Any) => continue,
                '%' => Part::Any,
                '_' => Part::One,
                '\\' => match chars.next() {
                    Some('\0') => return Err(PatternError::Nul),
                    Some(char) => Part::Literal(char),
                    None => return Err(PatternError::OpenEscape),
                },
                char => Part::Literal(char),
            });
        }
        Ok(Self { parts, ignore_case })
    }

    /// Whether the letters A to Z match whatever their case.
    pub fn ignores_case(&self) -> bool {
        self.ignore_case
    }

    /// Whether a text matches, as a whole.
    pub fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut at, mut part) = (0, 0);
        // Where to go on when what follows the last `%` does not fit: let that take in one character more.
        let mut retry = None;
        loop {
            match (self.parts.get(part), text.get(at)) {
                (Some(Part::Any), _) => {
                    part += 1;
                    retry = Some((part, at));
                    continue;
                }
                (Some(Part::One), Some(_)) => {
                    (at, part) = (at + 1, part + 1);
                    continue;
                }
                (Some(Part::Literal(wanted)), Some(found)) if self.same(*wanted, *found) => {
                    (at, part) = (at + 1, part + 1);
                    continue;
                }
                (None, None) => return true,
                _ => {}
            }
            match retry {
                Some((after, from)) if from < text.len() => {
                    retry = Some((after, from + 1));
                    (at, part) = (from + 1, after);
                }
                _ => return false,
            }
        }
    }

    fn same(&self, a: char, b: char) -> bool {
        a == b || self.ignore_case && a.eq_ignore_ascii_case(&b)
    }

    /// For `LIKE` with `\` as its escape.
    pub(crate) fn like(&self) -> String {
        let mut text = String::with_capacity(self.parts.len());
        for part in &self.parts {
            match part {
                Part::Any => text.push('%'),
                Part::One => text.push('_'),
                Part::Literal(char @ ('%' | '_' | '\\')) => text.extend(['\\', *char]),
                Part::Literal(char) => text.push(*char),
            }
        }
        text
    }

    /// For SQLite's `GLOB`, its only pattern that minds the case.
    pub(crate) fn glob(&self) -> String {
        let mut text = String::with_capacity(self.parts.len());
        for part in &self.parts {
            match part {
                Part::Any => text.push('*'),
                Part::One => text.push('?'),
                Part::Literal(char @ ('*' | '?' | '[')) => text.extend(['[', *char, ']']),
                Part::Literal(char) => text.push(*char),
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::parse(pattern, false).unwrap().matches(text)
    }

    #[test]
    fn wildcards_match_and_escapes_do_not() {
        assert!(matches("", "") && !matches("", "a") && matches("%", "") && matches("%%", "äb"));
        assert!(matches("a_c", "aßc") && !matches("a_c", "ac") && !matches("a_c", "abbc"));
        assert!(matches("%b%d", "abcbd") && !matches("%b%d", "abcbde"));
        assert!(matches("%aab", "aaaab") && matches("a%a", "aa") && !matches("a%a", "a"));
        assert!(matches(r"10\%", "10%") && !matches(r"10\%", "100") && matches(r"\\", r"\"));
        assert!(!matches("A", "a"));
        let ignoring = Pattern::parse("Aä%", true).unwrap();
        assert!(ignoring.matches("aäX") && !ignoring.matches("aÄ"));
        assert_eq!(Pattern::parse("a\\", false), Err(PatternError::OpenEscape));
        assert_eq!(Pattern::parse("a\0", false), Err(PatternError::Nul));
    }

    #[test]
    fn both_forms_of_sql_escape_what_they_know() {
        let pattern = Pattern::parse(r"*%_\%\_\\[?]", false).unwrap();
        assert_eq!(pattern.like(), r"*%_\%\_\\[?]");
        assert_eq!(pattern.glob(), r"[*]*?%_\[[][?]]");
    }
}
