//! What the query routes share. It refuses to hold anything of a row.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::FromRef;
use chrono::{DateTime, Utc};
use read_models::{ReadModel, ReadStore};
use vault::{Keys, Vault};
use web::{Caller, Problem, Tokens};

use crate::waiting::Watcher;

/// What the query routes share. Clones are the same.
#[derive(Clone)]
pub struct QueryState(Arc<Inner>);

struct Inner {
    store: Arc<dyn ReadStore>,
    hosted: BTreeMap<String, Hosted>,
    vault: Vault,
    tokens: Arc<Tokens>,
    keys: Arc<Keys>,
}

/// A read model with what serving it needs.
pub(crate) struct Hosted {
    pub(crate) model: ReadModel,
    /// Tells how far its live table has come.
    pub(crate) watcher: Watcher,
}

impl QueryState {
    /// Serves these read models from a store (opened read-only), opening personal values through the vault.
    pub fn new(
        store: Arc<dyn ReadStore>,
        models: Vec<ReadModel>,
        vault: Vault,
        tokens: Arc<Tokens>,
        keys: Arc<Keys>,
    ) -> Self {
        let hosted = models
            .into_iter()
            .map(|model| {
                let watcher = Watcher::new(Arc::clone(&store), model.name.clone());
                (model.name.clone(), Hosted { model, watcher })
            })
            .collect();
        Self(Arc::new(Inner {
            store,
            hosted,
            vault,
            tokens,
            keys,
        }))
    }

    /// What is served here, in the order of names.
    pub(crate) fn models(&self) -> impl Iterator<Item = &ReadModel> {
        self.0.hosted.values().map(|hosted| &hosted.model)
    }

    pub(crate) fn store(&self) -> &dyn ReadStore {
        &*self.0.store
    }

    /// The keys that sign cursors.
    pub(crate) fn keys(&self) -> &Keys {
        &self.0.keys
    }

    pub(crate) fn vault(&self) -> &Vault {
        &self.0.vault
    }

    /// What time it is for this request: the time by which its token was judged.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.0.tokens.now()
    }

    /// The read model of this name. Who asks is known already, so the names there are may be told.
    pub(crate) fn hosted(&self, name: &str, _caller: &Caller) -> Result<&Hosted, Problem> {
        self.0.hosted.get(name).ok_or_else(|| {
            let names: Vec<_> = self.0.hosted.keys().map(String::as_str).collect();
            Problem::not_found(format!(
                "There is no read model of this name. There are: {}.",
                names.join(", ")
            ))
        })
    }
}

impl FromRef<QueryState> for Arc<Tokens> {
    fn from_ref(state: &QueryState) -> Self {
        Arc::clone(&state.0.tokens)
    }
}

impl FromRef<QueryState> for Arc<Keys> {
    fn from_ref(state: &QueryState) -> Self {
        Arc::clone(&state.0.keys)
    }
}
