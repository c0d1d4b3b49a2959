//! Rows that may have changed, and what they are now. It refuses to judge who may see them.

use std::collections::HashMap;

use read_models::{
    Comparison, Error, Field, Filter, Place, Query, ReadModel, ReadStore, RowKey, Value,
};
use uuid::Uuid;

/// Keys asked for in one statement, greatest first: few sizes, so that few statements are prepared.
const SIZES: [usize; 5] = [256, 64, 16, 4, 1];

/// What changed from one place to another.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Where it begins.
    pub(crate) since: Place,
    /// Where it leads.
    pub(crate) place: Place,
    /// The keys, with the accounts that removed rows belonged to.
    pub(crate) changed: Vec<(RowKey, Vec<Uuid>)>,
    /// The rows as they are now, if they could be read.
    pub(crate) read: Option<Rows>,
}

/// Whole rows, ciphertext as it is stored, by their keys; a key without a row is not there.
#[derive(Debug)]
pub(crate) struct Rows {
    /// A place that they are at or past.
    pub(crate) place: Option<Place>,
    pub(crate) found: HashMap<RowKey, Vec<Value>>,
}

/// Reads whole rows by their keys. They are of one snapshot if they are few, and of several of one table otherwise.
pub(crate) async fn read<'k>(
    store: &dyn ReadStore,
    model: &ReadModel,
    keys: impl Iterator<Item = &'k RowKey> + Send,
) -> Result<Rows, Error> {
    let keys: Vec<&RowKey> = keys.collect();
    let mut rows = Rows {
        place: None,
        found: HashMap::with_capacity(keys.len()),
    };
    for chunk in keys.chunks(SIZES[0]) {
        let query = Query::new(model, with_keys(model, chunk), chunk.len() as u32);
        let page = store.list(model, &query).await?;
        let place = rows.place.get_or_insert_with(|| page.place.clone());
        if !page.place.is_of(place) {
            return Err(Error::Unavailable("the live table was switched".into()));
        }
        for row in page.rows {
            rows.found.insert(row[..model.key.len()].to_vec(), row);
        }
    }
    Ok(rows)
}

/// The condition that a row has one of these keys. The last is repeated, so that there are few statements.
fn with_keys(model: &ReadModel, keys: &[&RowKey]) -> Filter {
    let size = SIZES.into_iter().rev().find(|size| *size >= keys.len());
    let last = keys.last().into_iter().cycle();
    let keys = keys.iter().chain(last).take(size.unwrap_or(keys.len()));
    let fields: Vec<Field> = model.fields().filter(Field::is_key).collect();
    if let [field] = fields.as_slice() {
        let values = keys.filter_map(|key| key.first().cloned()).collect();
        return Filter::In(field.clone(), values);
    }
    let one = |key: &&RowKey| {
        let equal = fields
            .iter()
            .zip(key.iter())
            .map(|(field, value)| Filter::Compare(field.clone(), Comparison::Eq, value.clone()));
        Filter::All(equal.collect())
    };
    Filter::Any(keys.map(one).collect())
}
