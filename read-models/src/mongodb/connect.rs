//! Connecting, and what a deployment must offer: transactions. It refuses one without, and says what to do.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::error::{ErrorKind, WriteFailure};
use mongodb::options::{
    Acknowledgment, ClientOptions, ReadPreference, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Database};

use super::books::{CHECKPOINTS, FORMAT, GENERATIONS, PARKED};
use super::codec::number;
use crate::{Error, bookkeeping};

/// Connections of one mirror.
const CONNECTIONS: u32 = 16;
/// How long connecting, and finding the primary, may take.
const CONNECT: Duration = Duration::from_secs(5);
/// MongoDB 4.4: the first whose transactions reach sharded clusters and new collections.
const WIRE_VERSION: i64 = 9;
const NAMESPACE_EXISTS: i32 = 48;
const DUPLICATE_KEY: i32 = 11_000;

/// The database that a URL names; nothing is sent yet.
pub(super) async fn database(url: &str) -> Result<Database, Error> {
    // The parser's message may quote the URL, which may hold a password.
    let wrong = || {
        Error::Invalid(
            "the mirror's URL is wrong; write mongodb://USER:PASSWORD@HOST:27017/DATABASE, all hosts by name (mongodb+srv is not known)"
                .into(),
        )
    };
    if url.starts_with("mongodb+srv:") {
        return Err(wrong());
    }
    let mut options = ClientOptions::parse(url).await.map_err(|_| wrong())?;
    options.app_name = Some("showcaller read models".into());
    options.connect_timeout = Some(CONNECT);
    options.server_selection_timeout = Some(CONNECT);
    options.max_pool_size = Some(CONNECTIONS);
    // Whatever the URL says: what is read is the ground for what is written.
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    options.write_concern = Some(majority());
    let client = Client::with_options(options).map_err(|_| wrong())?;
    client.default_database().ok_or_else(wrong)
}

/// What outlasts a failover.
pub(super) fn majority() -> WriteConcern {
    WriteConcern::builder().w(Acknowledgment::Majority).build()
}

/// It is a replica set, or a sharded cluster of them.
pub(super) async fn check_transactions(database: &Database) -> Result<(), Error> {
    let hello = database.run_command(doc! { "hello": 1 }).await?;
    let router = hello.get_str("msg").is_ok_and(|text| text == "isdbgrid");
    let replicated = router || hello.contains_key("setName");
    let recent = number(&hello, "maxWireVersion").is_some_and(|version| version >= WIRE_VERSION);
    if replicated && recent {
        return Ok(());
    }
    Err(Error::Invalid(
        "the mirror's MongoDB has no transactions, and without them rows and checkpoints would part: make it a replica set \
         (one member is enough: start mongod 4.4 or later with --replSet rs0, then run rs.initiate() once)"
            .into(),
    ))
}

/// The stored version, if there is one; a newer one is refused.
pub(super) async fn check_format(database: &Database) -> Result<bool, Error> {
    let found = database
        .collection::<Document>(FORMAT)
        .find_one(doc! { "_id": "format" })
        .await?;
    match found.and_then(|format| number(&format, "version")) {
        Some(version) => bookkeeping::check_format(version).map(|()| true),
        None => Ok(false),
    }
}

/// Makes the bookkeeping's collections; each step can be done again, and by several at once.
pub(super) async fn migrate(database: &Database) -> Result<(), Error> {
    if check_format(database).await? {
        return Ok(());
    }
    for name in [GENERATIONS, CHECKPOINTS, PARKED, FORMAT] {
        create(database, name).await?;
    }
    // Last the document that says that all the others are there.
    for document in [
        doc! { "_id": "lock", "taken": 0_i64 },
        doc! { "_id": "format", "version": bookkeeping::FORMAT },
    ] {
        let inserted = database.collection(FORMAT).insert_one(document).await;
        if let Err(error) = inserted
            && !is_duplicate(&error)
        {
            return Err(error.into());
        }
    }
    Ok(())
}

fn is_duplicate(error: &mongodb::error::Error) -> bool {
    matches!(&*error.kind, ErrorKind::Write(WriteFailure::WriteError(write)) if write.code == DUPLICATE_KEY)
}

/// Makes a collection, unless it is there.
pub(super) async fn create(database: &Database, name: &str) -> Result<(), Error> {
    match database.create_collection(name).await {
        Err(error) => match &*error.kind {
            ErrorKind::Command(command) if command.code == NAMESPACE_EXISTS => Ok(()),
            _ => Err(error.into()),
        },
        Ok(()) => Ok(()),
    }
}
