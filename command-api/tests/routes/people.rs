//! Who appears in the tests of the access rules: people with and without roles, second factors and API keys.

use aws_lc_rs::hmac;
use command_api::Clock;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::system::{Answer, PASSWORD, System, account, command, log_in, post};

/// Somebody who is logged in.
#[derive(Debug, Clone)]
pub struct Person {
    pub email: String,
    pub account: String,
    pub session: String,
    pub access: String,
    pub refresh: String,
}

impl Person {
    fn of(email: &str, answer: &Answer) -> Self {
        Self {
            email: email.to_owned(),
            account: answer.text("account_id"),
            session: answer.text("session_id"),
            access: answer.text("access_token"),
            refresh: answer.text("refresh_token"),
        }
    }
}

/// An application that shows codes.
#[derive(Debug, Clone)]
pub struct Device {
    pub secret: String,
    pub recovery_codes: Vec<String>,
}

impl Device {
    /// The code of a moment (RFC 6238).
    pub fn code(&self, system: &System) -> String {
        let bits: Vec<_> = self
            .secret
            .chars()
            .map(|c| "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".find(c).unwrap())
            .flat_map(|digit| (0..5).rev().map(move |bit| (digit >> bit) & 1))
            .collect();
        let byte = |bits: &[usize]| {
            let byte = bits.iter().fold(0, |byte, bit| byte << 1 | *bit);
            u8::try_from(byte).unwrap()
        };
        let seed: Vec<_> = bits.chunks(8).map(byte).collect();
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &seed);
        let step = system.clock.now().timestamp() / 30;
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let offset = usize::from(tag.as_ref()[19] & 15);
        let word = u32::from_be_bytes(tag.as_ref()[offset..offset + 4].try_into().unwrap());
        format!("{:06}", (word & 0x7fff_ffff) % 1_000_000)
    }

    /// A code of the next step: each counts once.
    pub fn next_code(&self, system: &System) -> String {
        system.clock.advance(30);
        self.code(system)
    }
}

impl System {
    pub async fn person(&self, email: &str) -> Person {
        account(&self.one, email).await;
        self.returning(email).await
    }

    pub async fn returning(&self, email: &str) -> Person {
        Person::of(email, &log_in(&self.one, email).send().await.expect(201))
    }

    pub async fn with_code(&self, email: &str, code: &str) -> Answer {
        let body = json!({"email": email, "password": PASSWORD, "code": code});
        post(&self.one, "/v1/sessions").body(body).send().await
    }

    /// Somebody whose address is proven.
    pub async fn verified(&self, email: &str) -> Person {
        let person = self.person(email).await;
        let mail = self.mail("verify_email", email).await;
        let body = json!({ "code": mail["code"] });
        self.give(&person, "verify-email", body).await.expect(200);
        person
    }

    pub async fn give(&self, person: &Person, name: &str, body: Value) -> Answer {
        command(&self.one, &person.access, name)
            .body(body)
            .send()
            .await
    }

    /// Sets up a second factor; the session goes on without.
    pub async fn second_factor(&self, person: &Person) -> Device {
        let body = json!({ "password": PASSWORD });
        let enrolled = self.give(person, "enroll-totp", body).await.expect(200);
        let mut device = Device {
            secret: enrolled.text("secret"),
            recovery_codes: Vec::new(),
        };
        let body = json!({ "code": device.code(self) });
        let confirmed = self.give(person, "confirm-totp", body).await.expect(200);
        let codes = confirmed.body["recovery_codes"].as_array().unwrap().iter();
        device.recovery_codes = codes
            .map(|code| code.as_str().unwrap().to_owned())
            .collect();
        device
    }

    /// An operator: as they log in before they have a second factor, and after.
    pub async fn operator(&self, email: &str) -> (Person, Person, Device) {
        let stores = self.stores();
        let made = command_api::accounts::operator::create(
            &stores,
            "Test",
            email,
            PASSWORD.to_owned().into(),
            "Olga",
            &*self.clock,
        );
        made.await.unwrap();
        let before = self.returning(email).await;
        let device = self.second_factor(&before).await;
        let code = device.next_code(self);
        let after = self.with_code(email, &code).await.expect(201);
        (before, Person::of(email, &after), device)
    }

    /// An API key of this account, whatever its owner may do.
    pub async fn api_key(&self, account: &str, scopes: &[&str]) -> String {
        let scopes: Vec<_> = scopes.iter().map(|&scope| scope.to_owned()).collect();
        let until = self.clock.now() + chrono::TimeDelta::days(1);
        let account: Uuid = account.parse().unwrap();
        let text = self
            .vault
            .store_api_key(vault::random_uuid(), account, &scopes, until)
            .await
            .unwrap();
        text.expose_secret().to_owned()
    }

    /// Everything that waits to be mailed, taken out.
    pub async fn mails(&self) -> Vec<Value> {
        let due = self.vault.due_mail(self.clock.now(), 100).await.unwrap();
        let mut mails = Vec::new();
        for mail in due.mail {
            self.vault.mail_sent(mail.id).await.unwrap();
            let mut content = mail.content["content"].clone();
            content["to"] = mail.content["to"].clone();
            if let Some((_, token)) = content["link"]
                .as_str()
                .and_then(|l| l.split_once("token="))
            {
                content["token"] = json!(token);
            }
            mails.push(content);
        }
        mails
    }

    /// The mail of a kind that waits for this address.
    pub async fn mail(&self, kind: &str, to: &str) -> Value {
        let mails = self.mails().await;
        let found = mails
            .iter()
            .find(|mail| mail["kind"] == kind && mail["to"] == to);
        found
            .unwrap_or_else(|| panic!("no {kind} in {mails:?}"))
            .clone()
    }
}
