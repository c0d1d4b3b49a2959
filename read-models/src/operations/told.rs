//! Builds and parked streams as rows tell them. It refuses what no version has written.

use chrono::{DateTime, Utc};
use events::{Partition, Position, StreamId, Version};

use crate::bookkeeping::damaged;
use crate::{Error, Parked, Phase, Progress, Rebuild, Waiting};

/// The values of a row of builds.
pub(crate) type BuildValues = (
    String,
    i64,
    i64,
    bool,
    String,
    i64,
    i64,
    i64,
    i64,
    Option<i64>,
    Option<String>,
    i64,
    i64,
);

pub(crate) const REBUILDS: &str = "SELECT model, number, asked, compared, phase, events, position, head, rate, left_s, detail, \
     began_at, updated_at FROM rebuilds ORDER BY began_at DESC, model, number DESC LIMIT $1";

pub(crate) fn rebuild(values: BuildValues) -> Result<Rebuild, Error> {
    let (
        model,
        number,
        asked,
        compare,
        phase,
        events,
        position,
        head,
        rate,
        left_s,
        detail,
        began,
        updated,
    ) = values;
    Ok(Rebuild {
        model,
        generation: u32::try_from(number).map_err(|_| damaged("a generation's number"))?,
        asked: version(asked),
        compare,
        progress: Progress {
            phase: Phase::named(&phase).ok_or_else(|| damaged("a build's phase"))?,
            events: events.cast_unsigned(),
            position: Position::from_i64(position),
            head: Position::from_i64(head),
            rate: rate.cast_unsigned(),
            left_s: left_s.map(i64::cast_unsigned),
            detail,
        },
        began_at: moment(began)?,
        updated_at: moment(updated)?,
    })
}

/// The values of a row of parked streams.
pub(crate) type WaitingValues = (
    String,
    i64,
    String,
    i64,
    i64,
    String,
    i64,
    i64,
    i64,
    Option<i64>,
    Option<String>,
    i64,
);

pub(crate) const WAITING: &str = "SELECT g.model, g.number, p.stream, p.partition, p.position, p.error, p.events, p.parked_at, \
     p.retries, p.retried_at, p.retried_by, p.retry \
     FROM parked p JOIN generations g ON g.table_name = p.generation AND (g.live OR g.serves) \
     ORDER BY g.model, g.number, p.partition, p.position LIMIT $1";

pub(crate) fn waiting(values: WaitingValues) -> Result<Waiting, Error> {
    let (
        model,
        number,
        stream,
        partition,
        position,
        error,
        events,
        parked_at,
        retries,
        retried_at,
        by,
        retry,
    ) = values;
    Ok(Waiting {
        model,
        generation: u32::try_from(number).map_err(|_| damaged("a generation's number"))?,
        parked: Parked {
            stream: StreamId::parse(&stream).map_err(|_| damaged("a parked stream's name"))?,
            partition: Partition(u16::try_from(partition).map_err(|_| damaged("a partition"))?),
            position: Position::from_i64(position),
            error,
        },
        events: events.cast_unsigned(),
        parked_at: moment(parked_at)?,
        retries: u32::try_from(retries).unwrap_or(u32::MAX),
        retried_at: retried_at.map(moment).transpose()?,
        retried_by: by,
        retrying: retry > 0,
    })
}

pub(crate) fn version(stored: i64) -> Version {
    Version::new(stored.cast_unsigned())
}

fn moment(seconds: i64) -> Result<DateTime<Utc>, Error> {
    DateTime::from_timestamp(seconds, 0).ok_or_else(|| damaged("a time"))
}
