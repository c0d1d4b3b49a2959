//! What the query routes share. It refuses to hold anything of a row.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::FromRef;
use chrono::{DateTime, Utc};
use read_models::{Page, ReadModel, ReadStore};
use tokio_util::sync::CancellationToken;
use vault::{Keys, Vault};
use web::{Caller, PositionToken, Problem, Tokens};

use crate::cache::{Cache, CacheCounts, Question};
use crate::hub::Hub;
use crate::listeners::Listeners;
use crate::overview::Overview;
use crate::waiting::Watcher;

/// Settings of the query routes. Defaults suit production.
#[derive(Debug, Clone)]
pub struct QuerySettings {
    /// About how many bytes of rows and lists are held in memory; 0: none.
    pub cache_bytes: u64,
    /// How many live answers this process gives at once.
    pub listeners: usize,
    /// How many live answers one account gets of this process at once.
    pub listeners_an_account: usize,
    /// Ends live answers, so that the process can end.
    pub shutdown: CancellationToken,
    /// How everything stands, for operators; missing where nobody looks: then they are told nothing.
    pub overview: Option<Overview>,
}

impl Default for QuerySettings {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            listeners: 5_000,
            listeners_an_account: 200,
            shutdown: CancellationToken::new(),
            overview: None,
        }
    }
}

/// What the query routes share. Clones are the same.
#[derive(Clone)]
pub struct QueryState(Arc<Inner>);

struct Inner {
    store: Arc<dyn ReadStore>,
    hosted: BTreeMap<String, Arc<Hosted>>,
    vault: Vault,
    tokens: Arc<Tokens>,
    keys: Arc<Keys>,
    cache: Cache,
    listeners: Listeners,
    shutdown: CancellationToken,
    overview: Option<Overview>,
}

/// A read model with what serving it needs.
pub(crate) struct Hosted {
    pub(crate) model: Arc<ReadModel>,
    name: Arc<str>,
    /// Tells how far its live table has come.
    pub(crate) watcher: Watcher,
    /// Tells what changes in it.
    pub(crate) hub: Hub,
}

impl Hosted {
    /// What a question of this read model waits for: nothing, where no event makes its rows.
    pub(crate) fn awaited(&self, token: Option<PositionToken>) -> Option<PositionToken> {
        token.filter(|_| !self.model.observed)
    }

    fn new(store: &Arc<dyn ReadStore>, model: ReadModel, cache: &Cache) -> Self {
        let (model, name) = (Arc::new(model.clone()), Arc::<str>::from(model.name));
        let (cache, forgotten) = (cache.clone(), Arc::clone(&name));
        let hub = Hub::new(Arc::clone(store), Arc::clone(&model), move |changed| {
            cache.forget(&forgotten, changed.rows.keys());
        });
        Self {
            watcher: Watcher::new(Arc::clone(store), Arc::clone(&model)),
            model,
            name,
            hub,
        }
    }
}

impl QueryState {
    /// Serves these read models from a store (opened read-only), opening personal values through the vault.
    pub fn new(
        store: Arc<dyn ReadStore>,
        models: Vec<ReadModel>,
        vault: Vault,
        tokens: Arc<Tokens>,
        keys: Arc<Keys>,
        settings: QuerySettings,
    ) -> Self {
        let cache = Cache::new(Arc::clone(&store), settings.cache_bytes);
        let hosted = models.into_iter().map(|model| {
            let hosted = Hosted::new(&store, model, &cache);
            (hosted.model.name.clone(), Arc::new(hosted))
        });
        Self(Arc::new(Inner {
            hosted: hosted.collect(),
            store,
            vault,
            tokens,
            keys,
            cache,
            listeners: Listeners::new(settings.listeners, settings.listeners_an_account),
            shutdown: settings.shutdown,
            overview: settings.overview,
        }))
    }

    /// What is served here, in the order of names.
    pub(crate) fn models(&self) -> impl Iterator<Item = &ReadModel> {
        self.0.hosted.values().map(|hosted| &*hosted.model)
    }

    /// Every read model has a table of the definition served here that has caught up with the log; else which has not.
    pub async fn is_built(&self) -> Result<(), read_models::Error> {
        for model in self.models() {
            self.0.store.is_built(model).await?;
        }
        Ok(())
    }

    /// How often the cache knew the answer since the process began.
    pub fn cache_counts(&self) -> CacheCounts {
        self.0.cache.counts()
    }

    /// How many live answers are open.
    pub fn listeners_open(&self) -> usize {
        self.0.listeners.count()
    }

    /// What is stored, at or past the token: from memory where that holds.
    pub(crate) async fn ask(
        &self,
        hosted: &Hosted,
        question: Question,
        token: Option<&PositionToken>,
    ) -> Result<Arc<Page>, Problem> {
        let Hosted {
            hub, model, name, ..
        } = hosted;
        self.0.cache.ask(hub, model, name, question, token).await
    }

    pub(crate) fn listeners(&self) -> &Listeners {
        &self.0.listeners
    }

    pub(crate) fn overview(&self) -> Option<&Overview> {
        self.0.overview.as_ref()
    }

    pub(crate) fn shutdown(&self) -> CancellationToken {
        self.0.shutdown.clone()
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.0.tokens
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
    pub(crate) fn hosted(&self, name: &str, _caller: &Caller) -> Result<&Arc<Hosted>, Problem> {
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
