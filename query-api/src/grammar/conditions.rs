//! Conditions: `column=operator.value` and trees of them. Which operators a column takes follows from its type alone.

use read_models::{ColumnType, Comparison, Field, Filter, Is, Pattern, Value};

use super::mistakes::{Mistakes, shown};
use super::{PARAMETERS, field, names};
use crate::scan::Scan;
use crate::values;

/// Conditions of a question at most.
const TERMS: usize = 100;
/// Parentheses within each other at most.
const DEPTH: usize = 8;
/// Values of all lists of a question at most.
const LISTED: usize = 1_000;
/// The longest pattern, in characters.
const PATTERN_CHARS: usize = 256;
/// What ends a value within a tree.
const ENDS: [char; 2] = [',', ')'];

/// The conditions read so far.
pub(super) struct Conditions<'f> {
    fields: &'f [Field],
    all: Vec<Filter>,
    terms: usize,
    listed: usize,
}

impl<'f> Conditions<'f> {
    pub(super) fn new(fields: &'f [Field]) -> Self {
        Self {
            fields,
            all: Vec::new(),
            terms: 0,
            listed: 0,
        }
    }

    /// All conditions together.
    pub(super) fn filter(self) -> Filter {
        Filter::All(self.all)
    }

    /// `column=operator.value`: the value is all that follows, as it stands.
    pub(super) fn column(&mut self, name: &str, text: &str, mistakes: &mut Mistakes) {
        let Some(field) = self.fields.iter().find(|field| field.name() == name) else {
            let columns = names(self.fields.iter());
            mistakes.unknown_parameter(&format!("{PARAMETERS}, and the columns {columns}"));
            return;
        };
        let mut scan = Scan::new(text);
        if let Some(filter) = self.condition(field, &mut scan, false, mistakes) {
            self.all.push(filter);
        }
    }

    /// `and=(…)`, `or=(…)`, `not.and=(…)`, `not.or=(…)`.
    pub(super) fn tree(&mut self, name: &str, text: &str, mistakes: &mut Mistakes) {
        let mut scan = Scan::new(text);
        let word = name.trim_start_matches("not.");
        let read = self.branch(word, &mut scan, 1, mistakes);
        match read {
            Ok(filter) if scan.rest().is_empty() => self.all.push(negated(filter, word != name)),
            Ok(_) | Err(Unreadable) => mistakes.add(
                "malformed",
                format!(
                    "{name} is written ({{column}}.{{operator}}.{{value}},…), with and(…), or(…), not.and(…) and not.or(…) \
                     inside, at most {DEPTH} deep, and values that hold a comma, a parenthesis or a quote in double quotes. \
                     It cannot be read from {} on.",
                    shown(scan.rest())
                ),
            ),
        }
    }

    fn branch(
        &mut self,
        word: &str,
        scan: &mut Scan<'_>,
        depth: usize,
        mistakes: &mut Mistakes,
    ) -> Result<Filter, Unreadable> {
        if depth > DEPTH || !scan.take("(") {
            return Err(Unreadable);
        }
        let mut filters = Vec::new();
        loop {
            filters.extend(self.leaf(scan, depth, mistakes)?);
            if scan.take(")") {
                break;
            }
            if !scan.take(",") {
                return Err(Unreadable);
            }
        }
        Ok(match word {
            "or" => Filter::Any(filters),
            _ => Filter::All(filters),
        })
    }

    fn leaf(
        &mut self,
        scan: &mut Scan<'_>,
        depth: usize,
        mistakes: &mut Mistakes,
    ) -> Result<Option<Filter>, Unreadable> {
        let before = *scan;
        let not = scan.take("not.");
        for word in ["and", "or"] {
            if scan.rest().starts_with(&format!("{word}(")) {
                scan.take(word);
                let filter = self.branch(word, scan, depth + 1, mistakes)?;
                return Ok(Some(negated(filter, not)));
            }
        }
        *scan = before;
        let name = scan.until(&['.', ',', '(', ')']);
        if !scan.take(".") {
            return Err(Unreadable);
        }
        let found = field(name, self.fields, mistakes);
        let Some(field) = found else {
            // What follows is read for its end alone.
            skip(scan).ok_or(Unreadable)?;
            return Ok(None);
        };
        let before = *scan;
        let filter = self.condition(field, scan, true, mistakes);
        if filter.is_none() {
            *scan = before;
            skip(scan).ok_or(Unreadable)?;
        }
        Ok(filter)
    }

    /// `[not.]operator.value`. Nothing if something is wrong, which is said.
    fn condition(
        &mut self,
        field: &Field,
        scan: &mut Scan<'_>,
        within: bool,
        mistakes: &mut Mistakes,
    ) -> Option<Filter> {
        self.terms += 1;
        if self.terms > TERMS {
            if self.terms == TERMS + 1 {
                mistakes.add("too_many", format!("More than {TERMS} conditions."));
            }
            return None;
        }
        let not = scan.take("not.");
        let operator = scan.until(&['.', ',', ')']);
        let allowed = operators(field.column_type());
        if !allowed.contains(&operator) || !scan.take(".") {
            mistakes.add("unknown_operator", unknown_operator(field, operator));
            return None;
        }
        if operator == "in" {
            let filter = self.list(field, scan, within, mistakes)?;
            return Some(negated(filter, not));
        }
        let text = Self::text(scan, within, mistakes)?;
        let filter = match operator {
            "is" => is(field, &text, mistakes)?,
            "cs" => match value(field, &text, mistakes)? {
                Value::List(texts) => Filter::Contains(field.clone(), texts),
                _ => return None,
            },
            "like" | "ilike" => pattern(field, &text, operator == "ilike", mistakes)?,
            _ => {
                let value = value(field, &text, mistakes)?;
                Filter::Compare(field.clone(), comparison(operator)?, value)
            }
        };
        Some(negated(filter, not))
    }

    /// A single value: within a tree up to what ends it, else all that is left.
    fn text(scan: &mut Scan<'_>, within: bool, mistakes: &mut Mistakes) -> Option<String> {
        if !within {
            let text = scan.rest().to_owned();
            *scan = Scan::new("");
            return Some(text);
        }
        let text = if scan.rest().starts_with('{') {
            scan.braces().map(str::to_owned)
        } else {
            scan.value(&ENDS)
        };
        text.or_else(|| {
            wrong(
                mistakes,
                "The quotes or braces of a value are not closed.".into(),
            )
        })
    }

    fn list(
        &mut self,
        field: &Field,
        scan: &mut Scan<'_>,
        within: bool,
        mistakes: &mut Mistakes,
    ) -> Option<Filter> {
        let name = field.name();
        let texts = scan.list().filter(|_| within || scan.rest().is_empty());
        let Some(texts) = texts else {
            return wrong(
                mistakes,
                format!(
                    "{name}: a list is written in.(a,b,\"c,d\"), with values that hold a comma, a parenthesis or a quote in \
                     double quotes."
                ),
            );
        };
        self.listed += texts.len();
        if self.listed > LISTED {
            mistakes.add("too_many", format!("More than {LISTED} values in lists."));
            return None;
        }
        let values = texts.iter().map(|text| value(field, text, mistakes));
        // Each that is wrong is said.
        let values: Vec<_> = values.collect();
        let values: Option<Vec<_>> = values.into_iter().collect();
        Some(Filter::In(field.clone(), values?))
    }
}

/// The text cannot be read on.
struct Unreadable;

/// Leaves out a condition of a tree, up to the comma or parenthesis behind it.
fn skip(scan: &mut Scan<'_>) -> Option<()> {
    loop {
        let before = scan.rest();
        scan.until(&['"', '(', '{', ',', ')']);
        if scan.rest().starts_with('{') {
            scan.braces()?;
        } else if scan.rest().starts_with('"') {
            scan.value(&ENDS)?;
        } else if scan.rest().starts_with('(') {
            scan.list()?;
        } else {
            return Some(());
        }
        if scan.rest() == before {
            return None;
        }
    }
}

fn negated(filter: Filter, not: bool) -> Filter {
    if not {
        Filter::Not(Box::new(filter))
    } else {
        filter
    }
}

/// The operators that a column of this type takes.
pub(crate) fn operators(column_type: ColumnType) -> &'static [&'static str] {
    match column_type {
        ColumnType::Text => &[
            "eq", "neq", "gt", "gte", "lt", "lte", "in", "is", "like", "ilike",
        ],
        ColumnType::Personal => &["is"],
        ColumnType::List => &["cs", "is"],
        ColumnType::Integer
        | ColumnType::Decimal { .. }
        | ColumnType::Boolean
        | ColumnType::Timestamp
        | ColumnType::Date
        | ColumnType::Uuid => &["eq", "neq", "gt", "gte", "lt", "lte", "in", "is"],
    }
}

fn unknown_operator(field: &Field, operator: &str) -> String {
    let name = field.name();
    if field.column_type() == ColumnType::Personal {
        return format!(
            "{name} is personal: it is ciphertext in the database, so it can be selected, and filtered by is.null and \
             not.is.null alone."
        );
    }
    let operators = operators(field.column_type()).join(", ");
    format!(
        "{name} is filtered by {{operator}}.{{value}}, with one of the operators {operators}, each with not. before it if \
         wanted; {} is none of them.",
        shown(operator)
    )
}

fn comparison(operator: &str) -> Option<Comparison> {
    Some(match operator {
        "eq" => Comparison::Eq,
        "neq" => Comparison::Neq,
        "gt" => Comparison::Gt,
        "gte" => Comparison::Gte,
        "lt" => Comparison::Lt,
        "lte" => Comparison::Lte,
        _ => return None,
    })
}

fn is(field: &Field, text: &str, mistakes: &mut Mistakes) -> Option<Filter> {
    let boolean = field.column_type() == ColumnType::Boolean;
    let is = |is| Some(Filter::Is(field.clone(), is));
    match text {
        "null" => is(Is::Null),
        "not_null" => is(Is::Null).map(|filter| negated(filter, true)),
        "unknown" if boolean => is(Is::Null),
        "true" if boolean => is(Is::True),
        "false" if boolean => is(Is::False),
        _ => {
            let allowed = if boolean {
                "null, not_null, true, false, unknown"
            } else {
                "null, not_null"
            };
            let name = field.name();
            wrong(
                mistakes,
                format!("{name}: is takes one of {allowed}, not {}.", shown(text)),
            )
        }
    }
}

fn pattern(
    field: &Field,
    text: &str,
    ignore_case: bool,
    mistakes: &mut Mistakes,
) -> Option<Filter> {
    let name = field.name();
    if text.chars().count() > PATTERN_CHARS {
        return wrong(
            mistakes,
            format!("{name}: a pattern has at most {PATTERN_CHARS} characters."),
        );
    }
    // `*` stands for `%`, which would have to be encoded in a URL.
    match Pattern::parse(&text.replace('*', "%"), ignore_case) {
        Ok(pattern) => Some(Filter::Like(field.clone(), pattern)),
        Err(error) => wrong(mistakes, format!("{name}: {error}.")),
    }
}

fn value(field: &Field, text: &str, mistakes: &mut Mistakes) -> Option<Value> {
    let found = values::parse(text, field.column());
    if found.is_none() {
        let (name, form) = (field.name(), values::form(field.column_type()));
        let hint = if text == "null" {
            " For rows without a value there is is.null."
        } else {
            ""
        };
        wrong::<()>(
            mistakes,
            format!(
                "{name} is compared with values of the form {form}, and {} is none.{hint}",
                shown(text)
            ),
        );
    }
    found
}

fn wrong<T>(mistakes: &mut Mistakes, detail: String) -> Option<T> {
    mistakes.add("invalid_value", detail);
    None
}
