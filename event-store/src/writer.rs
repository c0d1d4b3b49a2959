//! Group commit: one task takes whatever appends wait and commits them together. An append whose fate is unknown is
//! looked up and carried out again until it is answered or its time is up. It refuses to hold more than a bounded queue.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use events::Hash;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::backend::{Backend, Failure};
use crate::heads::Heads;
use crate::metrics;
use crate::plan::{Answer, missing, plan};
use crate::tails::Tails;
use crate::{Append, AppendError, Appended, Error, Options, check};

/// How long an append waits for a place in a full queue.
const QUEUE_WAIT: Duration = Duration::from_secs(2);
/// How long an append is tried before its caller is told that its fate is unknown.
const APPEND_DEADLINE: Duration = Duration::from_secs(15);
/// The first pause after a failure; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The most bytes and events in one batch; what goes beyond waits for the next.
const BATCH_BYTES: usize = 16 << 20;
const BATCH_EVENTS: usize = 8_192;

/// An append on its way.
struct Item {
    append: Append,
    reply: Option<oneshot::Sender<Result<Appended, AppendError>>>,
    deadline: Instant,
    /// The hashes of its last event in the tries whose fate is unknown.
    attempts: Vec<Hash>,
}

impl Item {
    fn answer(&mut self, answer: Result<Appended, AppendError>) {
        if let Some(reply) = self.reply.take() {
            // The caller may have gone; the append stands all the same.
            let _ = reply.send(answer);
        }
    }
}

/// The handle to the writer's task. When it is dropped, the task carries out what was handed over (within
/// [`APPEND_DEADLINE`]) and ends.
pub(crate) struct Writer {
    queue: mpsc::Sender<Item>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the task.
    pub(crate) fn start(
        backend: impl Backend,
        partitions: u16,
        options: &Options,
        heads: Arc<Heads>,
    ) -> Self {
        let (queue, items) = mpsc::channel(options.queue.max(1));
        let (stop, stopped) = watch::channel(false);
        let task = Task {
            backend,
            partitions,
            max_batch: options.max_batch.max(1),
            // A batch's streams must fit in at once.
            tails: Tails::new(options.cached_streams.max(2 * options.max_batch)),
            cautious: false,
            heads,
        };
        let task = tokio::spawn(task.run(items, stopped));
        Self {
            queue,
            stop,
            task: Mutex::new(Some(task)),
        }
    }

    /// Hands an append over and waits for its answer.
    pub(crate) async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let answer = self.hand_over(append).await?;
        answer.await.unwrap_or_else(|_| Err(closed().into()))
    }

    /// Hands appends over one after another, then waits for their answers.
    pub(crate) async fn append_all(
        &self,
        appends: Vec<Append>,
    ) -> Vec<Result<Appended, AppendError>> {
        let mut waiting = Vec::with_capacity(appends.len());
        for append in appends {
            waiting.push(self.hand_over(append).await);
        }
        let mut answers = Vec::with_capacity(waiting.len());
        for answer in waiting {
            answers.push(match answer {
                Ok(answer) => answer.await.unwrap_or_else(|_| Err(closed().into())),
                Err(error) => Err(error),
            });
        }
        answers
    }

    /// Puts an append at the end of the queue.
    async fn hand_over(
        &self,
        append: Append,
    ) -> Result<oneshot::Receiver<Result<Appended, AppendError>>, AppendError> {
        check::check(&append)?;
        let place = tokio::time::timeout(QUEUE_WAIT, self.queue.reserve())
            .await
            .map_err(|_| Error::Unavailable("too many appends are waiting".into()))?
            .map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        place.send(Item {
            append,
            reply: Some(reply),
            deadline: Instant::now() + APPEND_DEADLINE,
            attempts: vec![],
        });
        Ok(answer)
    }

    /// Takes no more appends and returns when those handed over are answered.
    pub(crate) async fn close(&self) {
        self.stop.send_replace(true);
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task {
            // A panic of the task was reported where it happened, and its callers got an error.
            let _ = task.await;
        }
    }
}

struct Task<B> {
    backend: B,
    partitions: u16,
    max_batch: usize,
    tails: Tails,
    /// The last batch did not go in as planned: other processes write to the same streams, or commands are repeated.
    cautious: bool,
    heads: Arc<Heads>,
}

impl<B: Backend> Task<B> {
    async fn run(mut self, mut items: mpsc::Receiver<Item>, mut stopped: watch::Receiver<bool>) {
        let mut waiting: Vec<Item> = vec![];
        loop {
            if waiting.is_empty() {
                tokio::select! {
                    n = items.recv_many(&mut waiting, self.max_batch) => if n == 0 { return },
                    () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => {
                        items.close();
                        if items.recv_many(&mut waiting, self.max_batch).await == 0 {
                            return;
                        }
                    }
                }
            }
            while waiting.len() < self.max_batch
                && let Ok(item) = items.try_recv()
            {
                waiting.push(item);
            }
            let rest = waiting.split_off(self.fitting(&waiting));
            self.carry_out(std::mem::replace(&mut waiting, rest)).await;
        }
    }

    /// How many of the waiting appends fit into one batch: at least one.
    fn fitting(&self, waiting: &[Item]) -> usize {
        let (mut bytes, mut events) = (0, 0);
        let fits = waiting.iter().take(self.max_batch).take_while(|item| {
            bytes += item.append.events.iter().map(check::bytes).sum::<usize>();
            events += item.append.events.len();
            bytes <= BATCH_BYTES && events <= BATCH_EVENTS
        });
        fits.count().max(1).min(waiting.len())
    }

    /// Sees appends through until every one is answered.
    async fn carry_out(&mut self, mut items: Vec<Item>) {
        let mut limit = items.len();
        let mut pause = FIRST_PAUSE;
        let mut why = String::from("it was waiting behind others");
        while !items.is_empty() {
            expire(&mut items, &why);
            let n = items.len().min(limit.max(1));
            match self.attempt(&mut items[..n]).await {
                Ok(()) => {
                    limit = 2 * n;
                    pause = FIRST_PAUSE;
                }
                Err(Failure::Refused(refusal)) if n == 1 => {
                    tracing::error!(stream = %items[0].append.stream, refusal, "the database refuses an append");
                    items[0].answer(Err(Error::Invalid(refusal).into()));
                    limit = self.max_batch;
                }
                // Halved until the bad one is alone.
                Err(Failure::Refused(_)) => limit = n / 2,
                Err(Failure::Unknown(fault)) => {
                    tracing::warn!(
                        fault,
                        appends = n,
                        "a commit failed or its answer was lost; looking it up"
                    );
                    why = fault;
                    tokio::time::sleep(pause).await;
                    pause = LONGEST_PAUSE.min(2 * pause);
                }
                Err(failure @ Failure::Fatal(_)) => {
                    let error = failure.into_error().to_string();
                    tracing::error!(error, "the event store takes no more appends");
                    for item in &mut items {
                        item.answer(Err(Error::Invalid(error.clone()).into()));
                    }
                }
            }
            items.retain(|item| item.reply.is_some());
        }
    }

    /// Commits what can go in of these appends and answers those that are settled.
    async fn attempt(&mut self, items: &mut [Item]) -> Result<(), Failure> {
        if items.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let tried = self.try_commit(items).await;
        metrics::COMMIT.took(began.elapsed());
        metrics::BATCH.size(items.len());
        if tried.is_err() {
            metrics::FAULTS.add(1);
            // The next connection may lead to a server that was set back; see `Batch::optimistic`.
            self.tails.clear();
            self.cautious = true;
        }
        tried
    }

    async fn try_commit(&mut self, items: &mut [Item]) -> Result<(), Failure> {
        let missing = missing(items.iter().map(|item| &item.append), &mut self.tails);
        if !missing.is_empty() {
            let tails = self.backend.tails(&missing).await?;
            for (stream, tail) in missing.into_iter().zip(tails) {
                self.tails.put(stream, tail);
            }
        }
        let appends = items.iter().map(|item| &item.append);
        let (mut batch, plan) = plan(appends, &mut self.tails, self.partitions);
        batch.optimistic = !self.cautious && plan.is_whole();
        let outcome = match self.backend.commit(&batch).await {
            Ok(outcome) => outcome,
            Err(failure) => {
                drop(batch);
                if matches!(failure, Failure::Unknown(_)) {
                    for (index, item) in items.iter_mut().enumerate() {
                        item.attempts.extend(plan.hash(index));
                    }
                }
                return Err(failure);
            }
        };
        drop(batch);
        self.cautious = !(outcome.known.is_empty() && outcome.moved.is_empty());
        let appends: Vec<&Append> = items.iter().map(|item| &item.append).collect();
        let attempts: Vec<&[Hash]> = items.iter().map(|item| item.attempts.as_slice()).collect();
        let (answers, head): (Vec<Answer>, _) =
            plan.settle(&appends, &attempts, outcome, &mut self.tails);
        self.heads.raise(head);
        let (half, now, mut appended) = (items.len() / 2, Instant::now(), 0);
        for (index, (item, answer)) in items.iter_mut().zip(answers).enumerate() {
            if index == half && half > 0 {
                tokio::task::yield_now().await;
            }
            if let Some(answer) = answer {
                if answer.as_ref().is_ok_and(|answer| !answer.repeated) {
                    appended += item.append.events.len() as u64;
                }
                let handed_over = item.deadline - APPEND_DEADLINE;
                metrics::APPEND.took(now.saturating_duration_since(handed_over));
                item.answer(answer);
            }
        }
        metrics::APPENDED.add(appended);
        Ok(())
    }
}

fn closed() -> Error {
    Error::Unavailable("it is shutting down".into())
}

/// Tells callers whose time is up that the fate of their append is unknown.
fn expire(items: &mut Vec<Item>, why: &str) {
    let now = Instant::now();
    for item in items.iter_mut().filter(|item| item.deadline <= now) {
        item.answer(Err(Error::Unavailable(format!(
            "the append is not known to be in the log: {why}"
        ))
        .into()));
    }
    items.retain(|item| item.reply.is_some());
}
