//! What operators may ask of a SQLite file of read models. It refuses to do anything twice: whoever comes second finds
//! it done.

use async_trait::async_trait;
use events::{LogIdentity, Partition, Version};

use super::{Sqlite, ops, scan_in};
use crate::{
    Acted, Build, Error, Generation, OperatedStore, Pair, Parked, Progress, ReadModel, RowKey,
    Wish, checks,
};

#[async_trait]
impl OperatedStore for Sqlite {
    async fn builds(&self, model: &str, log: LogIdentity) -> Result<Vec<Build>, Error> {
        ops::builds(&mut *self.reader().await?, model, log).await
    }

    async fn acted(&self, model: &str, log: LogIdentity, first: Version) -> Result<Version, Error> {
        let mut transaction = self.write().await?;
        let version = ops::acted(&mut transaction, model, log, first).await?;
        transaction.commit().await?;
        Ok(version)
    }

    async fn act(
        &self,
        model: &ReadModel,
        log: LogIdentity,
        version: Version,
        wish: &Wish,
    ) -> Result<Acted, Error> {
        checks::definition(model, log)?;
        let mut transaction = self.write().await?;
        let acted = ops::act(&mut transaction, model, log, version, wish).await?;
        transaction.commit().await?;
        self.committed();
        Ok(acted)
    }

    async fn to_retry(&self, generation: &Generation) -> Result<Vec<Parked>, Error> {
        ops::to_retry(&mut *self.reader().await?, &generation.table).await
    }

    async fn note(&self, generation: &Generation, progress: &Progress) -> Result<(), Error> {
        let mut transaction = self.write().await?;
        ops::note(&mut transaction, generation, progress).await?;
        Ok(transaction.commit().await?)
    }

    async fn scan_pair(
        &self,
        model: &ReadModel,
        pair: [&Generation; 2],
        partition: Partition,
        after: Option<&RowKey>,
        limit: u32,
    ) -> Result<Pair, Error> {
        let mut transaction = self.readers.begin().await?;
        let [one, other] = pair;
        Ok([
            scan_in(&mut transaction, model, one, partition, after, limit).await?,
            scan_in(&mut transaction, model, other, partition, after, limit).await?,
        ])
    }
}
