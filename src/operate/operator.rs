//! `showcaller operator create`: the first account that may do everything.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use command_api::accounts::operator;
use command_api::{Stores, SystemClock};
use secrecy::{ExposeSecret, SecretString};

use super::exit::Exit;
use super::out::Out;
use crate::config::Settings;
use crate::open;
use crate::verbs::OperatorVerb;

/// The longest line read as a password, in bytes.
const LINE: u64 = 4 * 1024;

/// Makes an operator.
pub async fn act(settings: &Settings, verb: &OperatorVerb) -> Result<Exit> {
    let OperatorVerb::Create {
        email,
        display_name,
        ..
    } = verb;
    let password = password()?;
    let keys = open::keys(settings)?;
    let log = open::events(settings).await?;
    let stores = Stores {
        log: Arc::clone(&log),
        vault: open::vault(settings, &keys).await?,
        keys,
    };
    let made = operator::create(
        &stores,
        &settings.app_name,
        email,
        password,
        display_name,
        &SystemClock,
    )
    .await;
    log.close().await;
    let made = made?;
    let uri = made.otpauth_uri.expose_secret();
    let mut out = Out::new(settings.output);
    let object = serde_json::json!({"account": made.account, "otpauth_uri": uri});
    out.record(&object, || uri.to_owned())?;
    out.finish()?;
    eprintln!(
        "made the operator {}; add the URI above to an authenticator application, log in, send a code to\n\
         POST /v1/accounts/me/confirm-totp, and log in again with a code: only then the role counts",
        made.account
    );
    Ok(Exit::Done)
}

fn password() -> Result<SecretString> {
    use std::io::{BufRead, Read};
    let mut line = zeroize::Zeroizing::new(String::new());
    std::io::stdin()
        .lock()
        .take(LINE)
        .read_line(&mut line)
        .context("the password cannot be read from standard input")?;
    let text = line.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        bail!(
            "standard input holds no password: write `showcaller operator create … --password-stdin <password.txt`"
        );
    }
    Ok(text.into())
}
