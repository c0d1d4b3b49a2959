//! The projector: prepares every read model, then runs a task for each of them and a consumer for each partition.
//!
//! Refuses: to serve readers, and to write anything but read models.

use async_recursion::async_recursion as boxed;
use std::sync::Arc;

use broker::Broker;
use event_store::EventStore;
use events::Partition;
use read_models::{Error, Generation, ProjectionStore, ReadModel};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::catching_up::CatchingUp;
use crate::consumer::Consumer;
use crate::context::Context;
use crate::lane::Lane;
use crate::observing::Observing;
use crate::options::{Options, Pauses};
use crate::status::{Board, PartitionStatus, ReadModelStatus, Status};

/// Why the projector cannot begin: a setting or what is stored is wrong, and trying again will not help.
#[derive(Debug, thiserror::Error)]
#[error("the projector cannot begin: {0}")]
pub struct StartError(String);

/// Keeps read models up with the log. Any number of instances may run at once.
pub struct Projector {
    log: Arc<dyn EventStore>,
    broker: Arc<dyn Broker>,
    store: Arc<dyn ProjectionStore>,
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
            models,
            options,
            status: watch::Sender::default(),
        }
    }

    /// How it stands, and will.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Projects until `shutdown`, then finishes the batches in hand, acknowledges them, and returns. Databases and
    /// brokers that are down are waited for; only what waiting cannot mend is an error.
    #[expect(clippy::too_many_lines, reason = "it starts everything, in order")]
    #[boxed]
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), StartError> {
        let Self {
            log,
            broker,
            store,
            models,
            options,
            status,
        } = self;
        // Tasks end with this one, however it ends.
        let context = Arc::new(Context {
            log,
            store,
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
        let mut tasks = JoinSet::new();
        for Prepared {
            model,
            generation,
            live,
        } in observed
        {
            let (context, status) = (Arc::clone(&context), status.subscribe());
            tasks.spawn(
                Observing {
                    context,
                    model,
                    generation,
                    live,
                    status,
                }
                .run(),
            );
        }
        let mut columns: Vec<Vec<Arc<Lane>>> = (0..partitions).map(|_| Vec::new()).collect();
        for (
            index,
            Prepared {
                model,
                generation,
                live,
            },
        ) in prepared.into_iter().enumerate()
        {
            let fell_behind = Arc::new(Notify::new());
            let lane = |partition: u16| {
                let board = Board {
                    status: status.clone(),
                    model: index,
                    partition: usize::from(partition),
                    heads: Arc::default(),
                };
                Arc::new(Lane::new(
                    Arc::clone(&context),
                    Arc::clone(&model),
                    Arc::clone(&generation),
                    Partition(partition),
                    board,
                    Arc::clone(&fell_behind),
                ))
            };
            let lanes: Vec<_> = (0..partitions).map(lane).collect();
            for (column, lane) in columns.iter_mut().zip(&lanes) {
                column.push(Arc::clone(lane));
            }
            let (context, status) = (Arc::clone(&context), status.clone());
            tasks.spawn(
                CatchingUp {
                    context,
                    generation,
                    lanes,
                    fell_behind,
                    model: index,
                    live,
                    status,
                }
                .run(),
            );
        }
        for (partition, lanes) in (0..).map(Partition).zip(columns) {
            let (context, broker, status) =
                (Arc::clone(&context), Arc::clone(&broker), status.clone());
            tasks.spawn(
                Consumer {
                    context,
                    broker,
                    partition,
                    lanes,
                    status,
                }
                .run(),
            );
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
    generation: Arc<Generation>,
    live: bool,
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
            generation: Arc::new(generation),
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
