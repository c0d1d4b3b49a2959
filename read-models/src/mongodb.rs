//! Read models in MongoDB: a mirror, which others read as documents. One collection a generation, the bookkeeping beside
//! them, and a view a read model, all in the one database that the URL names. It refuses to be what queries are served from.
//!
//! A batch is one transaction with write concern 1: it is not waited for until other members have it. A failover may undo the
//! last batches, whole ones, checkpoint included; the next batch then finds another checkpoint than the one it was folded
//! for and writes nothing, and the projector reads what followed from the log. What workers believe in without looking
//! again, generations and which one is live, is written with write concern `majority`.

use std::time::Duration;

use ::mongodb::action::Find;
use ::mongodb::bson::{Document, doc};
use ::mongodb::options::IndexOptions;
use ::mongodb::{ClientSession, Database, IndexModel};
use async_trait::async_trait;
use events::{LogIdentity, Partition};
use futures::TryStreamExt as _;

use crate::live::Stored;
use crate::patience::within;
use crate::sql::wanted_indexes;
use crate::{
    Checkpoint, Commit, CommitError, Due, Error, Generation, Options, Parked, ProjectionStore,
    ReadModel, Row, RowKey, Search, checks,
};

mod books;
mod codec;
mod connect;
mod faults;
mod transactions;
mod view;

use faults::{Ended, check_writes, ended};
use transactions::{Purpose, transaction};

const HIDDEN_PARTITION: &str = "_partition";
const HIDDEN_POSITION: &str = "_position";
const HIDDEN_UPDATED_AT: &str = "_updated_at";
const HIDDEN_MICROS: &str = "_micros";

/// Keys sought at once.
const KEYS: usize = 200;
/// How long the server works on one answer.
const ANSWER: Duration = Duration::from_mins(1);

/// A MongoDB database of read models.
#[derive(Debug)]
pub(crate) struct MongoDb {
    database: Database,
    read_only: bool,
}

impl MongoDb {
    pub(crate) async fn open(url: &str, options: Options) -> Result<Self, Error> {
        let database = connect::database(url).await?;
        within("the mirror", async {
            connect::check_transactions(&database).await?;
            if options.read_only {
                connect::check_format(&database).await.map(drop)
            } else {
                connect::migrate(&database).await
            }
        })
        .await?;
        Ok(Self {
            database,
            read_only: options.read_only,
        })
    }

    fn writable(&self) -> Result<(), Error> {
        if self.read_only {
            return Err(Error::Invalid("this store was opened read-only".into()));
        }
        Ok(())
    }

    fn rows(&self, generation: &Generation) -> ::mongodb::Collection<Document> {
        self.database.collection(&generation.table)
    }

    async fn find_live(&self, model: &str) -> Result<Option<Stored>, Error> {
        Ok(
            transaction!(self.database, Purpose::Reading, session => books::live(&self.database, session, model)),
        )
    }

    /// The collection before anybody could write to it, and the view after what it shows.
    async fn prepare_all(&self, model: &ReadModel, log: LogIdentity) -> Result<Generation, Error> {
        self.writable()?;
        let generation = transaction!(self.database, Purpose::Books, session => async {
            books::alone(&self.database, session).await?;
            books::prepare(&self.database, session, model, log).await
        });
        connect::create(&self.database, &generation.table).await?;
        self.index(model, &generation).await?;
        self.show_live(&model.name).await?;
        Ok(generation)
    }

    /// Makes whatever index is missing: the key's columns, by which people look rows up, and those of the definition.
    async fn index(&self, model: &ReadModel, generation: &Generation) -> Result<(), Error> {
        let key = ("key".to_owned(), model.key.iter().collect::<Vec<_>>());
        let wanted = wanted_indexes(model, generation);
        for (name, columns) in std::iter::once(key).chain(wanted) {
            let keys = columns.iter().map(|column| (column.name.clone(), 1.into()));
            let options = IndexOptions::builder().name(name).build();
            let index = IndexModel::builder()
                .keys(keys.collect::<Document>())
                .options(options)
                .build();
            self.rows(generation).create_index(index).await?;
        }
        Ok(())
    }

    async fn show_live(&self, model: &str) -> Result<(), Error> {
        match self.find_live(model).await? {
            Some(live) => view::show(&self.database, &live.generation, &live.layout).await,
            None => Ok(()),
        }
    }

    async fn swap_in(&self, generation: &Generation) -> Result<bool, Error> {
        self.writable()?;
        let swapped = transaction!(self.database, Purpose::Books, session => async {
            books::alone(&self.database, session).await?;
            books::swap(&self.database, session, generation).await
        });
        if swapped {
            self.show_live(&generation.model).await?;
        }
        Ok(swapped)
    }

    async fn load(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        keys: &[RowKey],
    ) -> Result<Vec<(RowKey, Row)>, Error> {
        let mut loaded = Vec::with_capacity(keys.len());
        for keys in keys.chunks(KEYS) {
            let ids: Vec<_> = keys
                .iter()
                .map(|key| codec::id(model, partition, key))
                .collect();
            let found: Vec<Document> = self
                .rows(generation)
                .find(doc! { "_id": { "$in": ids } })
                .max_time(ANSWER)
                .await?
                .try_collect()
                .await?;
            for document in &found {
                loaded.push(codec::row(model, document)?);
            }
        }
        Ok(loaded)
    }

    async fn find(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        search: &Search,
        limit: u32,
    ) -> Result<Vec<(RowKey, Row)>, Error> {
        let filter = codec::search(checks::search(model, search)?, &search.value);
        let rows = self.rows(generation);
        let found = rows.find(within_partition(filter, partition));
        stored(model, found, limit).await
    }

    async fn find_due(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        due: &Due,
        limit: u32,
    ) -> Result<Vec<(RowKey, Row)>, Error> {
        let rows = self.rows(generation);
        let found = rows
            .find(within_partition(codec::due(due), partition))
            .sort(doc! { &due.column: 1 });
        stored(model, found, limit).await
    }

    async fn write(&self, commit: Commit<'_>) -> Result<(), CommitError> {
        let Commit {
            model,
            generation,
            partition,
            from,
            to,
            writes,
        } = commit;
        self.writable()?;
        checks::writes(model, writes)?;
        let pieces = codec::pieces(&writes.upserts)?;
        let table = &generation.table;
        transaction!(self.database, Purpose::Rows, session => async {
            books::advance(&self.database, session, table, partition, (from, to)).await?;
            for rows in &pieces {
                let command = upsert(model, table, partition, rows);
                self.run(session, command).await?;
            }
            for keys in writes.deletes.chunks(KEYS) {
                let command = delete(model, table, partition, keys);
                self.run(session, command).await?;
            }
            books::park(&self.database, session, table, &writes.park).await
        });
        Ok(())
    }

    async fn run(
        &self,
        session: &mut ClientSession,
        command: Document,
    ) -> Result<(), Ended<CommitError>> {
        let answer = self
            .database
            .run_command(command)
            .session(session)
            .await
            .map_err(ended)?;
        Ok(check_writes(&answer)?)
    }

    async fn scan_page(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        after: Option<&RowKey>,
        limit: u32,
    ) -> Result<(Checkpoint, Vec<(RowKey, Row)>), Error> {
        let mut filter = doc! { HIDDEN_PARTITION: i32::from(partition.0) };
        if let Some(key) = after {
            checks::key(model, key)?;
            filter.insert("_id", doc! { "$gt": codec::id(model, partition, key) });
        }
        Ok(
            transaction!(self.database, Purpose::Reading, session => async {
                let table = &generation.table;
                let checkpoint =
                    books::one_checkpoint(&self.database, session, table, partition).await?;
                let mut cursor = self
                    .rows(generation)
                    .find(filter.clone())
                    .sort(doc! { "_id": 1 })
                    .limit(i64::from(limit))
                    .max_time(ANSWER)
                    .session(&mut *session)
                    .await
                    .map_err(ended::<Error>)?;
                let mut rows = Vec::new();
                while let Some(document) = cursor.next(session).await {
                    rows.push(codec::row(model, &document.map_err(ended::<Error>)?)?);
                }
                Ok::<_, Ended<Error>>((checkpoint, rows))
            }),
        )
    }
}

/// Inserts or replaces rows of this partition. A row that stands for another one is not found, and inserting it beside
/// itself is what the database refuses.
fn upsert(
    model: &ReadModel,
    table: &str,
    partition: Partition,
    rows: &[(RowKey, Row)],
) -> Document {
    let updates: Vec<Document> = rows
        .iter()
        .map(|(key, row)| {
            doc! {
                "q": of_partition(model, partition, key),
                "u": codec::document(model, partition, key, row),
                "upsert": true,
            }
        })
        .collect();
    doc! { "update": table, "updates": updates }
}

fn delete(model: &ReadModel, table: &str, partition: Partition, keys: &[RowKey]) -> Document {
    let deletes: Vec<Document> = keys
        .iter()
        .map(|key| doc! { "q": of_partition(model, partition, key), "limit": 1 })
        .collect();
    doc! { "delete": table, "deletes": deletes }
}

fn of_partition(model: &ReadModel, partition: Partition, key: &RowKey) -> Document {
    doc! { "_id": codec::id(model, partition, key), HIDDEN_PARTITION: i32::from(partition.0) }
}

fn within_partition(mut filter: Document, partition: Partition) -> Document {
    filter.insert(HIDDEN_PARTITION, i32::from(partition.0));
    filter
}

async fn stored(
    model: &ReadModel,
    find: Find<'_, Document>,
    limit: u32,
) -> Result<Vec<(RowKey, Row)>, Error> {
    let found: Vec<Document> = find
        .limit(i64::from(limit))
        .max_time(ANSWER)
        .await?
        .try_collect()
        .await?;
    found
        .iter()
        .map(|document| codec::row(model, document))
        .collect()
}

#[async_trait]
impl ProjectionStore for MongoDb {
    async fn prepare(&self, model: &ReadModel, log: LogIdentity) -> Result<Generation, Error> {
        checks::definition(model, log)?;
        within("the mirror", self.prepare_all(model, log)).await
    }

    async fn live(&self, model: &str) -> Result<Option<Generation>, Error> {
        let live = within("the mirror", self.find_live(model)).await?;
        Ok(live.map(|stored| stored.generation))
    }

    async fn checkpoints(
        &self,
        generation: &Generation,
    ) -> Result<(LogIdentity, Vec<Checkpoint>), Error> {
        within("the mirror", async {
            Ok(transaction!(self.database, Purpose::Reading, session =>
                books::checkpoints(&self.database, session, &generation.table)))
        })
        .await
    }

    async fn swap(&self, generation: &Generation) -> Result<bool, Error> {
        within("the mirror", self.swap_in(generation)).await
    }

    async fn load_rows(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        keys: &[RowKey],
    ) -> Result<Vec<(RowKey, Row)>, Error> {
        within("the mirror", self.load(model, generation, partition, keys)).await
    }

    async fn find_rows(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        search: &Search,
        limit: u32,
    ) -> Result<Vec<(RowKey, Row)>, Error> {
        let found = self.find(model, generation, partition, search, limit);
        within("the mirror", found).await
    }

    async fn due_rows(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        due: &Due,
        limit: u32,
    ) -> Result<Vec<(RowKey, Row)>, Error> {
        let found = self.find_due(model, generation, partition, due, limit);
        within("the mirror", found).await
    }

    async fn commit(&self, commit: Commit<'_>) -> Result<(), CommitError> {
        within("the mirror", self.write(commit)).await
    }

    async fn parked(&self, generation: &Generation) -> Result<Vec<Parked>, Error> {
        within("the mirror", async {
            Ok(transaction!(self.database, Purpose::Reading, session =>
                books::parked(&self.database, session, &generation.table)))
        })
        .await
    }

    async fn scan(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        after: Option<&RowKey>,
        limit: u32,
    ) -> Result<(Checkpoint, Vec<(RowKey, Row)>), Error> {
        let page = self.scan_page(model, generation, partition, after, limit);
        within("the mirror", page).await
    }

    async fn check(&self) -> Result<(), Error> {
        within("the mirror", async {
            self.database.run_command(doc! { "ping": 1 }).await?;
            Ok(())
        })
        .await
    }
}
