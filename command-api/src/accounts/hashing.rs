//! Hashing passwords within a request. That has a bound of its own (the machine's cores, and a line of bounded length before
//! them), so meanwhile the request takes no room among those under way.

use secrecy::SecretString;
use vault::{Error, Vault};
use web::set_aside;

/// See [`Vault::hash_password`].
pub(super) async fn hash(vault: &Vault, password: SecretString) -> Result<String, Error> {
    set_aside(vault.hash_password(password)).await
}

/// See [`Vault::verify_password`].
pub(super) async fn verify(
    vault: &Vault,
    phc: Option<&str>,
    password: SecretString,
) -> Result<bool, Error> {
    set_aside(vault.verify_password(phc, password)).await
}
