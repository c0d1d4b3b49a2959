//! Whether another version of this program feeds its own definition of a read model beside this one.
//!
//! Refuses: to need a word from it. A table that comes to where ours was a moment ago is fed by somebody.

use std::sync::atomic::Ordering;

use events::Position;
use read_models::{Build, Error, Generation};
use tokio::time::Instant;

use crate::context::Context;
use crate::options::RIVAL_PAUSE;

/// What is known of other versions of one read model.
#[derive(Default)]
pub(crate) struct Rivals {
    /// Where our table stood, and when.
    ours: Option<(Instant, Vec<Position>)>,
    counted: bool,
}

impl Rivals {
    /// Looks, and tells the context; true while there is somebody to look for.
    pub(crate) async fn look(
        &mut self,
        context: &Context,
        definition: &str,
        builds: &[Build],
    ) -> Result<bool, Error> {
        let is_ours = |build: &&Build| build.generation.definition_hash == definition;
        let ours = builds
            .iter()
            .filter(is_ours)
            .max_by_key(|build| build.serves);
        let others: Vec<&Build> = builds
            .iter()
            .filter(|build| !is_ours(build) && (build.live || build.serves))
            .collect();
        let Some(ours) = ours.filter(|_| !others.is_empty()) else {
            self.count(context, false);
            return Ok(false);
        };
        if let Some((at, before)) = &self.ours {
            if at.elapsed() < RIVAL_PAUSE {
                return Ok(true);
            }
            let mut fed = false;
            for other in others {
                let now = positions(context, &other.generation).await?;
                fed |= now.iter().zip(before).all(|(now, before)| now >= before);
            }
            self.count(context, fed);
        }
        let now = positions(context, &ours.generation).await?;
        self.ours = Some((Instant::now(), now));
        Ok(true)
    }

    fn count(&mut self, context: &Context, fed: bool) {
        match (self.counted, fed) {
            (false, true) => _ = context.side_by_side.fetch_add(1, Ordering::Relaxed),
            (true, false) => _ = context.side_by_side.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
        self.counted = fed;
    }
}

async fn positions(context: &Context, generation: &Generation) -> Result<Vec<Position>, Error> {
    let (_, checkpoints) = context.store.checkpoints(generation).await?;
    Ok(checkpoints
        .iter()
        .map(|checkpoint| checkpoint.position)
        .collect())
}
