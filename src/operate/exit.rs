//! Exit codes, in one place: how a verb ended, for scripts.

use std::process::ExitCode;

/// How a verb ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, and nothing is wrong. Also when whoever read the output had seen enough and closed the pipe.
    Done,
    /// 1: it failed, or it found something wrong, or what was asked for is not there.
    Wrong,
    /// 2: the command line is wrong, or the verb refuses to do this here.
    Refused,
    /// 3: a store or the broker cannot be reached: the same line later may work.
    Unavailable,
}

/// A verb's refusal: the operator asked for something that must not be done here. Says what to do instead.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// A refusal as an error.
pub fn refused(why: impl Into<String>) -> anyhow::Error {
    Refusal(why.into()).into()
}

impl Exit {
    /// What an error means.
    pub fn of(error: &anyhow::Error) -> Self {
        error
            .chain()
            .find_map(Self::of_cause)
            .unwrap_or(Self::Wrong)
    }

    fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Self> {
        if cause.is::<Refusal>() {
            return Some(Self::Refused);
        }
        if let Some(error) = cause.downcast_ref::<std::io::Error>() {
            return (error.kind() == std::io::ErrorKind::BrokenPipe).then_some(Self::Done);
        }
        let unavailable = matches!(
            cause.downcast_ref(),
            Some(event_store::Error::Unavailable(_))
        ) || matches!(cause.downcast_ref(), Some(broker::Error::Unavailable(_)))
            || matches!(
                cause.downcast_ref(),
                Some(read_models::Error::Unavailable(_) | read_models::Error::TooSlow(_))
            )
            || matches!(
                cause.downcast_ref(),
                Some(vault::Error::Unavailable(_) | vault::Error::Busy)
            );
        unavailable.then_some(Self::Unavailable)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Wrong => 1,
            Exit::Refused => 2,
            Exit::Unavailable => 3,
        })
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn an_errors_cause_decides_how_a_verb_ended() {
        let down = event_store::Error::Unavailable("gone".into());
        let pipe = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        for (error, exit) in [
            (anyhow!("anything"), Exit::Wrong),
            (refused("not here"), Exit::Refused),
            (anyhow!(down).context("looking"), Exit::Unavailable),
            (anyhow!(vault::Error::Busy), Exit::Unavailable),
            (anyhow!(pipe), Exit::Done),
            (
                anyhow!(event_store::Error::Invalid("no log".into())),
                Exit::Wrong,
            ),
        ] {
            assert_eq!(Exit::of(&error), exit, "{error:#}");
        }
        let wrapped = Err::<(), _>(Refusal("no".into())).context("while looking");
        assert_eq!(Exit::of(&wrapped.unwrap_err()), Exit::Refused);
    }
}
