//! What readers see of a table, and the views that show it to people and their tools. It runs nothing itself.

use super::{Dialect, HIDDEN, Layout, Shape, literal, names, quote};
use crate::{Column, ColumnType, Merge};

/// The PostgreSQL schema of views for people and their tools.
const VIEWS: &str = "dashboards";

/// The name of a read model's view.
fn view_name(dialect: Dialect, model: &str) -> String {
    let view = quote(&model.replace('-', "_"));
    match dialect {
        Dialect::Postgres => format!("{VIEWS}.{view}"),
        Dialect::Sqlite => view,
    }
}

/// For whom the rows of a table are put into their visible form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// The query API: every column, in its stored form.
    Program,
    /// SQL: no personal columns, since without the vault they are ciphertext; decimals as numbers.
    People,
}

/// What readers see of a table: partial rows merged. `condition` restricts the stored rows.
pub(crate) fn visible(
    dialect: Dialect,
    shape: Shape<'_>,
    table: &str,
    condition: &str,
    audience: Audience,
) -> String {
    let (key, table) = (names(shape.key.iter()).join(", "), quote(table));
    let keys = shape.key.iter().map(|c| (c, quote(&c.name)));
    let columns = shape
        .columns
        .iter()
        .filter(|c| audience == Audience::Program || c.column_type != ColumnType::Personal)
        .map(|c| {
            (
                c,
                if shape.shared {
                    merged(dialect, c)
                } else {
                    quote(&c.name)
                },
            )
        });
    let mut selected: Vec<String> = keys
        .chain(columns)
        .map(
            |(column, sql)| match (dialect, audience, column.column_type) {
                (Dialect::Sqlite, Audience::People, ColumnType::Decimal { scale }) => {
                    let name = quote(&column.name);
                    format!("{sql} / {}.0 AS {name}", 10_u64.pow(scale.into()))
                }
                _ if shape.shared => format!("{sql} AS {}", quote(&column.name)),
                _ => sql,
            },
        )
        .collect();
    selected.extend(HIDDEN[1..].iter().map(|name| {
        if shape.shared {
            format!("MAX({name}) AS {name}")
        } else {
            (*name).to_owned()
        }
    }));
    let mut sql = format!("SELECT {} FROM {table}{condition}", selected.join(", "));
    if shape.shared {
        sql.push_str(" GROUP BY ");
        sql.push_str(&key);
    }
    sql
}

/// The value that partial rows make together.
fn merged(dialect: Dialect, column: &Column) -> String {
    let name = quote(&column.name);
    let function = match (column.merge(), dialect, column.column_type) {
        (Merge::Sum, Dialect::Postgres, ColumnType::Decimal { .. }) => "SUM",
        (Merge::Sum, ..) => return format!("CAST(SUM({name}) AS bigint)"),
        // PostgreSQL has no order of booleans to aggregate by: false comes before true.
        (Merge::Min, Dialect::Postgres, ColumnType::Boolean) => "bool_and",
        (Merge::Max, Dialect::Postgres, ColumnType::Boolean) => "bool_or",
        (Merge::Min, ..) => "MIN",
        (Merge::Max, ..) => "MAX",
    };
    match (dialect, column.column_type) {
        // Nor of UUIDs, before version 18; their texts have the same order.
        (Dialect::Postgres, ColumnType::Uuid) => {
            format!("CAST({function}(CAST({name} AS text) COLLATE \"C\") AS uuid)")
        }
        _ => format!("{function}({name})"),
    }
}

/// The statements that make the view of a read model show this table: first drop, then create.
pub(crate) fn create_view(
    dialect: Dialect,
    model: &str,
    layout: &Layout,
    table: &str,
) -> [String; 2] {
    let view = view_name(dialect, model);
    let replace = if dialect == Dialect::Postgres {
        "OR REPLACE "
    } else {
        ""
    };
    [
        format!("DROP VIEW IF EXISTS {view}"),
        format!(
            "CREATE {replace}VIEW {view} AS {}",
            visible(dialect, layout.shape(), table, "", Audience::People)
        ),
    ]
}

/// The comment of a view, PostgreSQL only.
pub(crate) fn view_comment(model: &str) -> String {
    let text =
        format!("The read model {model}, as the query API shows it, without personal columns.");
    format!(
        "COMMENT ON VIEW {} IS {}",
        view_name(Dialect::Postgres, model),
        literal(&text)
    )
}
