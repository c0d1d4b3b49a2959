//! PostgREST's grammar of queries, over the columns that the caller may read: what a URL asks, as a typed question. It
//! refuses whatever it does not know, since a filter that is left out would show too much, and it says everything that is
//! wrong at once, with what is allowed instead.

use axum::http::Uri;
use read_models::{Field, Filter, Order};
use web::Problem;

mod columns;
mod conditions;
mod mistakes;

pub(crate) use columns::Output;
pub(crate) use mistakes::Mistakes;
use mistakes::shown;

use crate::parameters::{self, Pairs};

/// Rows of a list unless asked otherwise.
pub(crate) const DEFAULT_LIMIT: u32 = 50;
/// Rows of a list at most.
pub(crate) const MAX_LIMIT: u32 = 1_000;
/// Rows left out at most: the database walks over each of them.
pub(crate) const MAX_OFFSET: u32 = 1_000_000;
/// The parameter of a cursor. No column begins with `_` but the hidden ones.
pub(crate) const CURSOR: &str = "_cursor";
/// The parameters of a list that are no columns.
const PARAMETERS: &str = "select, order, limit, offset, and, or, not.and, not.or, _cursor";

/// What a list is asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) select: Vec<Output>,
    pub(crate) filter: Filter,
    /// As it was written: the key is not appended yet.
    pub(crate) order: Vec<Order>,
    pub(crate) limit: Option<u32>,
    pub(crate) offset: Option<u32>,
    /// Sealed.
    pub(crate) cursor: Option<String>,
}

/// Reads a list's question; 400 names all that is wrong with it. `fields` are the columns that exist for the caller.
pub(crate) fn list(uri: &Uri, fields: &[Field]) -> Result<(Asked, Pairs), Problem> {
    let pairs = parameters::pairs(uri)?;
    let mut mistakes = Mistakes::default();
    let mut asked = Asked {
        select: Vec::new(),
        filter: Filter::ALL,
        order: Vec::new(),
        limit: None,
        offset: None,
        cursor: None,
    };
    let mut conditions = conditions::Conditions::new(fields);
    let (mut select, mut order) = (None, None);
    for (name, value) in &pairs {
        mistakes.about(name);
        match name.as_str() {
            "select" => once(&mut select, value, &mut mistakes),
            "order" => once(&mut order, value, &mut mistakes),
            "limit" => mistakes.number(&mut asked.limit, value, MAX_LIMIT),
            "offset" => mistakes.number(&mut asked.offset, value, MAX_OFFSET),
            CURSOR => once(&mut asked.cursor, value, &mut mistakes),
            "and" | "or" | "not.and" | "not.or" => conditions.tree(name, value, &mut mistakes),
            name => conditions.column(name, value, &mut mistakes),
        }
    }
    asked.filter = conditions.filter();
    mistakes.about("select");
    asked.select = columns::select(select.as_deref().unwrap_or("*"), fields, &mut mistakes);
    mistakes.about("order");
    asked.order = columns::order(order.as_deref().unwrap_or_default(), fields, &mut mistakes);
    mistakes.refuse()?;
    Ok((asked, pairs))
}

/// Reads the question of a live list: columns and a filter. What picks a window of a list has no meaning for rows that come as
/// they change.
pub(crate) fn live(uri: &Uri, fields: &[Field]) -> Result<(Vec<Output>, Filter), Problem> {
    let mut mistakes = Mistakes::default();
    for (name, _) in parameters::pairs(uri)? {
        if matches!(name.as_str(), "order" | "limit" | "offset" | CURSOR) {
            mistakes.about(&name);
            mistakes.add(
                "not_live",
                format!("A live answer has all rows that pass the filter, in no order: leave {name} out."),
            );
        }
    }
    mistakes.refuse()?;
    let (asked, _) = list(uri, fields)?;
    Ok((asked.select, asked.filter))
}

/// Reads the columns of a single row, which takes no other parameter.
pub(crate) fn row(uri: &Uri, fields: &[Field]) -> Result<Vec<Output>, Problem> {
    let mut mistakes = Mistakes::default();
    let mut select = None;
    for (name, value) in parameters::pairs(uri)? {
        mistakes.about(&name);
        if name == "select" {
            once(&mut select, &value, &mut mistakes);
        } else {
            mistakes.unknown_parameter("select");
        }
    }
    mistakes.about("select");
    let outputs = columns::select(select.as_deref().unwrap_or("*"), fields, &mut mistakes);
    mistakes.refuse()?;
    Ok(outputs)
}

fn once(place: &mut Option<String>, value: &str, mistakes: &mut Mistakes) {
    if place.is_some() {
        mistakes.repeated();
    } else {
        *place = Some(value.to_owned());
    }
}

/// The column of this name that exists for the caller; else what there is.
fn field<'f>(name: &str, fields: &'f [Field], mistakes: &mut Mistakes) -> Option<&'f Field> {
    let found = fields.iter().find(|field| field.name() == name);
    if found.is_none() {
        mistakes.add(
            "unknown_column",
            format!(
                "There is no column {}. There are: {}.",
                shown(name),
                names(fields.iter())
            ),
        );
    }
    found
}

fn names<'f>(fields: impl Iterator<Item = &'f Field>) -> String {
    fields.map(Field::name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
