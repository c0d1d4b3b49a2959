//! `showcaller keys create FILE`.

use std::process::ExitCode;

use anyhow::Result;
use vault::Keys;

use crate::config::KeysVerb;

/// Makes the keys file.
pub fn act(verb: &KeysVerb) -> Result<ExitCode> {
    let KeysVerb::Create { file } = verb;
    Keys::create(file)?;
    eprintln!(
        "wrote {}; give it to every process, and keep a copy in another place than the data",
        file.display()
    );
    Ok(ExitCode::SUCCESS)
}
