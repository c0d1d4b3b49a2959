//! A small SMTP server for tests: it knows a few commands, records what it got, and misbehaves as it is told.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use lettre::transport::smtp::client::Certificate;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// What the server does at a command instead of what it should.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    Line(&'static str),
    Hang,
    Drop,
}

/// `connect` is the greeting, `text` the end of the content; the others are SMTP's verbs.
pub(crate) type Script = HashMap<&'static str, Answer>;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Security {
    None,
    StartTls,
    Tls,
}

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) connections: usize,
    pub(crate) commands: Vec<String>,
    pub(crate) mails: Vec<String>,
    /// Whether the last connection was encrypted when the last mail came.
    pub(crate) encrypted: bool,
}

pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) certificate: Certificate,
    script: Mutex<Script>,
    seen: Mutex<Seen>,
    extensions: Vec<&'static str>,
    security: Security,
    tls: TlsAcceptor,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Server {
    pub(crate) async fn start(
        security: Security,
        extensions: &[&'static str],
        script: impl IntoIterator<Item = (&'static str, Answer)>,
    ) -> Arc<Self> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Arc::new(Self {
            port: listener.local_addr().unwrap().port(),
            certificate: Certificate::from_der(made.cert.der().to_vec()).unwrap(),
            script: Mutex::new(script.into_iter().collect()),
            seen: Mutex::new(Seen::default()),
            extensions: extensions.to_vec(),
            security,
            tls: TlsAcceptor::from(Arc::new(config)),
        });
        let accepting = Arc::clone(&server);
        // Ends with the test's run time.
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = Arc::clone(&accepting);
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        server
    }

    pub(crate) fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap())
    }

    pub(crate) fn behave(&self, script: impl IntoIterator<Item = (&'static str, Answer)>) {
        *self.script.lock().unwrap() = script.into_iter().collect();
    }

    async fn serve(&self, stream: TcpStream) {
        self.seen.lock().unwrap().connections += 1;
        let stream: Box<dyn Stream> = if self.security == Security::Tls {
            match self.tls.accept(stream).await {
                Ok(stream) => Box::new(stream),
                Err(_) => return,
            }
        } else {
            Box::new(stream)
        };
        let encrypted = self.security == Security::Tls;
        if let Some(stream) = self.talk(stream, true, encrypted).await {
            let Ok(stream) = self.tls.accept(stream).await else {
                return;
            };
            self.talk(Box::new(stream), false, true).await;
        }
    }

    /// Talks until the client leaves; gives the stream back when it asks for TLS.
    async fn talk(
        &self,
        stream: Box<dyn Stream>,
        greet: bool,
        encrypted: bool,
    ) -> Option<Box<dyn Stream>> {
        let mut stream = BufReader::new(stream);
        if greet {
            self.answer(&mut stream, "connect", "220 test ESMTP")
                .await?;
        }
        loop {
            let line = read_line(&mut stream).await?;
            self.seen.lock().unwrap().commands.push(line.clone());
            let verb = line.split([' ', ':']).next().unwrap().to_uppercase();
            let usual = match verb.as_str() {
                "EHLO" => &self.extensions(encrypted),
                "STARTTLS" => {
                    self.answer(&mut stream, &verb, "220 go on").await?;
                    return Some(stream.into_inner());
                }
                "AUTH" => "235 welcome",
                "DATA" => "354 go on",
                "MAIL" | "RCPT" | "NOOP" => "250 ok",
                _ => "221 bye",
            };
            let told = self.answer(&mut stream, &verb, usual).await?;
            if verb == "DATA" && told.starts_with("354") {
                self.take_in(&mut stream, encrypted).await?;
            }
            if verb == "QUIT" {
                return None;
            }
        }
    }

    fn extensions(&self, encrypted: bool) -> String {
        let offers_tls = self.security == Security::StartTls && !encrypted;
        let mut lines = String::from("250-test\r\n");
        for extension in offers_tls
            .then_some(&"STARTTLS")
            .into_iter()
            .chain(&self.extensions)
        {
            write!(lines, "250-{extension}\r\n").unwrap();
        }
        lines + "250 HELP"
    }

    async fn take_in(
        &self,
        stream: &mut BufReader<Box<dyn Stream>>,
        encrypted: bool,
    ) -> Option<()> {
        let mut mail = String::new();
        loop {
            let line = read_line(stream).await?;
            if line == "." {
                break;
            }
            // RFC 5321, 4.5.2: a line that begins with a dot was given another.
            mail.push_str(line.strip_prefix('.').unwrap_or(&line));
            mail.push('\n');
        }
        let told = self.answer(stream, "text", "250 2.0.0 queued").await?;
        if told.starts_with("250") {
            let mut seen = self.seen.lock().unwrap();
            seen.mails.push(mail);
            seen.encrypted = encrypted;
        }
        Some(())
    }

    /// Gives the usual answer, or does what the script says. `None` ends the connection.
    async fn answer(
        &self,
        stream: &mut BufReader<Box<dyn Stream>>,
        step: &str,
        usual: &str,
    ) -> Option<String> {
        let told = self.script.lock().unwrap().get(step).copied();
        let line = match told {
            None => usual,
            Some(Answer::Line(line)) => line,
            Some(Answer::Drop) => return None,
            Some(Answer::Hang) => std::future::pending().await,
        };
        stream
            .write_all(format!("{line}\r\n").as_bytes())
            .await
            .ok()?;
        stream.flush().await.ok()?;
        Some(line.to_owned())
    }
}

async fn read_line(stream: &mut BufReader<Box<dyn Stream>>) -> Option<String> {
    let mut line = String::new();
    match stream.read_line(&mut line).await {
        Ok(1..) => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
        _ => None,
    }
}
