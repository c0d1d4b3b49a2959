//! Generations, checkpoints and parked streams as documents, within the transactions that the store opens.

use events::{Digest, LogIdentity, Partition, Position, StreamId};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use mongodb::{ClientSession, Collection, Database};

use super::codec::number;
use super::faults::{Ended, check_writes, ended};
use crate::bookkeeping::{Raw, damaged, identity};
use crate::live::Stored;
use crate::sql::{Layout, table_name};
use crate::{Checkpoint, CommitError, Error, Generation, Parked, ReadModel, checks};

pub(super) const GENERATIONS: &str = "generations";
pub(super) const CHECKPOINTS: &str = "checkpoints";
pub(super) const PARKED: &str = "parked";
pub(super) const FORMAT: &str = "format";

type Step<T, E = Error> = Result<T, Ended<E>>;

fn books(database: &Database, name: &str) -> Collection<Document> {
    database.collection(name)
}

/// Whoever makes or switches generations writes this document first, so of two at once one begins again.
pub(super) async fn alone(database: &Database, session: &mut ClientSession) -> Step<()> {
    books(database, FORMAT)
        .update_one(doc! { "_id": "lock" }, doc! { "$inc": { "taken": 1_i64 } })
        .session(session)
        .await
        .map_err(ended)?;
    Ok(())
}

fn stored(document: &Document) -> Result<Stored, Error> {
    let text = |name: &str| {
        let text = document.get_str(name).map(str::to_owned);
        text.map_err(|_| damaged("a generation"))
    };
    let count = |name: &str| number(document, name).ok_or_else(|| damaged("a generation"));
    let raw = Raw {
        model: text("model")?,
        number: count("number")?,
        definition_hash: text("definition_hash")?,
        definition: text("definition")?,
        table: text("_id")?,
        log: text("log")?,
        epoch: text("epoch")?,
        partitions: count("partitions")?,
        // Nobody reads from a mirror through this program.
        live: false,
        serves: false,
    };
    raw.parse()
}

async fn find(
    database: &Database,
    session: &mut ClientSession,
    filter: Document,
) -> Step<Option<Stored>> {
    let found = books(database, GENERATIONS)
        .find_one(filter)
        .sort(doc! { "number": -1 })
        .session(session)
        .await
        .map_err(ended)?;
    Ok(found.as_ref().map(stored).transpose()?)
}

pub(super) async fn live(
    database: &Database,
    session: &mut ClientSession,
    model: &str,
) -> Step<Option<Stored>> {
    find(database, session, doc! { "model": model, "live": true }).await
}

/// The newest generation of this definition over this log, made if it is not there; and live, where no other of this log is.
pub(super) async fn prepare(
    database: &Database,
    session: &mut ClientSession,
    model: &ReadModel,
    log: LogIdentity,
) -> Step<Generation> {
    let same = doc! {
        "model": &model.name,
        "definition_hash": model.definition_hash(),
        "log": log.log.to_string(),
        "epoch": log.epoch.to_string(),
        "partitions": i64::from(log.partitions),
    };
    let generation = match find(database, session, same).await? {
        Some(stored) => stored.generation,
        None => create(database, session, model, log).await?,
    };
    // Another log's rows say nothing of this one: they are not shown as if they did.
    let live = live(database, session, &model.name).await?;
    if live.is_none_or(|live| live.log != log) {
        make_live(database, session, &generation).await?;
    }
    Ok(generation)
}

async fn create(
    database: &Database,
    session: &mut ClientSession,
    model: &ReadModel,
    log: LogIdentity,
) -> Step<Generation> {
    let newest = find(database, session, doc! { "model": &model.name }).await?;
    let number = newest.map_or(0, |stored| stored.generation.number) + 1;
    let definition_hash = model.definition_hash();
    let table = table_name(model, &definition_hash, number);
    let definition = serde_json::to_string(&Layout::of(model))
        .map_err(|error| Error::Invalid(error.to_string()))?;
    let generation = doc! {
        "_id": &table,
        "model": &model.name,
        "number": i64::from(number),
        "definition_hash": &definition_hash,
        "definition": definition,
        "live": false,
        "log": log.log.to_string(),
        "epoch": log.epoch.to_string(),
        "partitions": i64::from(log.partitions),
    };
    books(database, GENERATIONS)
        .insert_one(generation)
        .session(&mut *session)
        .await
        .map_err(ended)?;
    let checkpoints = (0..log.partitions).map(|partition| {
        let mut checkpoint = place(&table, Partition(partition), Checkpoint::default());
        checkpoint.insert("_id", checkpoint_id(&table, Partition(partition)));
        checkpoint
    });
    books(database, CHECKPOINTS)
        .insert_many(checkpoints)
        .session(session)
        .await
        .map_err(ended)?;
    Ok(Generation {
        model: model.name.clone(),
        definition_hash,
        number,
        table,
    })
}

async fn make_live(
    database: &Database,
    session: &mut ClientSession,
    generation: &Generation,
) -> Step<()> {
    let generations = books(database, GENERATIONS);
    generations
        .update_many(
            doc! { "model": &generation.model, "live": true },
            doc! { "$set": { "live": false } },
        )
        .session(&mut *session)
        .await
        .map_err(ended)?;
    generations
        .update_one(
            doc! { "_id": &generation.table },
            doc! { "$set": { "live": true } },
        )
        .session(session)
        .await
        .map_err(ended)?;
    Ok(())
}

/// See `ProjectionStore::swap`.
pub(super) async fn swap(
    database: &Database,
    session: &mut ClientSession,
    generation: &Generation,
) -> Step<bool> {
    let new = find(database, session, doc! { "_id": &generation.table }).await?;
    let new = new.ok_or_else(|| gone(&generation.table))?;
    let old = live(database, session, &generation.model).await?;
    if let Some(old) = old {
        if old.generation.table == new.generation.table {
            return Ok(true);
        }
        // Positions of another log cannot be compared.
        if old.log != new.log {
            return Ok(false);
        }
        // Whoever moves the live generation's checkpoints meanwhile gets into the way of this, so readers never go back.
        books(database, CHECKPOINTS)
            .update_many(
                doc! { "generation": &old.generation.table },
                doc! { "$inc": { "compared": 1_i64 } },
            )
            .session(&mut *session)
            .await
            .map_err(ended)?;
        let (_, before) = checkpoints(database, session, &old.generation.table).await?;
        let (_, after) = checkpoints(database, session, &new.generation.table).await?;
        if before
            .iter()
            .zip(&after)
            .any(|(old, new)| new.position < old.position)
        {
            return Ok(false);
        }
    }
    make_live(database, session, &new.generation).await?;
    Ok(true)
}

fn gone(table: &str) -> Error {
    Error::Invalid(format!(
        "the generation {table} is not there any more; prepare it again"
    ))
}

fn checkpoint_id(table: &str, partition: Partition) -> Document {
    doc! { "generation": table, "partition": i32::from(partition.0) }
}

/// A checkpoint's fields.
fn place(table: &str, partition: Partition, checkpoint: Checkpoint) -> Document {
    doc! {
        "generation": table,
        "partition": i32::from(partition.0),
        "position": checkpoint.position.as_i64(),
        "digest": digest(checkpoint.digest),
    }
}

fn digest(digest: Digest) -> Bson {
    Bson::Binary(Binary {
        subtype: BinarySubtype::Generic,
        bytes: digest.as_bytes().to_vec(),
    })
}

fn checkpoint(document: &Document) -> Result<Checkpoint, Error> {
    let position = number(document, "position").ok_or_else(|| damaged("a position"))?;
    let digest = document
        .get_binary_generic("digest")
        .map_err(|_| damaged("a digest"))?;
    Ok(Checkpoint {
        position: Position::from_i64(position),
        digest: Digest::from_bytes(digest).map_err(|_| damaged("a digest"))?,
        amended: 0,
    })
}

/// The checkpoints of a generation, in order, with the log they speak of.
pub(super) async fn checkpoints(
    database: &Database,
    session: &mut ClientSession,
    table: &str,
) -> Step<(LogIdentity, Vec<Checkpoint>)> {
    let generation = books(database, GENERATIONS)
        .find_one(doc! { "_id": table })
        .session(&mut *session)
        .await
        .map_err(ended)?
        .ok_or_else(|| gone(table))?;
    let text = |name: &str| generation.get_str(name).unwrap_or_default();
    let partitions = number(&generation, "partitions").unwrap_or_default();
    let log = identity(text("log"), text("epoch"), partitions)?;
    let documents = list(
        database,
        session,
        CHECKPOINTS,
        table,
        doc! { "partition": 1 },
    )
    .await?;
    let checkpoints: Vec<Checkpoint> =
        documents.iter().map(checkpoint).collect::<Result<_, _>>()?;
    if checkpoints.len() != usize::from(log.partitions) {
        return Err(damaged("a generation without all its checkpoints").into());
    }
    Ok((log, checkpoints))
}

pub(super) async fn one_checkpoint(
    database: &Database,
    session: &mut ClientSession,
    table: &str,
    partition: Partition,
) -> Step<Checkpoint> {
    let found = books(database, CHECKPOINTS)
        .find_one(doc! { "_id": checkpoint_id(table, partition) })
        .session(session)
        .await
        .map_err(ended)?;
    Ok(checkpoint(&found.ok_or_else(|| gone(table))?)?)
}

/// Moves a checkpoint, if it is what was loaded.
pub(super) async fn advance(
    database: &Database,
    session: &mut ClientSession,
    table: &str,
    partition: Partition,
    (from, to): (Checkpoint, Checkpoint),
) -> Step<(), CommitError> {
    let mut loaded = place(table, partition, from);
    loaded.insert("_id", checkpoint_id(table, partition));
    let moved = books(database, CHECKPOINTS)
        .update_one(loaded, doc! { "$set": place(table, partition, to) })
        .session(session)
        .await
        .map_err(ended)?;
    if moved.matched_count == 1 {
        Ok(())
    } else {
        Err(CommitError::Fenced.into())
    }
}

async fn list(
    database: &Database,
    session: &mut ClientSession,
    collection: &str,
    table: &str,
    order: Document,
) -> Step<Vec<Document>> {
    let mut cursor = books(database, collection)
        .find(doc! { "generation": table })
        .sort(order)
        .session(&mut *session)
        .await
        .map_err(ended)?;
    let mut documents = Vec::new();
    while let Some(document) = cursor.next(session).await {
        documents.push(document.map_err(ended)?);
    }
    Ok(documents)
}

pub(super) async fn parked(
    database: &Database,
    session: &mut ClientSession,
    table: &str,
) -> Step<Vec<Parked>> {
    let order = doc! { "partition": 1, "position": 1 };
    let documents = list(database, session, PARKED, table, order).await?;
    let parked = documents.iter().map(|document| {
        let text = |name: &str| document.get_str(name).unwrap_or_default();
        let partition = number(document, "partition").and_then(|number| u16::try_from(number).ok());
        Ok(Parked {
            stream: StreamId::parse(text("stream"))
                .map_err(|_| damaged("a parked stream's name"))?,
            partition: Partition(partition.ok_or_else(|| damaged("a partition"))?),
            position: Position::from_i64(
                number(document, "position").ok_or_else(|| damaged("a position"))?,
            ),
            error: text("error").to_owned(),
        })
    });
    Ok(parked.collect::<Result<_, Error>>()?)
}

/// Parks streams; one that is parked already keeps its first reason.
pub(super) async fn park(
    database: &Database,
    session: &mut ClientSession,
    table: &str,
    streams: &[Parked],
) -> Step<(), CommitError> {
    if streams.is_empty() {
        return Ok(());
    }
    let updates: Vec<Document> = streams
        .iter()
        .map(|parked| {
            doc! {
                "q": { "_id": { "generation": table, "stream": parked.stream.as_str() } },
                "u": { "$setOnInsert": {
                    "generation": table,
                    "stream": parked.stream.as_str(),
                    "partition": i32::from(parked.partition.0),
                    "position": parked.position.as_i64(),
                    "error": checks::parked_error(&parked.error),
                } },
                "upsert": true,
            }
        })
        .collect();
    let answer = database
        .run_command(doc! { "update": PARKED, "updates": updates })
        .session(session)
        .await
        .map_err(ended)?;
    Ok(check_writes(&answer)?)
}
