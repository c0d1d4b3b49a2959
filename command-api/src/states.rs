//! The states of streams, remembered. It refuses to know the aggregates: one cache of one type serves them all, so that
//! it is compiled once, and here.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use events::StreamId;
use quick_cache::sync::Cache;

/// How many streams' states a cache holds.
const CACHED_STREAMS: usize = 100_000;

/// What is known of an aggregate's streams.
pub(crate) struct States<L> {
    cache: Untyped,
    of: PhantomData<fn() -> L>,
}

impl<L: Send + Sync + 'static> States<L> {
    pub(crate) fn new() -> Self {
        Self {
            cache: Untyped::new(),
            of: PhantomData,
        }
    }

    pub(crate) fn get(&self, stream: &StreamId) -> Option<Arc<L>> {
        // Only `insert` puts anything in, and only this type.
        self.cache.get(stream)?.downcast().ok()
    }

    pub(crate) fn insert(&self, stream: StreamId, loaded: Arc<L>) {
        self.cache.insert(stream, loaded);
    }

    pub(crate) fn forget(&self, stream: &StreamId) {
        self.cache.forget(stream);
    }
}

type State = Arc<dyn Any + Send + Sync>;

struct Untyped(Cache<StreamId, State>);

impl Untyped {
    fn new() -> Self {
        Self(Cache::new(CACHED_STREAMS))
    }

    fn get(&self, stream: &StreamId) -> Option<State> {
        self.0.get(stream)
    }

    fn insert(&self, stream: StreamId, state: State) {
        self.0.insert(stream, state);
    }

    fn forget(&self, stream: &StreamId) {
        self.0.remove(stream);
    }
}
