//! `showcaller keys …`: makes a keys file, and rotates what is in it while everything runs. It refuses to take out a key
//! that something needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use chrono::{DateTime, TimeDelta, Utc};
use command_api::{Clock, SystemClock};
use serde_json::{Value, json};
use vault::{KeyRing, Keys, Rotation, Vault, VaultOptions};

use super::exit::Exit;
use super::out::Out;
use crate::config::Settings;
use crate::verbs::{KeysVerb, Ring};

/// How long a new signing key waits for its turn: by then every cache of the public keys (300 s) has it.
const SIGNING_WAITS: TimeDelta = TimeDelta::minutes(5);
/// How long a new master key waits for its turn: by then every process has it.
const MASTER_WAITS: TimeDelta = TimeDelta::seconds(10);
/// How long tokens of a signing key are good after its turn has ended, clocks that differ included.
const TOKENS_LAST: TimeDelta = TimeDelta::minutes(6);

/// Does it.
pub async fn act(settings: &Settings, verb: &KeysVerb) -> Result<Exit> {
    let now = SystemClock.now();
    match verb {
        KeysVerb::Create { file } => {
            Keys::create(file)?;
            eprintln!(
                "wrote {}; give it to every process, and keep a copy in another place than the data",
                file.display()
            );
        }
        KeysVerb::Rotate { ring, delay } => rotate(settings, *ring, *delay, now)?,
        KeysVerb::List => list(settings, now).await?,
        KeysVerb::Remove { ring, id, consent } => {
            let plan = format!(
                "takes the key {id} out of {}; what only it signed or wrapped is no good any more",
                settings.keys.display()
            );
            if !consent.to(&plan, id)? {
                return Ok(Exit::Done);
            }
            remove(settings, *ring, id, now).await?;
            eprintln!(
                "removed the key {id} from {}; keep the new file's copy in another place than the data",
                settings.keys.display()
            );
        }
    }
    Ok(Exit::Done)
}

fn rotate(
    settings: &Settings,
    ring: Ring,
    delay: Option<TimeDelta>,
    now: DateTime<Utc>,
) -> Result<()> {
    let file = settings.keys.display();
    let (which, waits) = match ring {
        Ring::Signing => (KeyRing::Signing, SIGNING_WAITS),
        Ring::Master => (KeyRing::Master, MASTER_WAITS),
    };
    let delay = delay.unwrap_or(waits);
    let rotated = Keys::rotate(&settings.keys, which, now + delay, now)?;
    let Rotation {
        current,
        next,
        from,
    } = &rotated;
    let object = json!({
        "file": settings.keys, "ring": ring_name(which), "current": current, "next": next, "from": from,
    });
    let mut out = Out::new(settings.output);
    out.record(&object, || {
        let then = match ring {
            Ring::Signing => format!(
                "{}  {next} signs in the place of {current}\n{}  no token of {current} is good any more: \
                 `showcaller keys remove signing {current}`",
                shown(*from),
                shown(*from + TOKENS_LAST)
            ),
            Ring::Master => format!(
                "{}  {next} wraps new data keys in the place of {current}; a running command API wraps the others anew\n\
                 after that  `showcaller keys list` shows what {current} still wraps: at none, `showcaller keys remove master {current}`",
                shown(*from)
            ),
        };
        format!(
            "now      the new key {next} is in {file}; processes that read this file know it within a second: \
             give it to all others before its turn, and keep a copy in another place than the data\n{then}"
        )
    })?;
    out.finish()?;
    if delay < waits {
        eprintln!(
            "a turn in less than {} s may come before every process, or every cache of the public keys, has the new key",
            waits.num_seconds()
        );
    }
    Ok(())
}

async fn list(settings: &Settings, now: DateTime<Utc>) -> Result<()> {
    let keys = Arc::new(Keys::load(&settings.keys)?);
    let wrapped = match open_vault(settings, &keys).await {
        Ok(vault) => vault.data_keys_by_master().await.map_err(Into::into),
        Err(error) => Err(error),
    };
    let mut found = Vec::new();
    for ring in [KeyRing::Signing, KeyRing::Master] {
        let state = keys.ring(ring, now);
        for id in &state.keys {
            let turn = match &state.next {
                _ if *id == state.current => "current".to_owned(),
                Some((next, from)) if next == id => format!("next, from {}", shown(*from)),
                _ => "old".to_owned(),
            };
            let count = match (&wrapped, ring) {
                (Ok(wrapped), KeyRing::Master) => json!(wrapped.get(id).copied().unwrap_or(0)),
                (Err(_), KeyRing::Master) => json!("?"),
                (_, KeyRing::Signing) => Value::Null,
            };
            found.push(json!({
                "keys": ring_name(ring), "id": id, "state": turn, "data_keys": count,
            }));
        }
    }
    let mut out = Out::new(settings.output);
    let columns = [
        ("keys", "keys"),
        ("id", "id"),
        ("state", "state"),
        ("data_keys", "data keys"),
    ];
    out.table(&columns, &found)?;
    out.finish()?;
    let wrapped = match wrapped {
        Ok(wrapped) => wrapped,
        Err(error) => {
            eprintln!("what the master keys wrap is not known: {error:#}");
            BTreeMap::new()
        }
    };
    let held = keys.ring(KeyRing::Master, now).keys;
    for (id, count) in wrapped.iter().filter(|(id, _)| !held.contains(id)) {
        eprintln!(
            "{count} data keys are wrapped by the master key {id}, which is not in the file: put it back"
        );
    }
    Ok(())
}

async fn remove(settings: &Settings, ring: Ring, id: &str, now: DateTime<Utc>) -> Result<()> {
    match ring {
        Ring::Signing => Keys::remove_signing_key(&settings.keys, id, now)?,
        Ring::Master => {
            let keys = Arc::new(Keys::load(&settings.keys)?);
            let vault = open_vault(settings, &keys).await.context(
                "a master key is removed only when the vault shows that nothing needs it",
            )?;
            vault.remove_master_key(&settings.keys, id, now).await?;
        }
    }
    Ok(())
}

/// The vault, if it is there: a verb makes none.
async fn open_vault(settings: &Settings, keys: &Arc<Keys>) -> Result<Vault> {
    if let Some(path) = settings.vault.sqlite_path().filter(|path| !path.exists()) {
        bail!("there is no vault {}", path.display());
    }
    let options = VaultOptions::default();
    Ok(Vault::open(settings.vault.as_str(), Arc::clone(keys), options).await?)
}

fn ring_name(ring: KeyRing) -> &'static str {
    match ring {
        KeyRing::Signing => "signing",
        KeyRing::Master => "master",
    }
}

fn shown(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}
