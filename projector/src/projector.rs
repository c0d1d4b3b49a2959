//! The projector: prepares every read model, then runs a task for each of them and a consumer for each partition.
//!
//! Refuses: to serve readers, and to write anything but read models.

use async_recursion::async_recursion as boxed;
use std::sync::Arc;

use broker::Broker;
use event_store::EventStore;
use events::{Partition, Position};
use read_models::{Error, Generation, OperatedStore, ProjectionStore, ReadModel};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::columns::Columns;
use crate::consumer::Consumer;
use crate::context::Context;
use crate::keeper::{Feeds, Keeper};
use crate::observing::Observing;
use crate::options::{Options, Pauses};
use crate::status::{PartitionStatus, ReadModelStatus, Status};
use crate::wishes::Follower;
use crate::yielding::Yielding;

/// Why the projector cannot begin: a setting or what is stored is wrong, and trying again will not help.
#[derive(Debug, thiserror::Error)]
#[error("the projector cannot begin: {0}")]
pub struct StartError(String);

/// Keeps read models up with the log. Any number of instances may run at once.
pub struct Projector {
    log: Arc<dyn EventStore>,
    broker: Arc<dyn Broker>,
    store: Arc<dyn ProjectionStore>,
    operated: Option<Arc<dyn OperatedStore>>,
    models: Vec<ReadModel>,
    options: Options,
    status: watch::Sender<Status>,
}

impl Projector {
    /// A projector of these read models; nothing happens before [`Projector::run`].
    pub fn new(
        log: Arc<dyn EventStore>,
        broker: Arc<dyn Broker>,
        store: Arc<dyn ProjectionStore>,
        models: Vec<ReadModel>,
        options: Options,
    ) -> Self {
        Self {
            log,
            broker,
            store,
            operated: None,
            models,
            options,
            status: watch::Sender::default(),
        }
    }

    /// The same, on a database whose read models are operated: what operators ask for in the log is done.
    pub fn operated(
        log: Arc<dyn EventStore>,
        broker: Arc<dyn Broker>,
        store: Arc<dyn OperatedStore>,
        models: Vec<ReadModel>,
        options: Options,
    ) -> Self {
        let operated = Some(Arc::clone(&store));
        Self {
            operated,
            ..Self::new(log, broker, store, models, options)
        }
    }

    /// How it stands, and will.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Projects until `shutdown`, then finishes the batches in hand, acknowledges them, and returns. Databases and
    /// brokers that are down are waited for; only what waiting cannot mend is an error.
    #[boxed]
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), StartError> {
        let Self {
            log,
            broker,
            store,
            operated,
            models,
            options,
            status,
        } = self;
        // Tasks end with this one, however it ends.
        let context = Arc::new(Context {
            log,
            store,
            operated,
            side_by_side: Arc::default(),
            yielding: Arc::new(Yielding::new()),
            options,
            shutdown,
        });
        let Some(prepared) = prepare(&context, models).await? else {
            return Ok(());
        };
        let partitions = context.log.identity().partitions;
        let (observed, prepared): (Vec<_>, Vec<_>) = prepared
            .into_iter()
            .partition(|prepared| prepared.model.observed);
        status.send_replace(first_status(&prepared, partitions));
        let names = prepared.iter().map(|prepared| prepared.model.name.as_str());
        let follower = Follower::new(Arc::clone(&context), names);
        let Some(place) = begin(&context, &follower).await else {
            return Ok(());
        };
        let mut tasks = JoinSet::new();
        for Prepared {
            model, generation, ..
        } in observed
        {
            let observing = Observing {
                context: Arc::clone(&context),
                model,
                generation: Arc::new(generation),
                live: false,
                status: status.subscribe(),
            };
            tasks.spawn(observing.run());
        }
        let columns = Arc::new(Columns::new(partitions));
        for (index, prepared) in prepared.into_iter().enumerate() {
            let keeper = Keeper {
                context: Arc::clone(&context),
                columns: Arc::clone(&columns),
                book: follower.book(&prepared.model.name),
                model: prepared.model,
                prepared: prepared.generation,
                index,
                status: status.clone(),
                feeds: Feeds::default(),
            };
            tasks.spawn(keeper.run());
        }
        if context.operated.is_some() {
            tasks.spawn(follower.run(place));
        }
        for partition in (0..partitions).map(Partition) {
            let consumer = Consumer {
                context: Arc::clone(&context),
                broker: Arc::clone(&broker),
                partition,
                columns: Arc::clone(&columns),
                status: status.clone(),
            };
            tasks.spawn(consumer.run());
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        Ok(())
    }
}

struct Prepared {
    model: Arc<ReadModel>,
    generation: Generation,
    live: bool,
}

/// What operators asked for so far, where that is done here. `None` at shutdown.
async fn begin(context: &Context, follower: &Follower) -> Option<Position> {
    match context.operated {
        Some(_) => follower.begin().await,
        None => Some(Position::ZERO),
    }
}

/// Finds or makes the generation of every read model. `None` at shutdown.
async fn prepare(
    context: &Context,
    models: Vec<ReadModel>,
) -> Result<Option<Vec<Prepared>>, StartError> {
    let mut prepared = Vec::with_capacity(models.len());
    for model in models {
        let mut pauses = Pauses::new();
        let (generation, live) = loop {
            match prepare_one(context, &model).await {
                Ok(found) => break found,
                Err(Error::Invalid(problem)) => return Err(StartError(problem)),
                Err(error) => {
                    tracing::warn!(model = model.name, %error, "waiting for the read model database");
                }
            }
            if !context.pause(pauses.next()).await {
                return Ok(None);
            }
        };
        prepared.push(Prepared {
            model: Arc::new(model),
            generation,
            live,
        });
    }
    Ok(Some(prepared))
}

async fn prepare_one(context: &Context, model: &ReadModel) -> Result<(Generation, bool), Error> {
    let generation = context.store.prepare(model, context.log.identity()).await?;
    let live = context.store.live(&model.name).await?;
    let is_live = live.as_ref() == Some(&generation);
    if !is_live {
        let (name, number) = (&model.name, generation.number);
        tracing::info!(
            model = name,
            generation = number,
            "building a changed read model beside the live one"
        );
    }
    Ok((generation, is_live))
}

fn first_status(prepared: &[Prepared], partitions: u16) -> Status {
    let read_models = prepared.iter().map(
        |Prepared {
             model,
             generation,
             live,
         }| ReadModelStatus {
            name: model.name.clone(),
            generation: generation.number,
            live: *live,
            partitions: vec![PartitionStatus::default(); usize::from(partitions)],
        },
    );
    Status {
        read_models: read_models.collect(),
        subscribed: vec![false; usize::from(partitions)],
        consuming: vec![false; usize::from(partitions)],
    }
}
