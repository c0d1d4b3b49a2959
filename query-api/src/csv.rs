//! Lists as comma-separated values (RFC 4180): a line of names, then a line for each row. It refuses to let a spreadsheet
//! take somebody's text for a formula.

/// What spreadsheets take for the beginning of a formula.
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// A value of a line.
pub(crate) enum Cell {
    /// Not there: nothing between the commas.
    Empty,
    /// As it stands: numbers, times.
    Exact(String),
    /// What somebody wrote. Text that begins like a formula gets `'` in front of it, which spreadsheets hide.
    Text(String),
}

/// Appends a line.
pub(crate) fn line(to: &mut String, cells: impl Iterator<Item = Cell>) {
    for (i, cell) in cells.enumerate() {
        if i > 0 {
            to.push(',');
        }
        match cell {
            Cell::Empty => {}
            Cell::Text(text) if text.starts_with(FORMULA) => field(to, &format!("'{text}")),
            // Quoted, so that it differs from a value that is not there.
            Cell::Text(text) if text.is_empty() => to.push_str("\"\""),
            Cell::Exact(text) | Cell::Text(text) => field(to, &text),
        }
    }
    to.push_str("\r\n");
}

fn field(to: &mut String, text: &str) {
    if text.contains([',', '"', '\r', '\n']) {
        to.push('"');
        to.push_str(&text.replace('"', "\"\""));
        to.push('"');
    } else {
        to.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be_and_formulas_are_disarmed() {
        let mut text = String::new();
        let texts = ["a", "a,b", "a\"b", "a\r\nb", "=1+1", "@x", "-1", "", " "];
        line(
            &mut text,
            texts.iter().map(|text| Cell::Text((*text).into())),
        );
        line(
            &mut text,
            [Cell::Exact("-1".into()), Cell::Empty].into_iter(),
        );
        assert_eq!(
            text,
            "a,\"a,b\",\"a\"\"b\",\"a\r\nb\",'=1+1,'@x,'-1,\"\", \r\n-1,\r\n"
        );
    }
}
