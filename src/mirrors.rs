//! Mirrors: further databases that the same projections write to, each by a projector of its own. It refuses to let one that
//! is down, or wrong, hold anything else up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use broker::Broker;
use event_store::EventStore;
use instruments::metrics::Observations;
use projector::{Projector, Status};
use read_models::{Error, Options, ProjectionStore, ReadModel};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::secret_url::Url;

/// The pause before a mirror that is down, or wrong, is tried again.
const PAUSE: Duration = Duration::from_secs(2);
/// The longest name of a queue group.
const GROUP_BYTES: usize = 100;

/// How a mirror stands, for those who watch; nothing while it is not written to.
#[derive(Clone, Default)]
pub struct Standing(Arc<Mutex<Option<watch::Receiver<Status>>>>);

impl Standing {
    /// Notes it among what is told of this process.
    pub fn observe(&self, mirror: &str, observations: &mut Observations) {
        let status = self.lock().as_ref().map(|status| status.borrow().clone());
        projector::metrics::observe_mirror(mirror, status.as_ref(), observations);
    }

    fn set(&self, status: Option<watch::Receiver<Status>>) {
        *self.lock() = status;
    }

    fn lock(&self) -> MutexGuard<'_, Option<watch::Receiver<Status>>> {
        // Whole at every moment, so a panic elsewhere spoils nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One mirror.
#[derive(Debug, Clone)]
pub struct Mirror {
    url: Url,
    /// Its kind, hosts and database, for people: no user, no password, no options.
    pub name: String,
    /// The name of its queue group, made from the same: another password keeps the queues.
    pub group: String,
}

impl Mirror {
    /// The mirror at this URL.
    pub fn new(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let kind = match scheme {
            "mysql" | "mariadb" => "mysql",
            "mongodb" => "mongodb",
            _ => bail!(
                "--mirror does not begin with mysql:// or mongodb://; write for example mysql://USER:PASSWORD@HOST:3306/DATABASE or mongodb://USER:PASSWORD@HOST:27017/DATABASE"
            ),
        };
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        let place = place.split('?').next().unwrap_or(place);
        let plain = |c: char| {
            let c = c.to_ascii_lowercase();
            if c.is_ascii_alphanumeric() { c } else { '-' }
        };
        let group = format!(
            "mirror-{kind}-{}",
            place.chars().map(plain).collect::<String>()
        );
        Ok(Self {
            url: Url::new(url.to_owned()),
            name: format!("{kind}://{place}"),
            group: group.chars().take(GROUP_BYTES).collect(),
        })
    }

    /// All that a setting names: parted by commas, or by lines. A URL of MongoDB may hold commas between its hosts.
    pub fn parse(texts: &[String]) -> Result<Vec<Self>> {
        let mut urls: Vec<String> = Vec::new();
        for part in texts.iter().flat_map(|text| text.split([',', '\n'])) {
            match urls.last_mut() {
                Some(last) if !part.contains("://") && !part.trim().is_empty() => {
                    last.push(',');
                    last.push_str(part.trim());
                }
                _ => urls.push(part.trim().to_owned()),
            }
        }
        let mut mirrors: Vec<Self> = Vec::new();
        for url in urls.iter().filter(|url| !url.is_empty()) {
            let mirror = Self::new(url)?;
            if let Some(other) = mirrors.iter().find(|other| other.group == mirror.group) {
                bail!("--mirror names {} twice: keep one", other.name);
            }
            mirrors.push(mirror);
        }
        Ok(mirrors)
    }

    /// Opens it.
    pub async fn open(&self, read_only: bool) -> Result<Arc<dyn ProjectionStore>, Error> {
        let options = Options {
            read_only,
            ..Options::default()
        };
        read_models::open_mirror(self.url.as_str(), options).await
    }

    /// Keeps it up with the log until `shutdown`. One that is down, or that is not what it must be any more, is complained of
    /// and tried again: somebody may mend it.
    pub async fn keep(
        self,
        log: Arc<dyn EventStore>,
        broker: Arc<dyn Broker>,
        models: Vec<ReadModel>,
        standing: Standing,
        shutdown: CancellationToken,
    ) {
        let mut told = String::new();
        loop {
            let stands = |status| standing.set(Some(status));
            let kept = self.keep_once(&log, &broker, &models, stands, &shutdown);
            let kept = kept.await;
            standing.set(None);
            if shutdown.is_cancelled() {
                return;
            }
            let problem = kept
                .err()
                .map(|error| format!("{error:#}"))
                .unwrap_or_default();
            if problem != told {
                tracing::error!(
                    mirror = self.name,
                    problem,
                    "a mirror cannot be written to; trying again"
                );
                told = problem;
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn keep_once(
        &self,
        log: &Arc<dyn EventStore>,
        broker: &Arc<dyn Broker>,
        models: &[ReadModel],
        stands: impl FnOnce(watch::Receiver<Status>),
        shutdown: &CancellationToken,
    ) -> Result<()> {
        let store = tokio::select! {
            opened = self.open(false) => opened?,
            () = shutdown.cancelled() => return Ok(()),
        };
        tracing::info!(
            mirror = self.name,
            group = self.group,
            "writing to a mirror"
        );
        let options = projector::Options {
            group: self.group.clone(),
            ..projector::Options::default()
        };
        let (log, broker) = (Arc::clone(log), Arc::clone(broker));
        let projector = Projector::new(log, broker, store, models.to_vec(), options);
        stands(projector.status());
        projector.run(shutdown.clone()).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &[&str]) -> Result<Vec<String>> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let mirrors = Mirror::parse(&texts)?;
        Ok(mirrors.into_iter().map(|mirror| mirror.name).collect())
    }

    #[test]
    fn mirrors_are_parted_by_commas_and_lines_and_named_without_what_is_secret() {
        let found = names(&[
            "mysql://u:p@h/d, mongodb://u:p@a:1,b:2/d?authSource=admin\n",
            "mariadb://h2/d",
        ]);
        assert_eq!(
            found.unwrap(),
            ["mysql://h/d", "mongodb://a:1,b:2/d", "mysql://h2/d"]
        );
        assert!(names(&[]).unwrap().is_empty());
        let mirror = Mirror::new("mongodb://u:p@A.example:1,b:2/d_1?x=y").unwrap();
        assert_eq!(mirror.group, "mirror-mongodb-a-example-1-b-2-d-1");
        assert!(!format!("{mirror:?}").contains("u:p"));
    }

    #[test]
    fn a_mirror_twice_or_of_an_unknown_kind_is_refused() {
        for (texts, advice) in [
            (["mysql://a@h/d", "mysql://b@h/d"], "keep one"),
            (["postgres://h/d", ""], "mongodb://USER"),
            (["h/d", ""], "mysql://USER"),
        ] {
            let message = names(&texts).unwrap_err().to_string();
            assert!(message.contains(advice), "{message}");
        }
    }
}
