//! TLS on every connection: PostgreSQL, RabbitMQ and EventStoreDB's protocol, each with a certificate of a private authority.
//! Who trusts another authority gets nowhere, and is told why.

use serde_json::json;
use test_support::{Authority, Launch, Postgres, RabbitMq, Showcaller, free_port, psql, temp_dir};

use crate::client::{Client, ME};
use crate::world::{Settings, assert_clean, launch};

/// The settings of a system whose every connection is encrypted, for somebody who trusts this authority.
fn over_tls(settings: &Settings, served: &str, broker: &str, trusted: &Authority) -> Launch {
    let root = trusted.root().display().to_string();
    let checked = |url: &str| format!("{url}?sslmode=verify-full&sslrootcert={root}");
    launch()
        .env(
            "SHOWCALLER_EVENTS",
            format!("esdb://{served}?tlsCaFile={root}"),
        )
        .env("SHOWCALLER_VAULT", checked(&settings.vault))
        .env("SHOWCALLER_DATABASE", checked(&settings.database))
        .env("SHOWCALLER_BROKER", broker)
        .env("SHOWCALLER_KEYS", settings.keys())
        // Whom connections without a setting of their own trust.
        .env("SSL_CERT_FILE", &root)
}

/// The log over EventStoreDB's protocol with TLS, read from and written to PostgreSQL over TLS.
async fn serve_log(settings: &Settings, address: &str) -> Showcaller {
    let authority = Authority::shared();
    let certificate = authority.issue("served-log");
    let root = authority.root().display().to_string();
    let events = format!("{}?sslmode=verify-full&sslrootcert={root}", settings.events);
    launch()
        .args(["--role", "event-store", "--insecure"])
        .env("SHOWCALLER_EVENTS", events)
        .env("SHOWCALLER_EVENT_STORE_LISTEN", address)
        .env("SHOWCALLER_EVENT_STORE_CERTIFICATE", certificate.chain)
        .env("SHOWCALLER_EVENT_STORE_KEY", certificate.key)
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_is_encrypted_and_a_certificate_of_somebody_else_is_refused_by_name() {
    let authority = Authority::shared();
    let (postgres, rabbitmq) =
        tokio::join!(Postgres::start_with_tls(authority), RabbitMq::shared());
    let broker = rabbitmq.over_tls(&rabbitmq.fresh_vhost().await);
    let settings = Settings::new(&postgres, &broker).await;
    let served = format!("127.0.0.1:{}", free_port());
    let _log = serve_log(&settings, &served).await;
    let folder = temp_dir();
    let ours = || over_tls(&settings, &served, &broker, authority).folder(folder.path());

    let roles = ours().start().await;
    let client = Client::new(&roles.url());
    let ada = client.person("ada@example.org").await;
    let change = json!({"given_name": "Augusta"});
    let changed = client
        .command(&ada, "update-profile", &change)
        .expect(200)
        .await;
    let seen = client.read(ME, &ada, changed.token()).await;
    assert_eq!(seen.body["given_name"], "Augusta");
    let connections = "SELECT ssl, count(*) > 3 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                       WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() GROUP BY ssl";
    assert_eq!(
        psql(&postgres.url("postgres"), connections).await,
        "t|t",
        "every connection to PostgreSQL is encrypted"
    );
    assert_clean(&ours().args(["verify", "--rows"]).finish().await);

    let stranger = Authority::new();
    let status = over_tls(&settings, &served, &broker, &stranger)
        .folder(folder.path())
        .args(["--output", "json", "status"])
        .finish()
        .await;
    assert_eq!(status.status, 3, "{}{}", status.stdout, status.stderr);
    let told = status.stdout.lines();
    let told: Vec<serde_json::Value> = told
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    for name in ["event store", "read models", "vault", "broker"] {
        let dependency = told.iter().find(|one| one["name"] == name);
        let dependency = dependency.expect("it is looked at");
        println!("{dependency}");
        let says_why = dependency["problem"]
            .as_str()
            .is_some_and(|problem| problem.contains("certificate"));
        assert!(dependency["up"] == false && says_why, "{told:#?}");
    }
    assert_eq!(roles.terminate().await, 0);
}
