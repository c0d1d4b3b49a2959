//! The statement that answers a query: one for a page, its count and the positions it was read at, so that all are of one
//! snapshot. It runs nothing itself.
//!
//! What makes it quick: conditions on the key reach partial rows before they are merged; the place to go on from is a
//! range of the order's first column; and where that column may be null, its nulls are read as a branch of their own, so
//! that an index serves both whichever end they stand at.

use std::fmt::Write as _;

use super::conditions::{Writer, comparable};
use super::{Audience, Dialect, Shape, quote, visible};
use crate::query::{Direction, Field, Filter, Nulls, Order, Query};
use crate::{ReadModel, Value};

/// A statement with what is bound to it, from `$1` on.
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) values: Vec<Value>,
    /// The columns that come back, by their place in a row: those that are selected or ordered by, each once. Behind
    /// them the positions (decimal numbers with commas between) and, if asked, the count.
    pub(crate) fetched: Vec<Field>,
}

/// Why readers see a table; it is asked for again in every statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It is the live one.
    Live,
    /// It serves readers of its definition.
    Serves,
}

/// The statement for a page of the table that readers see, with one row more than the page has. No row at all says that
/// they do not see it any more; a row without a key says that nothing was found.
pub(crate) fn page(
    dialect: Dialect,
    model: &ReadModel,
    (table, seen): (&str, Seen),
    query: &Query,
) -> Statement {
    let mut writer = Writer {
        dialect,
        values: vec![Value::Text(table.to_owned())],
    };
    let fetched = fetched(query);
    let columns: Vec<String> = fetched.iter().map(|field| quote(field.name())).collect();
    let source = writer.source(model, table, query);
    let rows = writer.rows(query, &columns.join(", "), &source);
    let shown: Vec<String> = columns.iter().map(|name| format!("r.{name}")).collect();
    let mut sql = format!("SELECT {}, {}", shown.join(", "), positions(dialect));
    if query.count {
        _ = write!(sql, ", (SELECT count(*) FROM {source}) AS _total");
    }
    _ = write!(
        sql,
        " FROM generations g LEFT JOIN ({rows}) r ON true WHERE g.table_name = $1 AND g.{} ORDER BY {}",
        match seen {
            Seen::Live => "live",
            Seen::Serves => "serves",
        },
        order_by(dialect, query.order(), "r.", None)
    );
    Statement {
        sql,
        values: writer.values,
        fetched,
    }
}

fn fetched(query: &Query) -> Vec<Field> {
    let mut fetched: Vec<Field> = Vec::new();
    let ordered = query.order().iter().map(|order| &order.field);
    for field in query.select.iter().chain(ordered) {
        if !fetched.contains(field) {
            fetched.push(field.clone());
        }
    }
    fetched
}

/// How far the table has come in each partition, and how often it was amended: the first number.
fn positions(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => {
            "(SELECT sum(amended)::text || ',' || string_agg(position::text, ',' ORDER BY partition) FROM checkpoints \
             WHERE generation = $1) AS _positions"
        }
        Dialect::Sqlite => {
            "(SELECT sum(amended) || ',' || group_concat(position, ',') FROM (SELECT position, amended FROM checkpoints \
             WHERE generation = $1 ORDER BY partition)) AS _positions"
        }
    }
}

/// Where a branch of a page begins, and what is known of the first column of its order there.
struct Branch {
    condition: Option<String>,
    lead: Lead,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lead {
    /// Values and nulls.
    Mixed,
    /// No nulls.
    Values,
    /// Nulls alone: nothing to order by.
    Nulls,
}

impl Writer {
    /// What is read from, with the filter: `… WHERE …`, to which more conditions can be appended.
    fn source(&mut self, model: &ReadModel, table: &str, query: &Query) -> String {
        let filter = &query.filter;
        let shape = Shape::from(model);
        if !model.shared {
            return format!("{} v WHERE {}", quote(table), self.filter(filter));
        }
        // What names the key alone is the same before and after merging.
        let whole = std::slice::from_ref(filter);
        let parts = match filter {
            Filter::All(parts) => parts,
            _ => whole,
        };
        let (before, after): (Vec<&Filter>, Vec<&Filter>) = parts
            .iter()
            .partition(|part| part.fields().iter().all(|field| field.is_key()));
        let before = self.joined(&before, " AND ", "TRUE");
        let after = self.joined(&after, " AND ", "TRUE");
        let condition = format!(" WHERE {before}");
        let mut merged = visible(self.dialect, shape, table, &condition, Audience::Program);
        // Said where rows are merged too: whoever merges them in this order reads no more than the page.
        if query.order().iter().all(|order| order.field.is_key()) {
            let order = order_by(self.dialect, query.order(), "", Some(Lead::Values));
            _ = write!(merged, " ORDER BY {order}");
        }
        format!("({merged}) v WHERE {after}")
    }

    /// The rows of the page, in order.
    fn rows(&mut self, query: &Query, columns: &str, source: &str) -> String {
        // One row more tells whether others follow.
        let limit = match query.limit {
            0 => 0,
            limit => i64::from(limit) + 1,
        };
        let offset = i64::from(query.offset);
        let branches = self.branches(query);
        let (first, left_out) = (self.bind_number(limit), self.bind_number(offset));
        let window = format!("LIMIT {first} OFFSET {left_out}");
        let dialect = self.dialect;
        let select = |branch: &Branch, window: &str| {
            let order = order_by(dialect, query.order(), "", Some(branch.lead));
            let mut sql = format!("SELECT {columns} FROM {source}");
            if let Some(condition) = &branch.condition {
                _ = write!(sql, " AND {condition}");
            }
            _ = write!(sql, " ORDER BY {order} {window}");
            sql
        };
        if let [branch] = branches.as_slice() {
            return select(branch, &window);
        }
        let each = format!("LIMIT {}", self.bind_number(limit + offset));
        let selects = branches.iter().enumerate();
        let selects: Vec<String> = selects
            .map(|(i, branch)| format!("SELECT * FROM ({}) b{i}", select(branch, &each)))
            .collect();
        format!(
            "SELECT * FROM ({}) u ORDER BY {} {window}",
            selects.join(" UNION ALL "),
            order_by(dialect, query.order(), "", None)
        )
    }

    /// Where the rows of a page are found: one range of the first column of the order, or its values and its nulls.
    fn branches(&mut self, query: &Query) -> Vec<Branch> {
        let Some(lead) = query.order().first() else {
            return Vec::new();
        };
        let name = quote(lead.field.name());
        let known = |lead, condition| Branch {
            condition: Some(condition),
            lead,
        };
        let nulls = || known(Lead::Nulls, format!("{name} IS NULL"));
        let values = || known(Lead::Values, format!("{name} IS NOT NULL"));
        match query.after.as_deref() {
            None if !lead.field.is_nullable() || indexed_with_nulls(lead) => vec![Branch {
                condition: None,
                lead: if lead.field.is_nullable() {
                    Lead::Mixed
                } else {
                    Lead::Values
                },
            }],
            None => vec![values(), nulls()],
            Some([Value::Null, rest @ ..]) => {
                let rest = self.beyond(&query.order()[1..], rest);
                let mut found = vec![known(Lead::Nulls, format!("{name} IS NULL AND {rest}"))];
                if lead.nulls == Nulls::First {
                    found.push(values());
                }
                found
            }
            Some(after) => {
                let range = self.range(query.order(), after);
                let mut found = vec![known(Lead::Values, range)];
                if lead.field.is_nullable() && lead.nulls == Nulls::Last {
                    found.push(nulls());
                }
                found
            }
        }
    }

    /// Rows whose first column of the order is not null, from a place on that is not null there either.
    fn range(&mut self, order: &[Order], after: &[Value]) -> String {
        if uniform(order) {
            return self.row_comparison(order, after);
        }
        let sign = match order[0].direction {
            Direction::Ascending => ">=",
            Direction::Descending => "<=",
        };
        let bound = self.bind_to(&order[0].field, &after[0]);
        let rest = self.beyond(order, after);
        format!(
            "{} {sign} {bound} AND {rest}",
            comparable(self.dialect, &order[0].field)
        )
    }

    /// `(a, b) > ($1, $2)`: one range of an index over both.
    fn row_comparison(&mut self, order: &[Order], after: &[Value]) -> String {
        let sign = strict(order[0].direction);
        let columns: Vec<String> = order
            .iter()
            .map(|order| comparable(self.dialect, &order.field))
            .collect();
        let values: Vec<String> = order
            .iter()
            .zip(after)
            .map(|(order, value)| self.bind_to(&order.field, value))
            .collect();
        format!("({}) {sign} ({})", columns.join(", "), values.join(", "))
    }

    /// Rows beyond a place, whatever is null: beyond it in the first column, or equal there and beyond it in the others.
    fn beyond(&mut self, order: &[Order], after: &[Value]) -> String {
        let ([first, others @ ..], [value, values @ ..]) = (order, after) else {
            return "FALSE".into();
        };
        if !first.field.is_nullable() && uniform(order) {
            return self.row_comparison(order, after);
        }
        let name = quote(first.field.name());
        let (beyond, equal) = match value {
            Value::Null => {
                let beyond = match first.nulls {
                    Nulls::First => format!("{name} IS NOT NULL"),
                    Nulls::Last => "FALSE".into(),
                };
                (beyond, format!("{name} IS NULL"))
            }
            value => {
                let bound = self.bind_to(&first.field, value);
                let name_to_compare = comparable(self.dialect, &first.field);
                let mut beyond = format!("{name_to_compare} {} {bound}", strict(first.direction));
                if first.field.is_nullable() && first.nulls == Nulls::Last {
                    _ = write!(beyond, " OR {name} IS NULL");
                }
                (beyond, format!("{name} = {bound}"))
            }
        };
        let rest = self.beyond(others, values);
        format!("({beyond} OR ({equal} AND {rest}))")
    }
}

fn strict(direction: Direction) -> &'static str {
    match direction {
        Direction::Ascending => ">",
        Direction::Descending => "<",
    }
}

/// Whether a row comparison orders like this: all columns the same way, and no nulls behind the first one.
fn uniform(order: &[Order]) -> bool {
    order.iter().all(|one| one.direction == order[0].direction)
        && order[1..].iter().all(|one| !one.field.is_nullable())
}

/// Whether PostgreSQL's indexes hold the nulls where the order wants them: at the end, or read backwards, at the beginning.
fn indexed_with_nulls(order: &Order) -> bool {
    matches!(
        (order.direction, order.nulls),
        (Direction::Ascending, Nulls::Last) | (Direction::Descending, Nulls::First)
    )
}

/// The columns to order by. `lead` says what is known of the first.
fn order_by(dialect: Dialect, order: &[Order], prefix: &str, lead: Option<Lead>) -> String {
    let mut columns = Vec::with_capacity(order.len());
    for (i, one) in order.iter().enumerate() {
        let lead = lead.filter(|_| i == 0).unwrap_or(Lead::Mixed);
        if lead == Lead::Nulls {
            continue;
        }
        let mut sql = format!("{prefix}{}", comparable(dialect, &one.field));
        sql.push_str(match one.direction {
            Direction::Ascending => " ASC",
            Direction::Descending => " DESC",
        });
        if one.field.is_nullable() && lead == Lead::Mixed {
            sql.push_str(match one.nulls {
                Nulls::First => " NULLS FIRST",
                Nulls::Last => " NULLS LAST",
            });
        }
        columns.push(sql);
    }
    columns.join(", ")
}
