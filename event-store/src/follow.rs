//! Following the log: catch up, then live. It holds one page at a time and refuses to skip, to repeat and to end.

use std::sync::Arc;
use std::time::Duration;

use events::Position;
use futures::Stream;
use futures::stream::unfold;

use crate::{Error, EventStore, Filter, Page};

/// How long to wait for a wake-up before looking anyway.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause after a failed read.
const RETRY: Duration = Duration::from_millis(500);

/// Everything after a position that passes `filter`, in the order of the log, in pages of at most `page_limit` events;
/// for ever. A page may be empty: then `through` has moved past events that the filter leaves out.
///
/// After [`Error::Unavailable`] the stream goes on where it was, after a pause. It ends only after [`Error::Invalid`]:
/// for example when `after` lies beyond the log's head, since the log is another one then, and waiting would swallow its
/// new events.
pub fn follow(
    store: Arc<dyn EventStore>,
    after: Position,
    filter: Filter,
    page_limit: usize,
) -> impl Stream<Item = Result<Page, Error>> + Send + 'static {
    enum State {
        At(Position),
        Failed(Position),
        Ended,
    }
    unfold(State::At(after), move |state| {
        let (store, filter) = (Arc::clone(&store), filter.clone());
        async move {
            let after = match state {
                State::At(after) => after,
                State::Failed(after) => {
                    tokio::time::sleep(RETRY).await;
                    after
                }
                State::Ended => return None,
            };
            loop {
                let page = match store.read_all(after, &filter, page_limit.max(1)).await {
                    Ok(page) if page.through < after => Err(Error::Invalid(format!(
                        "the log ends at position {}, before {after}: it is another log, or it was restored",
                        page.through
                    ))),
                    page => page,
                };
                match page {
                    Ok(page) if page.through == after => store.wait_beyond(after, PATIENCE).await,
                    Ok(page) => {
                        let through = page.through;
                        return Some((Ok(page), State::At(through)));
                    }
                    Err(error @ Error::Unavailable(_)) => {
                        return Some((Err(error), State::Failed(after)));
                    }
                    Err(error) => return Some((Err(error), State::Ended)),
                }
            }
        }
    })
}
