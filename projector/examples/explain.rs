//! Fills every read model that ships with a million rows on a private PostgreSQL, asks what is usually asked of it, and prints
//! the plans that PostgreSQL really executed. Ends with 1 where a question reads a whole table that it should not.
//!
//! Refuses: to measure. How long anything takes here says nothing.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use events::LogIdentity;
use read_models::{
    Access, Column, ColumnType, Comparison, Direction, Filter, Generation, Nulls, Options, Order,
    Query, ReadModel, ReadStore, Value,
};
use test_support::{Postgres, eventually, psql};
use uuid::Uuid;

/// Partitions of the log: a shared row has so many partial rows.
const PARTITIONS: u16 = 8;
/// Rows of each read model, unless the first argument says otherwise.
const ROWS: u32 = 1_000_000;
/// Rows of one account.
const ROWS_AN_OWNER: u32 = 10;
/// A page, as the query API gives it by default.
const PAGE: u32 = 50;
/// Most rows that a page may read: it may have eight partial rows for each.
const READ: u32 = 2_000;
/// How long PostgreSQL may take to write a plan to its log.
const SOON: Duration = Duration::from_secs(10);
/// The account that asks: `md5('owner-77')`.
const OWNER: Uuid = Uuid::from_u128(0xe894_e3a3_67eb_00d7_6420_9f97_34e8_c307);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A question that must not read the whole table.
struct Question {
    asks: &'static str,
    query: Query,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let rows: u32 = match std::env::args().nth(1) {
        Some(rows) => rows.parse()?,
        None => ROWS,
    };
    let server = Postgres::start().await;
    let url = server.fresh_database().await;
    let name = url.rsplit('/').next().unwrap_or_default();
    for setting in [
        "session_preload_libraries = 'auto_explain'",
        "auto_explain.log_min_duration = 0",
        "auto_explain.log_analyze = on",
        "auto_explain.log_timing = off",
    ] {
        psql(&url, &format!("ALTER DATABASE {name} SET {setting}")).await;
    }
    let log = LogIdentity {
        log: Uuid::from_u128(1),
        epoch: Uuid::from_u128(2),
        partitions: PARTITIONS,
    };
    let store = read_models::open(&url, Options::default()).await?;
    let plans = Plans {
        file: server.folder().join("stderr"),
    };
    let mut whole = 0;
    for model in projector::built_in() {
        let generation = store.prepare(&model, log).await?;
        fill(&url, &model, &generation, rows).await;
        for Question { asks, query } in questions(&model)? {
            let plan = plans.of(&*store, &model, &generation, &query).await?;
            let reads_all = plan.iter().any(|line| reads_all(line, &generation.table));
            whole += usize::from(reads_all);
            let verdict = if reads_all {
                "READS THE WHOLE TABLE"
            } else {
                "by index"
            };
            println!("{}: {asks}: {verdict}", model.name);
            for line in plan {
                println!("    {line}");
            }
        }
    }
    println!("{rows} rows each; {whole} questions read a whole table");
    Ok(if whole == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What is usually asked: a row by its key; pages in the order of the key; an owner's own rows; and for each index, a page in
/// its order, from its beginning and from its end.
fn questions(model: &ReadModel) -> Result<Vec<Question>> {
    let list = |filter| Query::new(model, filter, PAGE);
    let mut questions = vec![Question {
        asks: "the first page, by key",
        query: list(Filter::ALL),
    }];
    let key = model.fields().next().ok_or("every read model has a key")?;
    let newest = ordered(
        model,
        list(Filter::ALL),
        &key.column().name,
        Direction::Descending,
    )?;
    questions.push(Question {
        asks: "the last page, by key",
        query: newest,
    });
    if let Access::Owner { column } = &model.access {
        let field = model
            .field(column)
            .ok_or("the owner's column is declared")?;
        questions.push(Question {
            asks: "an account's own rows",
            query: list(Filter::Compare(field, Comparison::Eq, Value::Uuid(OWNER))),
        });
    }
    for index in &model.indexes {
        let first = index.first().ok_or("an index has columns")?;
        for (asks, direction) in [
            ("the first page, by an index", Direction::Ascending),
            ("the last page, by an index", Direction::Descending),
        ] {
            let query = ordered(model, list(Filter::ALL), first, direction)?;
            questions.push(Question { asks, query });
        }
    }
    Ok(questions)
}

fn ordered(model: &ReadModel, query: Query, column: &str, direction: Direction) -> Result<Query> {
    let field = model.field(column).ok_or("the column is declared")?;
    // As the query API orders where nothing is said of nulls.
    let nulls = match direction {
        Direction::Ascending => Nulls::Last,
        Direction::Descending => Nulls::First,
    };
    let order = Order {
        field,
        direction,
        nulls,
    };
    Ok(query.in_order(model, vec![order]))
}

/// Rows whose values differ as real ones do.
async fn fill(url: &str, model: &ReadModel, generation: &Generation, rows: u32) {
    let table = format!("showcaller_read_models.\"{}\"", generation.table);
    let owner = match &model.access {
        Access::Owner { column } => column.as_str(),
        _ => "",
    };
    // Partial rows of one key stand in several partitions.
    let number = if model.shared { "i / 8" } else { "i" };
    let keys = model.key.iter().map(|column| key_value(column, number));
    let others = model.columns.iter().map(|column| {
        if column.name == owner {
            format!("md5('owner-' || i / {ROWS_AN_OWNER})::uuid")
        } else {
            value(column)
        }
    });
    let values: Vec<String> = keys.chain(others).collect();
    let columns = model.key.iter().chain(&model.columns);
    let names: Vec<String> = columns.map(|c| format!("\"{}\"", c.name)).collect();
    let insert = format!(
        "INSERT INTO {table} ({}, _partition, _position, _updated_at) \
         SELECT {}, i % {PARTITIONS}, i, now() FROM generate_series(1, {rows}) i",
        names.join(", "),
        values.join(", ")
    );
    psql(url, &insert).await;
    psql(url, &format!("VACUUM ANALYZE {table}")).await;
}

/// Different for each number, all columns of a key together.
fn key_value(column: &Column, number: &str) -> String {
    match column.column_type {
        // An owner's key is its own id.
        ColumnType::Uuid => format!("md5('owner-' || {number})::uuid"),
        ColumnType::Timestamp => {
            format!("date_trunc('hour', now()) - ({number}) * interval '1 hour'")
        }
        ColumnType::Date => format!("DATE '2026-11-23' - ({number})"),
        ColumnType::Integer => number.to_owned(),
        _ => format!("'text-' || ({number})"),
    }
}

fn value(column: &Column) -> String {
    match column.column_type {
        ColumnType::Text => "'text-' || i % 20".into(),
        ColumnType::Personal => "'enc1.k.s.e.f.' || md5(i::text)".into(),
        ColumnType::Integer | ColumnType::Decimal { .. } => "i % 1000".into(),
        ColumnType::Boolean => "i % 2 = 0".into(),
        ColumnType::Timestamp => "now() - i * interval '30 seconds'".into(),
        ColumnType::Date => "DATE '2026-11-23' - i % 3650".into(),
        ColumnType::Uuid => "md5(i::text)::uuid".into(),
        ColumnType::List => "'{}'::text[]".into(),
    }
}

/// PostgreSQL's log, in which it writes the plans it executed.
struct Plans {
    file: PathBuf,
}

impl Plans {
    async fn of(
        &self,
        store: &dyn ReadStore,
        model: &ReadModel,
        generation: &Generation,
        query: &Query,
    ) -> Result<Vec<String>> {
        let before = fs::metadata(&self.file)?.len() as usize;
        store.list(model, query).await?;
        let shown = || async {
            let log = fs::read(&self.file).unwrap_or_default();
            let log = String::from_utf8_lossy(log.get(before..)?);
            plan(&log, &generation.table)
        };
        Ok(eventually(SOON, shown).await)
    }
}

/// The node reads far more rows of the table than a page has.
fn reads_all(node: &str, table: &str) -> bool {
    let read = node.split("actual rows=").nth(1);
    let read = read.and_then(|rest| rest.split(' ').next()?.parse().ok());
    node.contains("Scan") && node.contains(table) && read.is_some_and(|read: u32| read > READ)
}

/// The nodes of the last plan that names the table, with the conditions of its scans.
fn plan(log: &str, table: &str) -> Option<Vec<String>> {
    let (_, after) = log.rsplit_once("plan:\n")?;
    let lines: Vec<&str> = after
        .lines()
        .take_while(|line| line.starts_with('\t'))
        .collect();
    let shown = lines.iter().filter(|line| {
        [
            "->",
            "rows=",
            "Cond:",
            "Filter:",
            "Sort Key:",
            "Sort Method:",
        ]
        .iter()
        .any(|part| line.contains(part))
    });
    let nodes: Vec<String> = shown
        .map(|line| line.trim_start_matches('\t').to_owned())
        .collect();
    nodes
        .iter()
        .any(|line| line.contains(table))
        .then_some(nodes)
}
