//! What a live answer is of, and which of its rows its caller may hear of. It refuses to tell a key that the caller could not have
//! seen.

use std::sync::Arc;

use read_models::{Field, Filter, ReadModel, RowKey, Value};
use uuid::Uuid;
use web::Caller;

use crate::access::Reach;
use crate::grammar::Output;
use crate::state::Hosted;

/// What a stream is of.
pub(crate) struct Subject {
    pub(crate) hosted: Arc<Hosted>,
    /// Which rows; what the caller may reach is part of it.
    pub(crate) filter: Filter,
    pub(crate) outputs: Vec<Output>,
    pub(crate) caller: Caller,
    /// The owner's column and the caller, where the caller sees its own rows alone.
    owner: Option<(Field, Uuid)>,
}

impl Subject {
    /// The rows of `filter` that the caller may reach.
    pub(crate) fn new(
        hosted: &Arc<Hosted>,
        reach: &Reach<'_>,
        filter: Filter,
        outputs: Vec<Output>,
        caller: Caller,
    ) -> Self {
        let model = &hosted.model;
        let owner = match reach {
            Reach::Every => None,
            Reach::Own { column, account } => model.field(column).map(|field| (field, *account)),
        };
        Self {
            filter: reach.condition(model).and(filter),
            hosted: Arc::clone(hosted),
            outputs,
            caller,
            owner,
        }
    }

    pub(crate) fn model(&self) -> &ReadModel {
        &self.hosted.model
    }

    /// Whether a row that is not shown may be told of by its key: it is, or was when it was removed, within reach, and with
    /// this key it could have been shown.
    pub(crate) fn may_tell(
        &self,
        key: &RowKey,
        row: Option<&Vec<Value>>,
        former_owners: &[Uuid],
    ) -> bool {
        let within = match &self.owner {
            Some((field, account)) if !field.is_key() => {
                former_owners.contains(account)
                    || row.is_some_and(|row| row[field.index()] == Value::Uuid(*account))
            }
            _ => true,
        };
        within && self.filter.may_match(key)
    }
}
