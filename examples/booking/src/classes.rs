//! The read side: `classes`, one row a class, for everybody who is logged in. It refuses to decide anything: that a class
//! is not overbooked is the write side's business.

use showcaller::{
    Access, Changes, ColumnType, DecodeError, DomainEvent, Op, ReadModel, RecordedEvent,
};

use crate::class::Event;

/// `GET /v1/classes` and `GET /v1/classes/{class_id}`.
pub fn read_model() -> ReadModel {
    ReadModel::new("classes")
        .key("class_id", ColumnType::Text)
        .column("seats", ColumnType::Integer)
        .column("booked", ColumnType::Integer)
        .category("class")
        .readable_by(Access::Authenticated)
        .project(project)
}

fn project(event: &RecordedEvent, rows: &mut Changes<'_>) -> Result<(), DecodeError> {
    let class = [event.stream.id().into()];
    match Event::decode(event)? {
        Event::ClassOpened { seats } => {
            let (seats, none) = (Op::Set(seats.into()), Op::Set(0.into()));
            rows.upsert(class, [("seats", seats), ("booked", none)]);
        }
        Event::SeatBooked { .. } => rows.update(class, [("booked", Op::Add(1))]),
        Event::BookingCancelled { .. } => rows.update(class, [("booked", Op::Add(-1))]),
    }
    Ok(())
}
