use super::*;

fn settings(arguments: &[&str]) -> Result<Settings> {
    let line = CommandLine::try_parse_from([&["showcaller"], arguments].concat())
        .map_err(anyhow::Error::from)?;
    line.settings()
}

#[test]
fn every_verb_accepts_every_setting() {
    assert!(
        settings(&[
            "verify",
            "--events",
            "sqlite:x.db",
            "--broker",
            "amqp://h/",
            "--role",
            "relay"
        ])
        .is_ok()
    );
    assert!(settings(&["--listen", "127.0.0.1:0", "streams", "show", "account-1"]).is_ok());
}

#[test]
fn a_role_that_needs_no_broker_is_not_asked_for_one() {
    assert!(settings(&["--role", "command-api"]).is_ok());
    assert!(settings(&["--role", "query-api"]).is_ok());
}

#[test]
fn a_wrong_setting_is_refused_with_what_to_write_instead() {
    for (arguments, advice) in [
        (["--events", "data/events.db"], "sqlite:data/events.db"),
        (["--events", "mysql://h/d"], "postgres://"),
        (["--broker", "http://h"], "amqp://"),
        (["--events", "mongodb://h"], "esdb://"),
        (["--listen", "8080"], "127.0.0.1:8080"),
        (["--role", "projector"], "leave --role out"),
        (["--log", "projector=loud"], "info,projector=debug"),
        (["--metrics-listen", "9464"], "--metrics-listen 127.0.0.1"),
        (["--otlp", "collector:4317"], "--otlp http://127.0.0.1:4317"),
        (["--trace-sample", "2"], "--trace-sample 0.01"),
    ] {
        let message = settings(&arguments).unwrap_err().to_string();
        assert!(message.contains(advice), "{arguments:?} said: {message}");
    }
}

#[test]
fn the_log_is_served_beyond_this_machine_only_with_tls_and_credentials() {
    let role = ["--role", "event-store", "--event-store-listen"];
    let tls = [
        "--event-store-certificate",
        "c.pem",
        "--event-store-key",
        "k.pem",
    ];
    let here = [&role[..], &["127.0.0.1:0", "--insecure"]].concat();
    assert!(settings(&here).unwrap().served_log.insecure);
    assert!(settings(&[&role[..], &["0.0.0.0:2113"], &tls].concat()).is_ok());
    for wrong in [
        [&role[..], &["0.0.0.0:2113"]].concat(),
        [&role[..], &["0.0.0.0:2113", "--insecure"], &tls].concat(),
        [&role[..], &["127.0.0.1:0"], &tls[..2]].concat(),
    ] {
        assert!(settings(&wrong).is_err(), "{wrong:?}");
    }
}
