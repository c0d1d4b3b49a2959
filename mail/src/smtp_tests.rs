//! The SMTP adapter against a server that records, refuses, hangs, and goes away.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use uuid::Uuid;

use crate::letter::Sender;
use crate::smtp::{Limits, Smtp};
use crate::smtp_server::{Answer, Security, Server};
use crate::{Adapter, Letter, Mailer, SendError};

const PLAIN: Security = Security::None;

/// A mailer to the server; it trusts the server's certificate if it is told so.
fn mailer(url: &str, server: &Server, trusting: bool, limits: Limits) -> Mailer {
    let sender = Sender::parse("Show <no-reply@example.org>").unwrap();
    let url = url.replace("PORT", &server.port.to_string());
    let root = trusting.then(|| server.certificate.clone());
    let smtp = Smtp::new(&url, sender.domain(), limits, root).unwrap();
    Mailer::new(sender, Adapter::Smtp(smtp))
}

fn open_line(server: &Server) -> Mailer {
    let url = "smtp://localhost:PORT?tls=off";
    mailer(url, server, false, Limits::default())
}

async fn send_to(mailer: &Mailer, to: &str) -> Result<(), SendError> {
    let letter = Letter {
        to: to.into(),
        subject: "Hello".into(),
        text: "One\n.\nTwo\n".into(),
    };
    mailer
        .send(&letter, Uuid::from_u128(7), DateTime::UNIX_EPOCH)
        .await
}

async fn send(mailer: &Mailer) -> Result<(), SendError> {
    send_to(mailer, "ada@example.org").await
}

fn unavailable(reason: &str) -> Result<(), SendError> {
    Err(SendError::Unavailable(reason.into()))
}

fn refused(reason: &str) -> Result<(), SendError> {
    Err(SendError::Refused(reason.into()))
}

#[tokio::test]
async fn a_mail_arrives_whole_and_the_next_uses_the_same_connection() {
    let server = Server::start(PLAIN, &[], []).await;
    let mailer = open_line(&server);
    send(&mailer).await.unwrap();
    send(&mailer.clone()).await.unwrap();
    server.seen(|seen| {
        assert_eq!(seen.connections, 1);
        assert_eq!(
            seen.commands,
            [
                "EHLO example.org",
                "MAIL FROM:<no-reply@example.org>",
                "RCPT TO:<ada@example.org>",
                "DATA",
                "NOOP",
                "MAIL FROM:<no-reply@example.org>",
                "RCPT TO:<ada@example.org>",
                "DATA",
            ]
        );
        assert_eq!(seen.mails.len(), 2);
        assert_eq!(seen.mails[0], seen.mails[1]);
        let mail = &seen.mails[0];
        assert!(mail.contains("Message-ID: <00000000-0000-0000-0000-000000000007@example.org>\n"));
        assert!(mail.contains("\n\nOne\n.\nTwo\n"), "{mail}");
    });
}

#[tokio::test]
async fn mails_at_once_share_few_connections() {
    let server = Server::start(PLAIN, &[], []).await;
    let mailer = open_line(&server);
    let sending: Vec<_> = (0..20)
        .map(|_| {
            let mailer = mailer.clone();
            tokio::spawn(async move { send(&mailer).await })
        })
        .collect();
    for sent in sending {
        sent.await.unwrap().unwrap();
    }
    server.seen(|seen| {
        assert_eq!(seen.mails.len(), 20);
        assert!(seen.connections <= 4, "{}", seen.connections);
    });
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closed_is_replaced() {
    let server = Server::start(PLAIN, &[], []).await;
    let mailer = open_line(&server);
    send(&mailer).await.unwrap();
    server.behave([("NOOP", Answer::Drop)]);
    send(&mailer).await.unwrap();
    server.seen(|seen| assert_eq!((seen.connections, seen.mails.len()), (2, 2)));
}

#[tokio::test]
async fn four_hundreds_may_pass_and_five_hundreds_are_for_good_and_no_word_of_the_server_is_repeated()
 {
    let step = ["MAIL", "RCPT", "DATA", "text"];
    for step in step {
        let server = Server::start(PLAIN, &[], []).await;
        let mailer = open_line(&server);
        server.behave([(step, Answer::Line("451 4.3.0 <ada@example.org> later"))]);
        assert_eq!(
            send(&mailer).await,
            unavailable("the server answered 451 4.3.0")
        );
        server.behave([(
            step,
            Answer::Line("550-5.1.1 <ada@example.org> is\r\n550 5.1.1 nobody"),
        )]);
        assert_eq!(
            send(&mailer).await,
            refused("the server answered 550 5.1.1")
        );
        server.behave([(step, Answer::Line("550 ada@example.org is nobody"))]);
        assert_eq!(send(&mailer).await, refused("the server answered 550"));
        server.behave([(step, Answer::Line("530 5.7.0 log in first"))]);
        assert_eq!(
            send(&mailer).await,
            unavailable("the server answered 530 5.7.0")
        );
        server.behave([(step, Answer::Line("ada@example.org, what?"))]);
        assert_eq!(
            send(&mailer).await,
            unavailable("the server's answer can't be understood")
        );
        server.behave([]);
        send(&mailer).await.unwrap();
    }
}

#[tokio::test]
async fn a_greeting_or_a_log_in_that_is_refused_says_nothing_against_the_mail() {
    for step in ["connect", "EHLO", "AUTH"] {
        let server = Server::start(
            PLAIN,
            &["AUTH PLAIN"],
            [(step, Answer::Line("535 5.7.8 no, ada"))],
        )
        .await;
        let url = "smtp://ada:secret@localhost:PORT?tls=off";
        let mailer = mailer(url, &server, false, Limits::default());
        assert_eq!(
            send(&mailer).await,
            unavailable("the server answered 535 5.7.8"),
            "{step}"
        );
    }
}

#[tokio::test]
async fn answers_that_are_out_of_step_are_not_believed() {
    for (step, answer) in [
        ("DATA", "250 ok"),
        ("text", "354 go on"),
        ("RCPT", "354 go on"),
    ] {
        let server = Server::start(PLAIN, &[], [(step, Answer::Line(answer))]).await;
        assert_eq!(
            send(&open_line(&server)).await,
            unavailable("the server's answers are out of step"),
            "{step}"
        );
    }
}

#[tokio::test]
async fn a_server_that_goes_away_is_unavailable_and_its_connection_is_not_used_again() {
    for step in ["connect", "EHLO", "MAIL", "RCPT", "DATA", "text"] {
        let server = Server::start(PLAIN, &[], [(step, Answer::Drop)]).await;
        let mailer = open_line(&server);
        let sent = send(&mailer).await;
        assert!(
            matches!(sent, Err(SendError::Unavailable(_))),
            "{step}: {sent:?}"
        );
        server.behave([]);
        send(&mailer).await.unwrap();
        server.seen(|seen| assert_eq!((seen.connections, seen.mails.len()), (2, 1), "{step}"));
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_unavailable() {
    let server = Server::start(PLAIN, &[], []).await;
    let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "smtp://127.0.0.1:{}?tls=off",
        unused.local_addr().unwrap().port()
    );
    drop(unused);
    let sent = send(&mailer(&url, &server, false, Limits::default())).await;
    assert!(matches!(sent, Err(SendError::Unavailable(_))), "{sent:?}");
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_and_its_connection_is_not_used_again() {
    // All steps at once, so that the bounds can be long enough for a busy machine.
    let steps: Vec<_> = ["connect", "EHLO", "MAIL", "RCPT", "DATA", "text"]
        .map(|step| tokio::spawn(is_given_up_at(step)))
        .into();
    for step in steps {
        step.await.unwrap();
    }
}

async fn is_given_up_at(step: &'static str) {
    let server = Server::start(PLAIN, &[], [(step, Answer::Hang)]).await;
    let limits = Limits {
        connect: Duration::from_secs(1),
        send: Duration::from_secs(2),
    };
    let mailer = mailer("smtp://localhost:PORT?tls=off", &server, false, limits);
    let reason = match step {
        "connect" | "EHLO" => "the server takes too long to connect",
        _ => "the server takes too long",
    };
    assert_eq!(send(&mailer).await, unavailable(reason), "{step}");
    server.behave([]);
    send(&mailer).await.unwrap();
    server.seen(|seen| {
        assert_eq!((seen.connections, seen.mails.len()), (2, 1), "{step}");
    });
}

#[tokio::test]
async fn a_refusal_stands_though_the_server_hangs_at_the_good_bye() {
    let script = [("RCPT", Answer::Line("550 no")), ("QUIT", Answer::Hang)];
    let server = Server::start(PLAIN, &[], script).await;
    assert_eq!(
        send(&open_line(&server)).await,
        refused("the server answered 550")
    );
}

/// `smtp://` and `smtps://` with the server that belongs to each, and a log-in.
async fn encrypted() -> [(&'static str, Arc<Server>); 2] {
    let extensions = ["AUTH PLAIN LOGIN"];
    [
        (
            "smtp://ada:p%40ss@localhost:PORT",
            Server::start(Security::StartTls, &extensions, []).await,
        ),
        (
            "smtps://ada:p%40ss@localhost:PORT",
            Server::start(Security::Tls, &extensions, []).await,
        ),
    ]
}

#[tokio::test]
async fn over_tls_it_logs_in_and_sends() {
    for (url, server) in encrypted().await {
        let mailer = mailer(url, &server, true, Limits::default());
        send(&mailer).await.unwrap();
        server.seen(|seen| {
            assert!(seen.encrypted && seen.mails.len() == 1, "{url}");
            // base64 of NUL ada NUL p@ss
            assert!(
                seen.commands.contains(&"AUTH PLAIN AGFkYQBwQHNz".into()),
                "{:?}",
                seen.commands
            );
        });
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_refused_before_anything_is_told() {
    for (url, server) in encrypted().await {
        let sent = send(&mailer(url, &server, false, Limits::default())).await;
        let Err(SendError::Unavailable(reason)) = sent else {
            panic!("{url}: {sent:?}")
        };
        assert!(reason.contains("certificate"), "{reason}");
        server.seen(|seen| {
            let told = |line: &String| !line.starts_with("EHLO") && line != "STARTTLS";
            assert!(!seen.commands.iter().any(told), "{:?}", seen.commands);
        });
    }
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused() {
    for (url, server) in encrypted().await {
        let url = url.replace("localhost", "127.0.0.1");
        let sent = send(&mailer(&url, &server, true, Limits::default())).await;
        let Err(SendError::Unavailable(reason)) = sent else {
            panic!("{url}: {sent:?}")
        };
        assert!(reason.contains("certificate"), "{reason}");
    }
}

#[tokio::test]
async fn a_server_without_starttls_gets_neither_log_in_nor_mail() {
    let server = Server::start(PLAIN, &["AUTH PLAIN"], []).await;
    let sent = send(&mailer(
        "smtp://ada:secret@localhost:PORT",
        &server,
        true,
        Limits::default(),
    ))
    .await;
    let Err(SendError::Unavailable(reason)) = sent else {
        panic!("{sent:?}")
    };
    assert!(reason.contains("STARTTLS"), "{reason}");
    server.seen(|seen| assert_eq!(seen.commands, ["EHLO example.org"]));
}

#[tokio::test]
async fn an_international_domain_needs_nothing_of_the_server() {
    let server = Server::start(PLAIN, &[], []).await;
    send_to(&open_line(&server), "ada@bücher.example")
        .await
        .unwrap();
    server.seen(|seen| {
        let to = "RCPT TO:<ada@xn--bcher-kva.example>".to_owned();
        assert!(seen.commands.contains(&to), "{:?}", seen.commands);
    });
}

#[tokio::test]
async fn an_international_local_part_is_sent_where_the_server_takes_it_and_refused_elsewhere() {
    let able = Server::start(PLAIN, &["SMTPUTF8", "8BITMIME"], []).await;
    send_to(&open_line(&able), "jörg@example.org")
        .await
        .unwrap();
    able.seen(|seen| {
        let from = "MAIL FROM:<no-reply@example.org> SMTPUTF8 BODY=8BITMIME".to_owned();
        assert!(seen.commands.contains(&from), "{:?}", seen.commands);
        assert!(seen.commands.contains(&"RCPT TO:<jörg@example.org>".into()));
        assert!(seen.mails[0].contains("To: jörg@example.org\n"));
    });

    let unable = Server::start(PLAIN, &["8BITMIME"], []).await;
    assert_eq!(
        send_to(&open_line(&unable), "jörg@example.org").await,
        refused("the server takes no address beyond ASCII (SMTPUTF8)")
    );
    unable.seen(|seen| assert!(seen.mails.is_empty()));
}
