//! PostgreSQL's binary COPY format, as far as references need it.

use anyhow::Result;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// How much is handed to the connection at a time, in bytes.
const CHUNK: usize = 1 << 20;
/// 2000-01-01, from which PostgreSQL counts microseconds.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// Rows, encoded.
pub struct Rows(Vec<u8>);

impl Rows {
    pub fn new() -> Self {
        let mut bytes = b"PGCOPY\n\xff\r\n\0".to_vec();
        bytes.extend_from_slice(&[0; 8]);
        Self(bytes)
    }

    /// Begins a row of so many fields.
    pub fn row(&mut self, fields: i16) -> &mut Self {
        self.0.extend_from_slice(&fields.to_be_bytes());
        self
    }

    pub fn bytes(&mut self, field: &[u8]) -> &mut Self {
        self.0
            .extend_from_slice(&(field.len() as i32).to_be_bytes());
        self.0.extend_from_slice(field);
        self
    }

    pub fn text(&mut self, field: Option<&str>) -> &mut Self {
        match field {
            Some(field) => self.bytes(field.as_bytes()),
            None => {
                self.0.extend_from_slice(&(-1_i32).to_be_bytes());
                self
            }
        }
    }

    pub fn bigint(&mut self, field: i64) -> &mut Self {
        self.bytes(&field.to_be_bytes())
    }

    pub fn int(&mut self, field: i32) -> &mut Self {
        self.bytes(&field.to_be_bytes())
    }

    pub fn uuid(&mut self, field: Uuid) -> &mut Self {
        self.bytes(field.as_bytes())
    }

    pub fn timestamp(&mut self, field: DateTime<Utc>) -> &mut Self {
        self.bigint(field.timestamp_micros() - POSTGRES_EPOCH_US)
    }

    /// Sends everything under a `COPY … FROM STDIN (FORMAT binary)`, in a transaction of its own.
    pub async fn send(mut self, connection: &mut PgConnection, statement: &str) -> Result<()> {
        self.0.extend_from_slice(&(-1_i16).to_be_bytes());
        let mut copy = connection.copy_in_raw(statement).await?;
        for chunk in self.0.chunks(CHUNK) {
            copy.send(chunk).await?;
        }
        copy.finish().await?;
        Ok(())
    }
}
