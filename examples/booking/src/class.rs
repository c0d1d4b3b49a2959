//! The write side: a class has a limited number of seats, and each account may book one of them. It refuses to know HTTP,
//! the database and the clock: what a rule needs, the command carries.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use showcaller::{Aggregate, Caller, Decider, DomainEvent, EventTypes, Form, Uuid};

const MOST_SEATS: i64 = 1_000;

/// What the rules need to know of a class; `Default` is a class that nobody opened.
#[derive(Debug, Clone, Default)]
pub struct Class {
    seats: i64,
    booked_by: BTreeSet<Uuid>,
}

/// What may be asked of a class: open it with so many seats, book one for an account, give it back.
#[derive(Debug)]
pub enum Command {
    Open(i64),
    Book(Uuid),
    Cancel(Uuid),
}

/// What may have happened to a class. Names and fields are storage format: past tense, for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", content = "data")]
pub enum Event {
    ClassOpened { seats: i64 },
    SeatBooked { account: Uuid },
    BookingCancelled { account: Uuid },
}

impl DomainEvent for Event {
    /// For the description of the messages; leave it out, and others see that there are such events and no more.
    fn described() -> Option<EventTypes> {
        Some(EventTypes::of::<Self>())
    }
}

/// Why a class says no.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no such class")]
    Unknown,
    #[error("the class is open already")]
    AlreadyOpen,
    #[error("all seats are booked")]
    Full,
    #[error("this account has a seat already")]
    AlreadyBooked,
}

impl Decider for Class {
    const CATEGORY: &'static str = "class";
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: &Command) -> Result<Vec<Event>, Refusal> {
        match *command {
            Command::Open(_) if self.seats > 0 => Err(Refusal::AlreadyOpen),
            Command::Open(seats) => Ok(vec![Event::ClassOpened { seats }]),
            _ if self.seats == 0 => Err(Refusal::Unknown),
            Command::Book(account) if self.has_seat(account) => Err(Refusal::AlreadyBooked),
            Command::Book(_) if self.booked_by.len() as i64 >= self.seats => Err(Refusal::Full),
            Command::Book(account) => Ok(vec![Event::SeatBooked { account }]),
            // Nothing to cancel: no event, and a success.
            Command::Cancel(account) if !self.has_seat(account) => Ok(vec![]),
            Command::Cancel(account) => Ok(vec![Event::BookingCancelled { account }]),
        }
    }

    fn evolve(mut self, event: &Event) -> Self {
        match *event {
            Event::ClassOpened { seats } => self.seats = seats,
            Event::SeatBooked { account } => _ = self.booked_by.insert(account),
            Event::BookingCancelled { account } => _ = self.booked_by.remove(&account),
        }
        self
    }
}

impl Class {
    fn has_seat(&self, account: Uuid) -> bool {
        self.booked_by.contains(&account)
    }
}

impl Aggregate for Class {
    const COLLECTION: &'static str = "classes";
    const BEGINS: Option<&'static str> = Some("open"); // POST /v1/classes
    const COMMANDS: &'static [&'static str] = &["book", "cancel"]; // POST /v1/classes/{id}/book
    const CODES: &'static [&'static str] = &[
        "class_unknown",
        "class_already_open",
        "class_full",
        "already_booked",
    ];

    fn parse(name: &str, form: &mut Form) -> Option<Command> {
        match name {
            "open" => Some(Command::Open(form.integer("seats", 1..=MOST_SEATS))),
            "book" => Some(Command::Book(form.account())),
            "cancel" => Some(Command::Cancel(form.account())),
            _ => None,
        }
    }

    /// Whoever is logged in; a real one would ask for a scope before a class is opened.
    fn allows(_caller: &Caller, _id: &str, _command: &Command) -> bool {
        true
    }

    fn code(refusal: &Refusal) -> &'static str {
        match refusal {
            Refusal::Unknown => "class_unknown",
            Refusal::AlreadyOpen => "class_already_open",
            Refusal::Full => "class_full",
            Refusal::AlreadyBooked => "already_booked",
        }
    }
}

#[cfg(test)]
mod tests {
    use showcaller::{Given, given};

    use super::Command::{Book, Cancel, Open};
    use super::Refusal::{AlreadyBooked, AlreadyOpen, Full, Unknown};
    use super::*;

    const ADA: Uuid = Uuid::from_u128(1);
    const BOB: Uuid = Uuid::from_u128(2);
    const OPENED: Event = Event::ClassOpened { seats: 1 };
    const BOOKED: Event = Event::SeatBooked { account: ADA };
    const CANCELLED: Event = Event::BookingCancelled { account: ADA };

    fn class<const N: usize>(history: [Event; N]) -> Given<Class> {
        given(history)
    }

    #[test]
    fn a_class_is_opened_once() {
        class([]).when(Open(1)).then([OPENED]);
        class([OPENED]).when(Open(9)).then_refused(AlreadyOpen);
    }

    #[test]
    fn the_last_seat_is_booked_once() {
        let full = || class([OPENED, BOOKED]);
        class([]).when(Book(ADA)).then_refused(Unknown);
        class([OPENED]).when(Book(ADA)).then([BOOKED]);
        full().when(Book(ADA)).then_refused(AlreadyBooked);
        full().when(Book(BOB)).then_refused(Full);
    }

    #[test]
    fn a_cancelled_seat_is_free_again() {
        let cancelled = || class([OPENED, BOOKED, CANCELLED]);
        class([OPENED, BOOKED]).when(Cancel(ADA)).then([CANCELLED]);
        cancelled().when(Book(ADA)).then([BOOKED]);
        cancelled().when(Cancel(ADA)).then([]);
    }
}
