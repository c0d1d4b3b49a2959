//! What operators may ask of a PostgreSQL database of read models. It refuses to do anything twice: whoever comes second finds
//! it done.

use async_trait::async_trait;
use events::{LogIdentity, Partition, Version};

use super::{Postgres, hold, ops, scan_in, schema, within};
use crate::{
    Acted, Build, Error, Generation, OperatedStore, Pair, Parked, Progress, ReadModel, RowKey,
    Wish, checks,
};

impl Postgres {
    async fn scan_both(
        &self,
        model: &ReadModel,
        pair: [&Generation; 2],
        partition: Partition,
        after: Option<&RowKey>,
        limit: u32,
    ) -> Result<Pair, Error> {
        let mut transaction = self
            .pool
            .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            .await?;
        let [one, other] = pair;
        Ok([
            scan_in(&mut transaction, model, one, partition, after, limit).await?,
            scan_in(&mut transaction, model, other, partition, after, limit).await?,
        ])
    }
}

#[async_trait]
impl OperatedStore for Postgres {
    async fn builds(&self, model: &str, log: LogIdentity) -> Result<Vec<Build>, Error> {
        within(async { ops::builds(&mut *self.pool.acquire().await?, model, log).await }).await
    }

    async fn acted(&self, model: &str, log: LogIdentity, first: Version) -> Result<Version, Error> {
        within(async {
            let mut transaction = schema::locked(&self.pool).await?;
            let version = ops::acted(&mut transaction, model, log, first).await?;
            transaction.commit().await?;
            Ok(version)
        })
        .await
    }

    async fn act(
        &self,
        model: &ReadModel,
        log: LogIdentity,
        version: Version,
        wish: &Wish,
    ) -> Result<Acted, Error> {
        checks::definition(model, log)?;
        within(async {
            let mut transaction = schema::locked(&self.pool).await?;
            if *wish == Wish::RollBack {
                hold(&mut transaction, &model.name).await?;
            }
            let acted = ops::act(&mut transaction, model, log, version, wish).await?;
            transaction.commit().await?;
            Ok(acted)
        })
        .await
    }

    async fn to_retry(&self, generation: &Generation) -> Result<Vec<Parked>, Error> {
        within(async { ops::to_retry(&mut *self.pool.acquire().await?, &generation.table).await })
            .await
    }

    async fn note(&self, generation: &Generation, progress: &Progress) -> Result<(), Error> {
        within(async { ops::note(&mut *self.pool.acquire().await?, generation, progress).await })
            .await
    }

    async fn scan_pair(
        &self,
        model: &ReadModel,
        pair: [&Generation; 2],
        partition: Partition,
        after: Option<&RowKey>,
        limit: u32,
    ) -> Result<Pair, Error> {
        within(self.scan_both(model, pair, partition, after, limit)).await
    }
}
