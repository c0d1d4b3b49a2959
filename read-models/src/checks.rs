//! What both adapters check before they write or ask, so that they refuse the same things.

use events::LogIdentity;

use crate::{Column, CommitError, Error, ReadModel, RowKey, RowWrites, Search, Value};

/// The most text of an error kept with a parked stream, in bytes.
const PARKED_ERROR_BYTES: usize = 2_000;
/// The most partitions that `_partition smallint` holds.
const PARTITIONS: u16 = 32_767;

/// The rows have the definition's columns, and every database can store them.
pub(crate) fn writes(model: &ReadModel, writes: &RowWrites) -> Result<(), CommitError> {
    let keys = writes
        .upserts
        .iter()
        .map(|(key, _)| key)
        .chain(&writes.deletes);
    for key in keys {
        whole(&model.key, key)?;
    }
    for (_, row) in &writes.upserts {
        whole(&model.columns, &row.values)?;
    }
    Ok(())
}

fn whole(columns: &[Column], values: &[Value]) -> Result<(), CommitError> {
    if columns.len() != values.len() {
        return Err(CommitError::Refused(format!(
            "{} values for {} columns",
            values.len(),
            columns.len()
        )));
    }
    columns
        .iter()
        .zip(values)
        .try_for_each(|(column, value)| column.check_storable(value))
        .map_err(CommitError::Refused)
}

/// Every row was written.
pub(crate) fn all_written(written: u64, expected: usize) -> Result<(), CommitError> {
    if written == expected as u64 {
        Ok(())
    } else {
        Err(foreign_rows())
    }
}

/// Rows were not written, since they stand in the table for another partition.
pub(crate) fn foreign_rows() -> CommitError {
    CommitError::Refused(
        "it makes rows that belong to another partition; make the stream's id part of the key, or let partitions share rows (.summed())"
            .into(),
    )
}

/// A key that a caller asks for fits the definition.
pub(crate) fn key(model: &ReadModel, key: &RowKey) -> Result<(), Error> {
    let fits =
        key.len() == model.key.len()
            && model.key.iter().zip(key).all(|(column, value)| {
                *value != Value::Null && column.check_storable(value).is_ok()
            });
    if fits {
        Ok(())
    } else {
        Err(Error::Invalid(format!(
            "the key does not fit the read model {}",
            model.name
        )))
    }
}

/// What rows are looked for by fits the definition.
pub(crate) fn search<'m>(model: &'m ReadModel, search: &Search) -> Result<&'m Column, Error> {
    let mut columns = model.key.iter().chain(&model.columns);
    let column = columns.find(|column| column.name == search.column);
    let fits = |column: &&Column| column.check_storable(&search.value).is_ok();
    column
        .filter(fits)
        .filter(|_| search.value != Value::Null)
        .ok_or_else(|| {
            Error::Invalid(format!(
                "rows of the read model {} cannot be looked for by the column {:?}",
                model.name, search.column
            ))
        })
}

/// The definition and the log can be used.
pub(crate) fn definition(model: &ReadModel, log: LogIdentity) -> Result<(), Error> {
    model
        .validate()
        .map_err(|e| Error::Invalid(e.to_string()))?;
    if (1..=PARTITIONS).contains(&log.partitions) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "a log has 1 to {PARTITIONS} partitions, this one {}",
        log.partitions
    )))
}

/// A parked stream's error, as every database can store it.
pub(crate) fn parked_error(text: &str) -> String {
    let mut end = text.len().min(PARKED_ERROR_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace('\0', "\u{fffd}")
}
