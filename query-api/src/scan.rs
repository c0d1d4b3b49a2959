//! Reading text from left to right: names, quoted values, lists in parentheses. It refuses to guess at what is missing.

/// What is left of a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scan<'t> {
    rest: &'t str,
}

impl<'t> Scan<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { rest: text }
    }

    pub(crate) fn rest(&self) -> &'t str {
        self.rest
    }

    /// Takes this, if it comes next.
    pub(crate) fn take(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Everything before the first of these characters, or before the end.
    pub(crate) fn until(&mut self, ends: &[char]) -> &'t str {
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// A value among others: in double quotes, where `\` makes the next character stand for itself, or plain up to one of
    /// these characters. Nothing if the quotes are not closed, or something follows them.
    pub(crate) fn value(&mut self, ends: &[char]) -> Option<String> {
        if !self.take("\"") {
            return Some(self.until(ends).to_owned());
        }
        let mut value = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    let ended = self.rest.is_empty() || self.rest.starts_with(ends);
                    return ended.then_some(value);
                }
                '\\' => value.push(chars.next()?.1),
                char => value.push(char),
            }
        }
        None
    }

    /// Texts between braces, as they stand: quotes hold commas and braces.
    pub(crate) fn braces(&mut self) -> Option<&'t str> {
        let (mut quoted, mut escaped) = (false, false);
        for (at, char) in self.rest.char_indices() {
            match char {
                _ if escaped => escaped = false,
                '\\' => escaped = quoted,
                '"' => quoted = !quoted,
                '}' if !quoted => {
                    let (taken, rest) = self.rest.split_at(at + 1);
                    self.rest = rest;
                    return Some(taken);
                }
                _ => {}
            }
        }
        None
    }

    /// Values between parentheses. Nothing if they are not written like that.
    pub(crate) fn list(&mut self) -> Option<Vec<String>> {
        if !self.take("(") {
            return None;
        }
        if self.take(")") {
            return Some(Vec::new());
        }
        let mut values = Vec::new();
        loop {
            values.push(self.value(&[',', ')'])?);
            if self.take(")") {
                return Some(values);
            }
            if !self.take(",") {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_with_their_quotes() {
        let read = |text| {
            let mut scan = Scan::new(text);
            scan.list().map(|values| (values, scan.rest()))
        };
        let values =
            |values: &[&str], rest| Some((values.iter().map(ToString::to_string).collect(), rest));
        assert_eq!(read("()"), values(&[], ""));
        assert_eq!(read(r#"("")"#), values(&[""], ""));
        assert_eq!(read("(a,b c,)x"), values(&["a", "b c", ""], "x"));
        assert_eq!(
            read(r#"("a,b","\"\\)",ü)"#),
            values(&["a,b", "\"\\)", "ü"], "")
        );
        for text in ["", "a", "(", "(a", "(a,", "(\"a)", "(\"a\"b)", "(\"\\"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
