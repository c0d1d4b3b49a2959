//! The numbers: one line for each thing measured, a value a round, medians, and ratios within the same round.
//!
//! Refuses: to compare across rounds. A ratio's median is the median of the rounds' ratios.

use std::fmt;

/// What is measured, in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Pgbench1,
    Pgbench64,
    Pgbench256,
    Copy,
    PostgresFirst,
    Postgres1,
    Postgres64,
    Postgres256,
    SqliteFirst,
    Sqlite1,
    Sqlite64,
    Sqlite256,
    EsdbFirst,
    Esdb1,
    Esdb64,
    Esdb256,
    EsdbOneByOne,
    EsdbPipelined,
    EsdbBare,
    Http64,
    LogIn,
    TwoHashes,
    Projection,
    ProjectionLag,
    RabbitMqLag,
    Rebuild,
    FoldAndCopy,
    Constant,
    CachedRow,
    Row,
    CachedList,
    List,
    ListenersMemory,
    ListenersDelay,
}

/// What a line says beside its numbers.
struct About {
    what: &'static str,
    unit: &'static str,
    /// What it is compared with, in the same round.
    beside: Option<Key>,
    bar: Option<Bar>,
    /// What design.md aims at.
    aim: Option<Bar>,
}

/// A bound: of the ratio where there is one to compare with, else of the value.
#[derive(Clone, Copy)]
enum Bar {
    AtLeast(f64),
    AtMost(f64),
}

impl Bar {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

impl Key {
    #[expect(clippy::too_many_lines, reason = "an entry for each line of the table")]
    fn about(self) -> About {
        let about = |what, unit| About {
            what,
            unit,
            beside: None,
            bar: None,
            aim: None,
        };
        let against = |what, unit, beside, bar: Option<f64>, aim: f64| About {
            what,
            unit,
            beside: Some(beside),
            bar: bar.map(Bar::AtLeast),
            aim: Some(Bar::AtLeast(aim)),
        };
        let at_least = |what, unit, bar, aim| About {
            bar: Some(Bar::AtLeast(bar)),
            aim: Some(Bar::AtLeast(aim)),
            ..about(what, unit)
        };
        let compared = |what, unit, other| About {
            beside: Some(other),
            ..about(what, unit)
        };
        let beside = |what, other| compared(what, "requests/s", other);
        match self {
            Self::Pgbench1 => about("pgbench insert, 1 client", "rows/s"),
            Self::Pgbench64 => about("pgbench insert, 64 clients", "rows/s"),
            Self::Pgbench256 => about("pgbench insert, 256 clients", "rows/s"),
            Self::Copy => about("binary COPY into a log's table", "rows/s"),
            Self::PostgresFirst => about(
                "commands, PostgreSQL, 64 tasks, accounts not cached",
                "commands/s",
            ),
            Self::Postgres1 => against(
                "commands, PostgreSQL, 1 task",
                "commands/s",
                Self::Pgbench1,
                None,
                1.0,
            ),
            Self::Postgres64 => against(
                "commands, PostgreSQL, 64 tasks",
                "commands/s",
                Self::Pgbench64,
                Some(1.2),
                3.0,
            ),
            Self::Postgres256 => About {
                beside: Some(Self::Pgbench256),
                ..about("commands, PostgreSQL, 256 tasks", "commands/s")
            },
            Self::SqliteFirst => about(
                "commands, SQLite, 64 tasks, accounts not cached",
                "commands/s",
            ),
            Self::Sqlite1 => about("commands, SQLite, 1 task", "commands/s"),
            // The aim is 20 times evento's 1,582/s, measured once on this kind of machine.
            Self::Sqlite64 => at_least(
                "commands, SQLite, 64 tasks",
                "commands/s",
                10_000.0,
                31_640.0,
            ),
            Self::Sqlite256 => about("commands, SQLite, 256 tasks", "commands/s"),
            Self::EsdbFirst => compared(
                "commands, esdb, 64 tasks, accounts not cached",
                "commands/s",
                Self::PostgresFirst,
            ),
            Self::Esdb1 => compared("commands, esdb, 1 task", "commands/s", Self::Postgres1),
            Self::Esdb64 => compared("commands, esdb, 64 tasks", "commands/s", Self::Postgres64),
            Self::Esdb256 => compared("commands, esdb, 256 tasks", "commands/s", Self::Postgres256),
            Self::EsdbOneByOne => about("appends, esdb, each awaited before the next", "appends/s"),
            Self::EsdbPipelined => compared(
                "appends, esdb, 512 on their way",
                "appends/s",
                Self::EsdbOneByOne,
            ),
            Self::EsdbBare => compared(
                "events by the client alone, esdb, 512 on their way",
                "events/s",
                Self::EsdbPipelined,
            ),
            Self::Http64 => against(
                "commands over HTTP, 64 connections",
                "commands/s",
                Self::Pgbench64,
                Some(0.4),
                1.2,
            ),
            Self::LogIn => About {
                beside: Some(Self::TwoHashes),
                ..about("log-ins over HTTP, 2 clients", "log-ins/s")
            },
            Self::TwoHashes => about("two Argon2id hashes, 2 tasks", "pairs/s"),
            Self::Projection => at_least(
                "projection through RabbitMQ",
                "events/s",
                10_000.0,
                30_000.0,
            ),
            Self::ProjectionLag => About {
                beside: Some(Self::RabbitMqLag),
                aim: Some(Bar::AtMost(4.0)),
                ..about("write to read at 2,000 events/s, p99", "ms")
            },
            Self::RabbitMqLag => about("RabbitMQ alone at 2,000 messages/s, p99", "ms"),
            Self::Rebuild => About {
                bar: Some(Bar::AtLeast(100_000.0)),
                ..about("rebuild of accounts", "events/s")
            },
            Self::FoldAndCopy => about("fold all in memory, then COPY", "events/s"),
            Self::Constant => about("a constant route, 64 connections", "requests/s"),
            Self::CachedRow => against(
                "a row over HTTP, from the cache",
                "requests/s",
                Self::Constant,
                None,
                0.8,
            ),
            Self::Row => beside("a row over HTTP, cache off", Self::Constant),
            Self::CachedList => beside("a list of 20 rows, from the cache", Self::Constant),
            Self::List => beside("a list of 20 rows, cache off", Self::Constant),
            Self::ListenersMemory => About {
                bar: Some(Bar::AtMost(200.0)),
                ..about("query API with 1,000 idle listeners", "MB")
            },
            Self::ListenersDelay => About {
                bar: Some(Bar::AtMost(500.0)),
                ..about("one write to each of 1,000 listeners, p99", "ms")
            },
        }
    }
}

/// One value of one round.
#[expect(clippy::struct_field_names, reason = "a figure has a value and a unit")]
#[derive(Debug, Clone, Copy)]
pub struct Value {
    pub value: f64,
    /// The 99th percentile of the single operations, in milliseconds.
    pub p99_ms: Option<f64>,
    /// CPU time of an operation, servers included, in microseconds.
    pub cpu_us: Option<f64>,
    /// How many cores that was at a time: what others left.
    pub cores: Option<f64>,
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self {
            value,
            p99_ms: None,
            cpu_us: None,
            cores: None,
        }
    }
}

/// All values so far.
#[derive(Default)]
pub struct Table(Vec<(Key, Vec<Value>)>);

impl Table {
    /// Nothing was noted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes this round's value.
    pub fn note(&mut self, key: Key, value: impl Into<Value>) {
        let (About { what, unit, .. }, value) = (key.about(), value.into());
        eprint!("    {what}: {} {unit}", number(value.value));
        if let Some(p99) = value.p99_ms {
            eprint!(", p99 {p99:.1} ms");
        }
        if let (Some(cpu), Some(cores)) = (value.cpu_us, value.cores) {
            eprint!(", {cpu:.1} µs CPU each, {cores:.1} cores");
        }
        eprintln!();
        match self.0.iter_mut().find(|(other, _)| *other == key) {
            Some((_, values)) => values.push(value),
            None => {
                self.0.push((key, vec![value]));
                self.0.sort_by_key(|(key, _)| *key);
            }
        }
    }

    fn values(&self, key: Key) -> Option<Vec<f64>> {
        let (_, values) = self.0.iter().find(|(other, _)| *other == key)?;
        Some(values.iter().map(|value| value.value).collect())
    }

    /// The rounds' ratios of one thing to another.
    fn ratios(&self, key: Key, beside: Key) -> Option<Vec<f64>> {
        let (values, others) = (self.values(key)?, self.values(beside)?);
        Some(
            values
                .into_iter()
                .zip(others)
                .map(|(value, other)| value / other)
                .collect(),
        )
    }

    /// What a line's bars are held against, and how that reads: a ratio, where there is something to compare with.
    fn judge(&self, key: Key) -> (Option<f64>, String) {
        let about = key.about();
        let Some(beside) = about.beside else {
            return (self.values(key).map(median), String::new());
        };
        match self.ratios(key, beside) {
            Some(ratios) => {
                let ratio = median(ratios);
                (Some(ratio), format!("{ratio:.2} × {}", beside.about().what))
            }
            None => (None, String::new()),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = self
            .0
            .iter()
            .map(|(_, values)| values.len())
            .max()
            .unwrap_or(0);
        let titles = [
            "what", "unit", "rounds", "median", "p99 ms", "CPU µs", "cores", "beside", "bar", "aim",
        ];
        let mut lines = vec![titles.map(str::to_owned).to_vec()];
        for (key, values) in &self.0 {
            let about = key.about();
            let (judged, ratio) = self.judge(*key);
            let verdict = |bar: Option<Bar>| match (bar, judged) {
                (Some(bar), Some(judged)) => {
                    format!(
                        "{} {}",
                        bound(bar, about.beside.is_some()),
                        if bar.holds(judged) { "ok" } else { "SHORT" }
                    )
                }
                _ => String::new(),
            };
            let middle = |part: fn(&Value) -> Option<f64>| {
                let known: Vec<f64> = values.iter().filter_map(part).collect();
                match known.is_empty() {
                    true => String::new(),
                    false => format!("{:.1}", median(known)),
                }
            };
            let each: Vec<_> = values.iter().map(|value| number(value.value)).collect();
            lines.push(vec![
                about.what.to_owned(),
                about.unit.to_owned(),
                each.join(" "),
                number(median(values.iter().map(|value| value.value).collect())),
                middle(|value| value.p99_ms),
                middle(|value| value.cpu_us),
                middle(|value| value.cores),
                ratio,
                verdict(about.bar),
                verdict(about.aim),
            ]);
        }
        let width = |column: usize| {
            lines
                .iter()
                .map(|line| line[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<_> = (0..lines[0].len()).map(width).collect();
        writeln!(
            f,
            "{rounds} rounds; a ratio is the median of the ratios within each round"
        )?;
        for line in lines {
            let cells: Vec<_> = line
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}

fn bound(bar: Bar, ratio: bool) -> String {
    let shown = |bound: f64| {
        if ratio {
            format!("{bound:.1} ×")
        } else {
            number(bound)
        }
    };
    match bar {
        Bar::AtLeast(bound) => format!("≥ {}", shown(bound)),
        Bar::AtMost(bound) => format!("≤ {}", shown(bound)),
    }
}

/// Large numbers whole and in groups of three, small ones with two decimals.
fn number(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The middle value; of an even number, the mean of the middle two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n.is_multiple_of(2) => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

/// The 99th percentile of durations in microseconds, in milliseconds.
pub fn p99_ms(mut micros: Vec<u32>) -> Option<f64> {
    if micros.is_empty() {
        return None;
    }
    let index = (micros.len() * 99 / 100).min(micros.len() - 1);
    let (_, value, _) = micros.select_nth_unstable(index);
    Some(f64::from(*value) / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_taken_within_each_round() {
        let mut table = Table::default();
        for (command, reference) in [(20.0, 10.0), (90.0, 30.0), (100.0, 100.0)] {
            table.note(Key::Postgres64, command);
            table.note(Key::Pgbench64, reference);
        }
        assert_eq!(table.judge(Key::Postgres64).0, Some(2.0));
        assert!(table.to_string().contains("≥ 1.2 × ok"));
        assert!(table.to_string().contains("≥ 3.0 × SHORT"));
    }

    #[test]
    fn medians_and_percentiles_are_of_the_sorted_values() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0]) - 2.5).abs() < f64::EPSILON);
        assert_eq!(
            p99_ms((1..=1_000).rev().map(|n| n * 1_000).collect()),
            Some(991.0)
        );
        assert_eq!(p99_ms(vec![]), None);
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(number(1_234_567.4), "1,234,567");
        assert_eq!(number(999.6), "1,000");
        assert_eq!(number(3.456), "3.46");
    }
}
