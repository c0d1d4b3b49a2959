//! What readers may ask of a read model: which columns, which rows, in which order, from where on. It refuses to know how
//! a client spells it, and who may ask what: whoever builds a query judges that.

use std::cmp::Ordering;

use crate::{Column, ColumnType, Error, Place, ReadModel, RowKey, Value};

mod filter;
mod pattern;

pub use filter::{Comparison, Filter, Is};
pub use pattern::{Pattern, PatternError};

/// The hidden columns that end every row.
const HIDDEN: [(&str, ColumnType); 2] = [
    ("_position", ColumnType::Integer),
    ("_updated_at", ColumnType::Timestamp),
];

/// A column of a read model as readers see it; made by [`ReadModel::field`] alone, so that its name is a checked one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Field {
    column: Column,
    index: usize,
    nullable: bool,
    key: bool,
}

impl Field {
    /// Its definition: name, type, and who may read it.
    pub fn column(&self) -> &Column {
        &self.column
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.column.name
    }

    /// The type of its values.
    pub fn column_type(&self) -> ColumnType {
        self.column.column_type
    }

    /// Its place in a row as readers see it: the key, the other columns, `_position`, `_updated_at`.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Whether a row may hold null here.
    pub fn is_nullable(&self) -> bool {
        self.nullable
    }

    /// Whether it is part of the key.
    pub fn is_key(&self) -> bool {
        self.key
    }
}

impl ReadModel {
    /// The columns as readers see them: the key, the others, `_position` and `_updated_at`.
    pub fn fields(&self) -> impl Iterator<Item = Field> {
        let declared = self.key.iter().chain(&self.columns).cloned();
        let hidden = HIDDEN.map(|(name, column_type)| Column::new(name, column_type));
        let keys = self.key.len();
        let position = keys + self.columns.len();
        declared
            .chain(hidden)
            .enumerate()
            .map(move |(index, column)| Field {
                column,
                index,
                key: index < keys,
                nullable: index >= keys && index != position,
            })
    }

    /// The column of this name, as readers see it.
    pub fn field(&self, name: &str) -> Option<Field> {
        self.fields().find(|field| field.name() == name)
    }

    /// The condition that a row has this key.
    pub fn with_key(&self, key: &RowKey) -> Filter {
        let equal = self
            .fields()
            .zip(key)
            .map(|(field, value)| Filter::Compare(field, Comparison::Eq, value.clone()));
        Filter::All(equal.collect())
    }
}

/// Which way a column is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Smallest first.
    Ascending,
    /// Greatest first.
    Descending,
}

/// Where rows stand that have no value to be ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Nulls {
    /// Before all others.
    First,
    /// After all others.
    Last,
}

/// One column of an order. Text is ordered byte by byte.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Order {
    /// The column.
    pub field: Field,
    /// Which way.
    pub direction: Direction,
    /// Where nulls stand.
    pub nulls: Nulls,
}

impl Order {
    /// A column, the smallest value first, nulls last.
    pub fn ascending(field: Field) -> Self {
        Self {
            field,
            direction: Direction::Ascending,
            nulls: Nulls::Last,
        }
    }

    fn compare(&self, a: &Value, b: &Value) -> Ordering {
        let null_first = match self.nulls {
            Nulls::First => Ordering::Less,
            Nulls::Last => Ordering::Greater,
        };
        match (a, b) {
            (Value::Null, Value::Null) => Ordering::Equal,
            (Value::Null, _) => null_first,
            (_, Value::Null) => null_first.reverse(),
            _ => match self.direction {
                Direction::Ascending => a.cmp(b),
                Direction::Descending => b.cmp(a),
            },
        }
    }
}

/// A question to a read model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Query {
    /// The columns of the answer, in this order; a column may come twice.
    pub select: Vec<Field>,
    /// Which rows.
    pub filter: Filter,
    /// In which order. Always total: [`Query::in_order`] appends the key.
    order: Vec<Order>,
    /// Only rows that come after one with these values of the order's columns.
    pub after: Option<Vec<Value>>,
    /// At most this many rows.
    pub limit: u32,
    /// Rows to leave out first.
    pub offset: u32,
    /// Whether the rows that pass the filter are to be counted, in the snapshot of the page.
    pub count: bool,
}

impl Query {
    /// All columns of the rows that pass the filter, in the order of the key.
    pub fn new(model: &ReadModel, filter: Filter, limit: u32) -> Self {
        let query = Self {
            select: model.fields().collect(),
            filter,
            order: Vec::new(),
            after: None,
            limit,
            offset: 0,
            count: false,
        };
        query.in_order(model, Vec::new())
    }

    /// Orders by these columns, then by those of the key that are not among them: no two rows are equal in it. The key's
    /// go the way of the last one named, so that one index serves both ways.
    #[must_use]
    pub fn in_order(mut self, model: &ReadModel, order: Vec<Order>) -> Self {
        let mut total: Vec<Order> = Vec::with_capacity(order.len() + model.key.len());
        // What comes again decides nothing any more.
        for one in order {
            if !total.iter().any(|before| before.field == one.field) {
                total.push(one);
            }
        }
        let direction = total
            .last()
            .map_or(Direction::Ascending, |last| last.direction);
        for field in model.fields().filter(Field::is_key) {
            if !total.iter().any(|before| before.field == field) {
                let key = Order::ascending(field);
                total.push(Order { direction, ..key });
            }
        }
        self.order = total;
        self
    }

    /// The order, with the key at its end.
    pub fn order(&self) -> &[Order] {
        &self.order
    }

    /// How two whole rows stand in this order, as the databases would put them.
    pub fn compare(&self, a: &[Value], b: &[Value]) -> Ordering {
        let value = |row: &'_ [Value], order: &Order| row.get(order.field.index).cloned();
        self.order
            .iter()
            .map(|order| {
                let (a, b) = (value(a, order), value(b, order));
                order.compare(&a.unwrap_or(Value::Null), &b.unwrap_or(Value::Null))
            })
            .find(|ordering| ordering.is_ne())
            .unwrap_or(Ordering::Equal)
    }

    /// Says whether every database can answer it for this read model.
    pub(crate) fn check(&self, model: &ReadModel) -> Result<(), Error> {
        let fields: Vec<Field> = model.fields().collect();
        let known = |field: &Field| match fields.get(field.index) {
            Some(found) if found == field => Ok(()),
            _ => Err(Error::Invalid(format!(
                "the read model {} has no such column {:?}",
                model.name,
                field.name()
            ))),
        };
        self.select.iter().try_for_each(known)?;
        for order in &self.order {
            known(&order.field)?;
            if !order.field.column_type().is_ordered() {
                return Err(Error::Invalid(format!(
                    "the column {:?} cannot be ordered",
                    order.field.name()
                )));
            }
        }
        let keys = self.order.iter().filter(|order| order.field.key).count();
        if keys != model.key.len() {
            return Err(Error::Invalid("the order is not total".into()));
        }
        self.filter.check(&known).and_then(|()| self.check_after())
    }

    fn check_after(&self) -> Result<(), Error> {
        let Some(after) = &self.after else {
            return Ok(());
        };
        let fits = |(order, value): (&Order, &Value)| {
            (*value != Value::Null || order.field.nullable)
                && order.field.column.check_storable(value).is_ok()
        };
        if after.len() == self.order.len() && self.order.iter().zip(after).all(fits) {
            return Ok(());
        }
        Err(Error::Invalid(
            "the place to go on from does not fit the order".into(),
        ))
    }
}

/// Rows of the live table, and what they were read from: all of one snapshot.
#[derive(Debug, Clone)]
pub struct Page {
    /// The selected columns' values of each row.
    pub rows: Vec<Vec<Value>>,
    /// If more rows follow: what [`Query::after`] takes to get them.
    pub next: Option<Vec<Value>>,
    /// How many rows pass the filter, if that was asked, whatever `after`, `limit` and `offset` say.
    pub total: Option<u64>,
    /// The place that it was read at.
    pub place: Place,
}
