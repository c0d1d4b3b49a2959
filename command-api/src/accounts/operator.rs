//! The first operator: made where the system runs, by somebody who holds its keys. Nothing is open by default, so nobody
//! can become one over HTTP before there is one.

use async_recursion::async_recursion as boxed;
use events::account::Profile;
use events::{Actor, CommandId, Personal};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;
use vault::{
    ChallengeError, EnrollError, Intent, Purpose, Settled, Vault, normalise_email, password_policy,
};

use super::decider::{Account, Command};
use super::{otpauth, stream_of};
use crate::clock::Clock;
use crate::order::{Order, Origin};
use crate::policy::OPERATOR;
use crate::{CommandError, Executor, Stores, rules};

/// The kind of the intent that stands until the account is there.
pub(super) const APPOINT: &str = "appoint";

/// Why no operator was made.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// What was given is not valid.
    #[error("{0}")]
    Invalid(String),
    /// The address belongs to a verified account.
    #[error(
        "an account has this address already: another operator can grant it the role with POST /v1/accounts/{{id}}/grant-role"
    )]
    Taken,
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] CommandError),
}

impl From<vault::Error> for OperatorError {
    fn from(error: vault::Error) -> Self {
        Self::Fault(error.into())
    }
}

/// A new operator.
pub struct Operator {
    /// The account.
    pub account: Uuid,
    /// The secret of the second factor, for an authenticator application; it is confirmed by the first log-in's command.
    pub otpauth_uri: SecretString,
}

/// Makes a verified account with the role `operator`, and a second factor that waits for its first code.
#[boxed]
pub async fn create(
    stores: &Stores,
    app_name: &str,
    email: &str,
    password: SecretString,
    display_name: &str,
    clock: &dyn Clock,
) -> Result<Operator, OperatorError> {
    let invalid = |(_, detail): crate::FieldProblem| OperatorError::Invalid(detail);
    let email = rules::EMAIL.check(email).map_err(invalid)?;
    let name = rules::NAME.check(display_name).map_err(invalid)?;
    password_policy(password.expose_secret())
        .map_err(|problem| OperatorError::Invalid(problem.to_string()))?;
    let (vault, now) = (&stores.vault, clock.now());
    let claim = stores.keys.claim_hash(&normalise_email(&email));
    if vault.claims(claim).await?.verified.is_some() {
        return Err(OperatorError::Taken);
    }
    let command_id = CommandId(vault::random_uuid());
    let account = command_id.derive("stream");
    let credential_id = command_id.derive("credential");
    vault
        .create_data_key(account)
        .await
        .map_err(CommandError::from)?;
    let phc = vault.hash_password(password).await?;
    vault.store_credential(credential_id, account, &phc).await?;
    let intent = claim_at_once(vault, account, claim, now).await?;
    let origin = Origin {
        actor: Actor::System("operator create".into()),
        session: None,
        address: None,
        now,
        correlation_id: vault::random_uuid(),
        traceparent: None,
    };
    Executor::<Account>::new(stores.clone(), std::sync::Arc::default())
        .execute(Order {
            stream: &stream_of::<Account>(account)?,
            person: Some(account),
            command: &Command::Appoint {
                email: Personal::Plain(email.clone()),
                credential_id,
                profile: Profile {
                    display_name: Some(Personal::Plain(name)),
                    ..Profile::default()
                },
                role: OPERATOR.into(),
            },
            command_id,
            retryable: false,
            content: &[],
            if_match: None,
            origin: &origin,
        })
        .await?;
    vault.finish_intent(intent.id).await?;
    let secret = match vault.enroll_totp(account).await {
        Ok(secret) => secret,
        Err(EnrollError::Key(error)) => return Err(CommandError::from(error).into()),
        Err(EnrollError::Already) => return Err(CommandError::Conflict.into()),
    };
    Ok(Operator {
        account,
        otpauth_uri: otpauth(app_name, &email, secret.expose_secret()).into(),
    })
}

/// The address needs no mail: whoever runs the system vouches for it.
async fn claim_at_once(
    vault: &Vault,
    account: Uuid,
    claim: [u8; 32],
    now: chrono::DateTime<chrono::Utc>,
) -> Result<Intent, OperatorError> {
    let issued = vault
        .issue_challenge(account, Purpose::VerifyEmail, Some(claim), now)
        .await?;
    let challenge = vault
        .check_link(Purpose::VerifyEmail, issued.link.expose_secret(), now)
        .await
        .map_err(|error| match error {
            ChallengeError::Fault(fault) => CommandError::from(fault),
            ChallengeError::Refused => CommandError::ChallengeRefused,
        })?;
    // The claim and the account are two stores: a claim whose account never came is released by the housekeeping.
    let intent = Intent::new(APPOINT, account, serde_json::Value::Null, now);
    match vault.settle_claim(&challenge, &intent).await? {
        Settled::Verified => Ok(intent),
        Settled::Taken | Settled::Used => Err(OperatorError::Taken),
    }
}
