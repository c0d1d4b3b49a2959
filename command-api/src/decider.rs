//! The one shape of every write-side rule: judge a command against history, take in one fact. Pure: no clock, no
//! randomness, no I/O. [`given`] tests deciders in the words of the domain.

use std::fmt::Debug;

/// One stream, one consistency boundary. `Default` is the state before any event.
pub trait Decider: Default {
    /// Streams are named `{CATEGORY}-{id}`; the category holds no `-` and no `.`.
    const CATEGORY: &'static str;
    /// What may be asked of it.
    type Command;
    /// What may have happened to it.
    type Event;
    /// Why it says no.
    type Refusal: std::error::Error;

    /// Judges a command against history. What the rule needs besides (time, ids), the command carries. No events: there
    /// is nothing to do, which is a success.
    fn decide(&self, command: &Self::Command) -> Result<Vec<Self::Event>, Self::Refusal>;

    /// Takes in one fact. Total: history is never refused.
    #[must_use]
    fn evolve(self, event: &Self::Event) -> Self;
}

/// Begins a test: `given([...]).when(command).then([...])`, or `.then_refused(...)`.
pub fn given<D: Decider>(history: impl IntoIterator<Item = D::Event>) -> Given<D> {
    Given(
        history
            .into_iter()
            .fold(D::default(), |state, event| state.evolve(&event)),
    )
}

/// A decider with a history.
pub struct Given<D: Decider>(D);

impl<D: Decider> Given<D> {
    /// Judges a command.
    #[expect(clippy::needless_pass_by_value, reason = "tests read better without &")]
    pub fn when(self, command: D::Command) -> When<D> {
        When(self.0.decide(&command))
    }
}

/// A decider's judgement.
pub struct When<D: Decider>(Result<Vec<D::Event>, D::Refusal>);

impl<D: Decider> When<D>
where
    D::Event: Debug + PartialEq,
    D::Refusal: Debug + PartialEq,
{
    /// Exactly these events follow.
    pub fn then(self, expected: impl IntoIterator<Item = D::Event>) {
        let expected: Vec<_> = expected.into_iter().collect();
        assert_eq!(
            self.0.as_ref().ok(),
            Some(&expected),
            "the decider said {:?}",
            self.0
        );
    }

    /// The command is refused for exactly this reason.
    #[expect(clippy::needless_pass_by_value, reason = "tests read better without &")]
    pub fn then_refused(self, expected: D::Refusal) {
        assert_eq!(
            self.0.as_ref().err(),
            Some(&expected),
            "the decider said {:?}",
            self.0
        );
    }
}
