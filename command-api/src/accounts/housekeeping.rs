//! What goes on in the background of every command-api process: mail is sent, what was begun is finished, what expired is
//! forgotten. Any number of processes may do it at once: the vault hands each piece to one of them.

use async_recursion::async_recursion as boxed;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use mail::{Content, Mailer, SendError};
use serde::Deserialize;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use vault::Outgoing;

use super::people::People;
use super::people::system_origin;
use crate::CommandError;
use crate::clock::Clock;
use crate::drill::crash_point;
use crate::metrics;

/// How often is looked for mail and for unfinished errands.
const LOOK: Duration = Duration::from_secs(1);
/// How often what expired is forgotten.
const SWEEP: Duration = Duration::from_mins(1);
/// How many errands are taken at once.
const TAKEN: u32 = 20;
/// How many mails are sent at once: as many as the mailer has connections, so that none outlives its lease of a minute.
const MAILS: u32 = 4;
/// How long somebody may take to prove their address.
pub const UNVERIFIED: TimeDelta = TimeDelta::days(7);

/// The background work of one process.
pub struct Housekeeping {
    pub(crate) people: Arc<People>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) mailer: Option<Mailer>,
}

#[derive(Deserialize)]
struct Job {
    to: String,
    content: Content,
}

impl Housekeeping {
    /// Until shutdown. What fails is logged and tried again. A mail server that is slow holds up mail alone.
    #[boxed]
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = async { tokio::join!(self.keep_mailing(), self.keep_finishing()) } => {}
        }
    }

    async fn keep_mailing(&self) {
        let mut ticks = ticks();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.people.mail_waits.notified() => {}
            }
            if let Err(error) = self.send_mail().await {
                tracing::warn!(%error, "sending mail is interrupted; trying again");
            }
        }
    }

    async fn keep_finishing(&self) {
        let (mut ticks, mut sweep) = (ticks(), Instant::now());
        loop {
            ticks.tick().await;
            let round = async {
                self.finish_errands().await?;
                if Instant::now() >= sweep {
                    sweep = Instant::now() + SWEEP;
                    self.sweep().await?;
                }
                Ok::<_, CommandError>(())
            };
            if let Err(error) = round.await {
                tracing::warn!(%error, "housekeeping is interrupted; trying again");
            }
        }
    }

    async fn send_mail(&self) -> Result<(), CommandError> {
        let Some(mailer) = &self.mailer else {
            return Ok(());
        };
        loop {
            let due = self
                .people
                .vault()
                .due_mail(self.clock.now(), MAILS)
                .await?;
            if due.given_up > 0 {
                tracing::error!(
                    count = due.given_up,
                    "mails could not be sent for a day and were given up"
                );
            }
            if due.mail.is_empty() {
                return Ok(());
            }
            let sent = due.mail.into_iter().map(|mail| self.send(mailer, mail));
            for sent in futures::future::join_all(sent).await {
                sent?;
            }
        }
    }

    async fn send(
        &self,
        mailer: &Mailer,
        Outgoing { id, content, .. }: Outgoing,
    ) -> Result<(), CommandError> {
        let vault = self.people.vault();
        let Ok(Job { to, content }) = serde_json::from_value::<Job>(content) else {
            tracing::error!(mail = %id, "a mail of an unknown form was dropped");
            return Ok(vault.mail_sent(id).await?);
        };
        let letter = content.letter(&to, &self.people.settings.app_name);
        match mailer.send(&letter, id, self.clock.now()).await {
            Ok(()) => {
                crash_point("send", "mail");
                metrics::mail("sent");
                vault.mail_sent(id).await?;
            }
            Err(SendError::Refused(reason)) => {
                metrics::mail("refused");
                tracing::warn!(mail = %id, kind = content.kind(), reason, "a mail was refused for good");
                vault.mail_sent(id).await?;
            }
            Err(SendError::Unavailable(reason)) => {
                metrics::mail("deferred");
                tracing::warn!(mail = %id, kind = content.kind(), reason, "a mail waits for another try");
                vault.mail_failed(id, self.clock.now()).await?;
            }
        }
        Ok(())
    }

    async fn finish_errands(&self) -> Result<(), CommandError> {
        let now = self.clock.now();
        for intent in self.people.vault().due_intents(now, TAKEN).await? {
            if let Err(error) = self.people.resume(&intent, now).await {
                tracing::warn!(account = %intent.account, %error, "an errand could not be finished; trying again later");
            }
        }
        Ok(())
    }

    async fn sweep(&self) -> Result<(), CommandError> {
        let now = self.clock.now();
        self.people.vault().forget_expired(now).await?;
        self.people
            .erase_unverified(now - UNVERIFIED, &system_origin(now))
            .await
    }
}

fn ticks() -> Interval {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
