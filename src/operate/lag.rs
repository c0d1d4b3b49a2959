//! How far read models are behind the log, by checkpoints and what stands in the log after them: so it can be seen with
//! every process down. It refuses to read more of the log than a bounded piece: beyond that it estimates, and says so.

use anyhow::Result;
use event_store::{EventStore, Filter, RelayCheckpoint};
use events::{Partition, Position, partition_of};
use read_models::{Checkpoint, ReadModel, ReadStore};

use super::desk::built;

/// The most events that are counted one by one.
const COUNTED: u64 = 100_000;
/// Events read at once.
const PAGE: usize = 5_000;

/// How log and read models stand at one moment.
pub struct Look {
    /// The log's end.
    pub head: Position,
    /// How far the relay has published, if it has this log's checkpoint.
    pub relay: Option<RelayCheckpoint>,
    /// The read models that are built from the log, in the order they were given.
    pub models: Vec<Standing>,
    gapless: bool,
    partitions: u16,
}

/// How a read model stands.
#[derive(Default)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// The live generation.
    pub generation: Option<u32>,
    /// How many of its streams wait.
    pub parked: usize,
    /// Why nothing can be said of it.
    pub problem: Option<String>,
    checkpoints: Vec<Checkpoint>,
}

impl Standing {
    /// How many positions it has passed since another look, at least.
    pub fn taken_since(&self, before: &Self) -> u64 {
        let furthest =
            |standing: &Self| standing.checkpoints.iter().map(|c| c.position.get()).max();
        furthest(self)
            .unwrap_or_default()
            .saturating_sub(furthest(before).unwrap_or_default())
    }
}

impl Look {
    /// Looks.
    pub async fn at(
        log: &dyn EventStore,
        database: Option<&dyn ReadStore>,
        models: &[ReadModel],
    ) -> Result<Self> {
        let mut standings = Vec::with_capacity(models.len());
        for model in built(models) {
            standings.push(match database {
                Some(database) => standing(log, database, &model.name).await,
                None => Standing {
                    name: model.name.clone(),
                    problem: Some("its database is down".into()),
                    ..Standing::default()
                },
            });
        }
        let relay = log.load_relay_checkpoint().await?;
        // After the checkpoints: so the log is never behind them.
        let head = log.head().await?;
        Ok(Self {
            head,
            relay: relay.filter(|relay| relay.log == log.identity()),
            models: standings,
            gapless: log.gapless(),
            partitions: log.identity().partitions,
        })
    }

    /// Up to where a partition surely has nothing that a read model lacks. What the relay has published tells: the
    /// partition's last event may be long ago.
    fn effective(&self, partition: usize, checkpoint: &Checkpoint) -> Position {
        match &self.relay {
            Some(relay)
                if relay
                    .partitions
                    .get(partition)
                    .is_some_and(|mark| checkpoint.position >= mark.position) =>
            {
                checkpoint.position.max(relay.position)
            }
            _ => checkpoint.position,
        }
    }

    fn lowest(&self, standing: &Standing) -> Option<Position> {
        let places = standing.checkpoints.iter().enumerate();
        places
            .map(|(partition, checkpoint)| self.effective(partition, checkpoint))
            .min()
    }
}

async fn standing(log: &dyn EventStore, database: &dyn ReadStore, name: &str) -> Standing {
    let mut standing = Standing {
        name: name.to_owned(),
        ..Standing::default()
    };
    let found = async {
        let Some(generation) = database.live(name).await? else {
            return Ok::<_, read_models::Error>(None);
        };
        let (of, checkpoints) = database.checkpoints(&generation).await?;
        let parked = database.parked(&generation).await?.len();
        Ok(Some((generation.number, of, checkpoints, parked)))
    };
    match found.await {
        Ok(Some((number, of, checkpoints, parked))) => {
            standing.generation = Some(number);
            standing.parked = parked;
            if of == log.identity() {
                standing.checkpoints = checkpoints;
            } else {
                standing.problem = Some("of another log: rebuild it".into());
            }
        }
        Ok(None) => standing.problem = Some("not built yet".into()),
        Err(error) => standing.problem = Some(error.to_string()),
    }
    standing
}

/// How many events a read model lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// So many, or at most so many.
    pub events: u64,
    /// They were counted.
    pub exact: bool,
}

/// The end of the log: which partition each event belongs to.
pub struct Window {
    from: Position,
    events: Vec<(Position, Partition)>,
}

impl Window {
    /// Reads what both looks need, as far as it is bounded.
    pub async fn read(log: &dyn EventStore, first: &Look, second: &Look) -> Result<Self> {
        let lowest = |look: &Look| {
            look.models
                .iter()
                .filter_map(|model| look.lowest(model))
                .min()
        };
        let lowest = [lowest(first), lowest(second)].into_iter().flatten().min();
        let mut from = lowest.unwrap_or(second.head);
        if second.gapless {
            from = from.max(Position::new(second.head.get().saturating_sub(COUNTED)));
        }
        let mut window = Self {
            from,
            events: Vec::new(),
        };
        let mut at = from;
        while at < second.head {
            let page = log.read_all(at, &Filter::default(), PAGE).await?;
            for event in &page.events {
                let partition = partition_of(&event.stream, second.partitions);
                window.events.push((event.position, partition));
            }
            if page.through <= at || window.events.len() as u64 > COUNTED {
                break;
            }
            at = page.through;
        }
        Ok(window)
    }

    /// What a read model lacked at a look.
    pub fn behind(&self, look: &Look, standing: &Standing) -> Behind {
        let lowest = look.lowest(standing).unwrap_or(look.head);
        if lowest < self.from {
            return Behind {
                events: look.head.get() - lowest.get(),
                exact: false,
            };
        }
        let lacks = |(position, partition): &&(Position, Partition)| {
            let index = usize::from(partition.0);
            let has = standing
                .checkpoints
                .get(index)
                .map(|checkpoint| look.effective(index, checkpoint));
            *position <= look.head && has.is_some_and(|has| *position > has)
        };
        Behind {
            events: self.events.iter().filter(lacks).count() as u64,
            exact: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use event_store::Mark;
    use events::{Digest, LogIdentity};
    use uuid::Uuid;

    use super::*;

    fn at(position: u64) -> Checkpoint {
        Checkpoint {
            position: Position::new(position),
            digest: Digest::ZERO,
            amended: 0,
        }
    }

    fn look(head: u64, relay: Option<(u64, [u64; 2])>) -> Look {
        let log = LogIdentity {
            log: Uuid::nil(),
            epoch: Uuid::nil(),
            partitions: 2,
        };
        let relay = relay.map(|(position, marks)| RelayCheckpoint {
            log,
            position: Position::new(position),
            partitions: marks
                .map(|mark| Mark {
                    position: Position::new(mark),
                    digest: Digest::ZERO,
                })
                .to_vec(),
        });
        Look {
            head: Position::new(head),
            relay,
            models: vec![],
            gapless: true,
            partitions: 2,
        }
    }

    fn standing(checkpoints: [u64; 2]) -> Standing {
        Standing {
            checkpoints: checkpoints.map(at).to_vec(),
            ..Standing::default()
        }
    }

    #[test]
    fn a_quiet_partition_is_not_behind_and_what_is_missing_is_counted() {
        // Partition 1 had its last event at 5; the relay has published up to 1,000.
        let look = look(1_002, Some((1_000, [1_000, 5])));
        let window = Window {
            from: Position::new(990),
            events: (991..=1_002)
                .map(|n| (Position::new(n), Partition(0)))
                .collect(),
        };
        let count = |checkpoints| window.behind(&look, &standing(checkpoints));
        assert_eq!(
            count([1_002, 5]),
            Behind {
                events: 0,
                exact: true
            }
        );
        assert_eq!(
            count([998, 5]),
            Behind {
                events: 4,
                exact: true
            }
        );
        assert_eq!(
            count([10, 5]),
            Behind {
                events: 992,
                exact: false
            }
        );
    }
}
