//! Cursors: where a page ended, signed, and good for the same question of the same reach alone. It refuses to be opened with
//! another, and to grow longer than a URL bears.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use read_models::{ColumnType, Order, Query, ReadModel, Value};
use vault::Keys;
use web::{FieldError, Problem};

use crate::grammar::CURSOR;
use crate::values;

/// The form's number, and what tells these bytes from any others signed with the same key.
const LABEL: &[u8] = b"query cursor 1";
/// Bytes of the authenticator.
const TAG_BYTES: usize = 16;
/// The longest cursor, in characters.
const SEALED_CHARS: usize = 4 * 1024;

/// A cursor for the rows after these values of the order; nothing if it would be too long.
pub(crate) fn seal(
    model: &ReadModel,
    query: &Query,
    place: &[Value],
    keys: &Keys,
) -> Option<String> {
    let place: Vec<Option<String>> = place.iter().map(values::text).collect();
    let mut bytes = serde_json::to_vec(&place).ok()?;
    let tag = keys.token_mac(&signed(model, query, &bytes));
    bytes.extend_from_slice(&tag[..TAG_BYTES]);
    let sealed = URL_SAFE_NO_PAD.encode(bytes);
    (sealed.len() <= SEALED_CHARS).then_some(sealed)
}

/// The values that a cursor of this question holds; 400 for any other.
pub(crate) fn open(
    model: &ReadModel,
    query: &Query,
    sealed: &str,
    keys: &Keys,
) -> Result<Vec<Value>, Problem> {
    read(model, query, sealed, keys).ok_or_else(|| {
        let detail = "The cursor is not of this question: follow rel=\"next\" with its filters, order and caller unchanged, or \
                      begin without a cursor.";
        Problem::malformed(detail).with_errors(vec![FieldError {
            pointer: CURSOR.into(),
            code: "foreign_cursor",
            detail: detail.into(),
        }])
    })
}

fn read(model: &ReadModel, query: &Query, sealed: &str, keys: &Keys) -> Option<Vec<Value>> {
    if sealed.len() > SEALED_CHARS {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
    let (body, tag) = bytes.split_last_chunk::<TAG_BYTES>()?;
    let expected = keys.token_mac(&signed(model, query, body));
    // In constant time: a tag must not be guessed byte by byte.
    aws_lc_rs::constant_time::verify_slices_are_equal(&expected[..TAG_BYTES], tag).ok()?;
    let place: Vec<Option<String>> = serde_json::from_slice(body).ok()?;
    let order = query.order();
    if place.len() != order.len() {
        return None;
    }
    let value = |(text, order): (&Option<String>, &Order)| match text {
        None => Some(Value::Null),
        Some(text) => values::parse(text, order.field.column()),
    };
    place.iter().zip(order).map(value).collect()
}

/// What is signed: the place, and what the question is apart from its window and its columns. The filter holds what the row
/// rule gives the caller.
fn signed(model: &ReadModel, query: &Query, body: &[u8]) -> Vec<u8> {
    let types: Vec<ColumnType> = model.fields().map(|field| field.column_type()).collect();
    let question = format!("{:?}", (&model.name, types, &query.filter, query.order()));
    let question = digest::digest(&digest::SHA256, question.as_bytes());
    [LABEL, question.as_ref(), body].concat()
}
