//! How everything stands, for operators. Whoever has the settings of all stores looks; here it is asked for, at most once at a
//! time, and what was seen is told for a moment. It refuses to look at anything itself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{OriginalUri, State};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;
use web::{After, Authenticated, Problem};

use crate::state::QueryState;
use crate::{access, parameters};

/// How long what was seen is told: a look opens every store, and takes over a second.
const TOLD: Duration = Duration::from_secs(2);

/// What was seen, and when.
type Last = Option<(Instant, Arc<Vec<Value>>)>;

/// How everything stands. Clones are the same.
#[derive(Clone)]
pub struct Overview {
    look: Arc<dyn Fn() -> BoxFuture<'static, Vec<Value>> + Send + Sync>,
    last: Arc<Mutex<Last>>,
}

impl Overview {
    /// `look` gives objects, each with a `kind` and a `name` or a number, without any secret.
    pub fn new(look: impl Fn() -> BoxFuture<'static, Vec<Value>> + Send + Sync + 'static) -> Self {
        Self {
            look: Arc::new(look),
            last: Arc::default(),
        }
    }

    /// What is seen now, or was a moment ago. Who asks while somebody looks, waits for that.
    async fn seen(&self) -> Arc<Vec<Value>> {
        let mut last = self.last.lock().await;
        if let Some((at, seen)) = &*last
            && at.elapsed() < TOLD
        {
            return Arc::clone(seen);
        }
        let seen = Arc::new((self.look)().await);
        *last = Some((Instant::now(), Arc::clone(&seen)));
        seen
    }
}

impl fmt::Debug for Overview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overview").finish_non_exhaustive()
    }
}

/// The JSON Schema of what is seen.
pub(crate) fn schema() -> Value {
    let number = json!({ "type": ["integer", "null"], "minimum": 0 });
    let item = json!({
        "type": "object",
        "description": "What `showcaller status --output json` prints.",
        "required": ["kind"],
        "properties": {
            "kind": { "type": "string", "enum": ["dependency", "role", "read-model", "queue"] },
            "name": { "type": "string" },
            "state": { "type": "string" },
            "up": { "type": ["boolean", "null"], "description": "Null: not known to this process." },
            "url": { "type": "string", "description": "Without what may be secret in it." },
            "problem": { "type": ["string", "null"] },
            "latency_ms": { "type": ["number", "null"], "minimum": 0 },
            "behind": number, "parked": number, "messages": number,
        },
    });
    json!({ "type": "array", "items": item })
}

/// How everything stands, as this process sees it.
pub(crate) async fn status(
    State(state): State<QueryState>,
    Authenticated(caller): Authenticated,
    After(_): After,
    OriginalUri(uri): OriginalUri,
) -> Result<Json<Vec<Value>>, Problem> {
    access::operator(&caller)?;
    parameters::none(&uri)?;
    let seen = match state.overview() {
        Some(overview) => overview.seen().await,
        None => Arc::default(),
    };
    Ok(Json(seen.to_vec()))
}
