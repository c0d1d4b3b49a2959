//! A private RabbitMQ broker: a node, a cookie and a port mapper (epmd) of its own, all on loopback, no plugins.
//!
//! Refuses: to be an AMQP client (tests bring lapin), to run without the real broker, to touch a broker that runs on the machine, and to share a virtual host
//! between tests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};

use crate::certificates::Authority;
use crate::guard::Guard;
use crate::ports::free_port;
use crate::wait::{becomes_true, blocking};

const INSTALL: &str =
    "RabbitMQ is not installed, and the tests need it: apt-get install -y rabbitmq-server";
const START_WITHIN: Duration = Duration::from_mins(2);
const STOP_WITHIN: Duration = Duration::from_mins(1);
/// Virtual hosts are made this many at a time: one costs as much as all.
const VHOSTS_AT_ONCE: u32 = 8;
/// RabbitMQ's default, which `unblock` goes back to.
const MEMORY_WATERMARK: &str = "0.4";

static SHARED: OnceLock<RabbitMq> = OnceLock::new();

/// A running broker. Clones are the same broker; it goes with the last one.
#[derive(Clone, Debug)]
pub struct RabbitMq(Arc<Broker>);

#[derive(Debug)]
struct Broker {
    guard: Guard,
    port: u16,
    tls_port: u16,
    environment: Vec<(&'static str, String)>,
    /// One administrator's command at a time: they listen on one reserved port.
    control: Mutex<()>,
    vhosts: Mutex<Vhosts>,
}

#[derive(Debug, Default)]
struct Vhosts {
    made: u32,
    unused: Vec<String>,
}

/// How many messages a queue holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Waiting for a consumer.
    pub ready: u64,
    /// Handed to a consumer that has not acknowledged them.
    pub unacknowledged: u64,
}

impl RabbitMq {
    /// The one broker of this test process, started by the first test that asks. Nobody stops, blocks or restarts it.
    pub async fn shared() -> &'static Self {
        blocking(|| SHARED.get_or_init(|| Self(Arc::new(Broker::start())))).await
    }

    /// A broker of one's own, to stop, kill, block and restart.
    pub async fn start() -> Self {
        blocking(|| Self(Arc::new(Broker::start()))).await
    }

    /// A broker of one's own that reads this file as well, as RabbitMQ's image reads those in `/etc/rabbitmq/conf.d`.
    pub async fn start_with(configuration: &Path) -> Self {
        let configuration = configuration.to_owned();
        blocking(move || Self(Arc::new(Broker::start_with(Some(&configuration))))).await
    }

    /// The variables by which RabbitMQ's own programs find this node.
    pub fn variables(&self) -> Vec<(String, String)> {
        let own = self.0.environment.iter();
        own.map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect()
    }

    /// The folder of RabbitMQ's own programs.
    pub fn programs() -> PathBuf {
        scripts()
    }

    /// The URL of the default virtual host.
    pub fn url(&self) -> String {
        self.0.url("%2f")
    }

    /// The port it listens on, also after a restart.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// The same virtual host over TLS, with a certificate of [`Authority::shared`].
    pub fn over_tls(&self, url: &str) -> String {
        let plain = format!(":{}/", self.0.port);
        let tls = format!(":{}/", self.0.tls_port);
        url.replacen("amqp:", "amqps:", 1).replacen(&plain, &tls, 1)
    }

    /// Where its files are, the messages among them, to look for bytes that must not be there.
    pub fn folder(&self) -> &Path {
        self.0.guard.folder()
    }

    /// The URL of a new virtual host.
    pub async fn fresh_vhost(&self) -> String {
        self.run(Broker::fresh_vhost).await
    }

    /// Stops the node in order. The data stays.
    pub async fn stop(&self) {
        self.run(|broker| _ = broker.guard.stop("TERM", STOP_WITHIN))
            .await;
    }

    /// Kills the node with SIGKILL.
    pub async fn kill(&self) {
        self.run(|broker| _ = broker.guard.stop("KILL", STOP_WITHIN))
            .await;
    }

    /// Starts the node again on the same port and data; stops it first if it runs.
    pub async fn restart(&self) {
        self.run(|broker| {
            broker.guard.stop("TERM", STOP_WITHIN);
            broker.run();
        })
        .await;
    }

    /// Stops RabbitMQ within the running node: quicker than `stop`, and clients see the same.
    pub async fn stop_app(&self) {
        self.rabbitmqctl(&["stop_app"]).await;
    }

    /// Starts RabbitMQ within the node again.
    pub async fn start_app(&self) {
        self.rabbitmqctl(&["start_app"]).await;
    }

    /// Cuts every client's connection off; the broker goes on.
    pub async fn drop_connections(&self) {
        self.rabbitmqctl(&["close_all_connections", "the test says so"])
            .await;
    }

    /// Raises the memory alarm: connections that publish are blocked, consumers go on.
    pub async fn block(&self) {
        self.rabbitmqctl(&["set_vm_memory_high_watermark", "0.0000001"])
            .await;
    }

    /// Ends the memory alarm.
    pub async fn unblock(&self) {
        self.rabbitmqctl(&["set_vm_memory_high_watermark", MEMORY_WATERMARK])
            .await;
    }

    /// Every queue of the virtual host with its depth. `vhost` may be a name or a URL. Figures of quorum queues lag by
    /// up to a tenth of a second: wait for them with [`eventually`](crate::eventually).
    pub async fn queue_depths(&self, vhost: &str) -> BTreeMap<String, Depth> {
        let columns = [
            "name",
            "messages_ready",
            "messages_unacknowledged",
            "--formatter",
            "json",
        ];
        let printed = self
            .rabbitmqctl(&[&["list_queues", "-p", &vhost_name(vhost)], &columns[..]].concat())
            .await;
        let queues: Vec<Value> = serde_json::from_str(&printed).expect("rabbitmqctl prints JSON");
        let depth = |queue: &Value| {
            let count = |column: &str| queue[column].as_u64().unwrap_or_default();
            let (ready, unacknowledged) =
                (count("messages_ready"), count("messages_unacknowledged"));
            (
                queue["name"].as_str().unwrap_or_default().to_owned(),
                Depth {
                    ready,
                    unacknowledged,
                },
            )
        };
        queues.iter().map(depth).collect()
    }

    /// Drops the waiting messages of every queue in the virtual host, and says how many queues there were.
    pub async fn purge_all_queues(&self, vhost: &str) -> usize {
        let vhost = erlang_binary(&vhost_name(vhost));
        let purge =
            format!("length([rabbit_amqqueue:purge(Q) || Q <- rabbit_amqqueue:list({vhost})]).");
        self.rabbitmqctl(&["eval", &purge])
            .await
            .trim()
            .parse()
            .expect("a number of queues")
    }

    /// Runs `rabbitmqctl` against this node, and gives what it prints.
    ///
    /// # Panics
    /// When the command fails.
    pub async fn rabbitmqctl(&self, arguments: &[&str]) -> String {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        self.run(move |broker| broker.rabbitmqctl(&arguments)).await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Broker) -> T + Send + 'static) -> T {
        let broker = Arc::clone(&self.0);
        blocking(move || work(&broker)).await
    }
}

impl Broker {
    fn start() -> Self {
        Self::start_with(None)
    }

    fn start_with(configuration: Option<&Path>) -> Self {
        let (port, tls_port, mut environment) = (free_port(), free_port(), Vec::new());
        let guard = Guard::new("rabbitmq", "KILL", |folder| {
            environment = settings(folder, port, tls_port);
            if let Some(file) = configuration {
                let own = folder.join("conf.d");
                fs::create_dir(&own).expect("the broker's folder is ours");
                fs::copy(file, own.join("20-user.conf")).expect("the configuration can be read");
                let all = own.join("*.conf").to_string_lossy().into_owned();
                environment.push(("RABBITMQ_CONFIG_FILES", all));
            }
            let mut command = Command::new("/bin/sh");
            command.args([
                "-c",
                r#"epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 & exec "$0""#,
            ]);
            command
                .arg(scripts().join("rabbitmq-server"))
                .envs(environment.iter().cloned());
            command
        });
        let broker = Self {
            guard,
            port,
            tls_port,
            environment,
            control: Mutex::default(),
            vhosts: Mutex::new(Vhosts::default()),
        };
        broker.run();
        broker
    }

    /// Starts the node and waits until it greets an AMQP client.
    fn run(&self) {
        self.guard.start();
        becomes_true(START_WITHIN, || {
            !self.guard.is_running() || self.greets().is_some()
        });
        let tail = || self.guard.log_tail();
        assert!(
            self.guard.is_running(),
            "RabbitMQ ended while starting\n{}",
            tail()
        );
        assert!(
            self.greets().is_some(),
            "RabbitMQ did not start within {START_WITHIN:?}\n{}",
            tail()
        );
    }

    /// Whether the broker answers the AMQP 0-9-1 header with a method frame (Connection.Start).
    fn greets(&self) -> Option<()> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        stream.write_all(b"AMQP\x00\x00\x09\x01").ok()?;
        let mut frame = [0];
        stream.read_exact(&mut frame).ok()?;
        (frame[0] == 1).then_some(())
    }

    fn url(&self, vhost: &str) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/{vhost}", self.port)
    }

    fn fresh_vhost(&self) -> String {
        let mut vhosts = self
            .vhosts
            .lock()
            .expect("making a virtual host failed in another test");
        if vhosts.unused.is_empty() {
            let numbers = vhosts.made + 1..=vhosts.made + VHOSTS_AT_ONCE;
            let names: Vec<String> = numbers
                .rev()
                .map(|number| format!("test_{number}"))
                .collect();
            let permission = |name| json!({"user": "guest", "vhost": name, "configure": ".*", "write": ".*", "read": ".*"});
            let definitions = json!({
                "vhosts": names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
                "permissions": names.iter().map(permission).collect::<Vec<_>>(),
            });
            let file = self.guard.folder().join("definitions.json");
            fs::write(&file, definitions.to_string()).expect("the broker's folder is ours");
            self.rabbitmqctl(&[
                "import_definitions".into(),
                file.to_string_lossy().into_owned(),
            ]);
            vhosts.made += VHOSTS_AT_ONCE;
            vhosts.unused = names;
        }
        let name = vhosts.unused.pop().expect("some were just made");
        self.url(&name)
    }

    fn rabbitmqctl(&self, arguments: &[String]) -> String {
        let _one_at_a_time = self.control.lock();
        let mut command = Command::new(scripts().join("rabbitmqctl"));
        command
            .arg("--quiet")
            .args(arguments)
            .envs(self.environment.iter().cloned());
        let output = command.output().expect("rabbitmqctl can be started");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "rabbitmqctl {arguments:?}: {}\n{printed}{complaint}",
            output.status
        );
        printed
    }
}

/// Writes the broker's configuration, and gives the environment that keeps a node apart from every other one.
fn settings(folder: &Path, port: u16, tls_port: u16) -> Vec<(&'static str, String)> {
    let mut main = format!("listeners.tcp.1 = 127.0.0.1:{port}\n");
    let authority = Authority::shared();
    let certificate = authority.issue(&format!("rabbitmq-{port}"));
    let _ = write!(
        main,
        "listeners.ssl.1 = 127.0.0.1:{tls_port}\n\
        ssl_options.cacertfile = {}\nssl_options.certfile = {}\nssl_options.keyfile = {}\n",
        authority.root().display(),
        certificate.chain.display(),
        certificate.key.display()
    );
    // A small write-ahead log and a low bar for free disk space: many brokers may run on one machine.
    main.push_str("raft.wal_max_size_bytes = 33554432\ndisk_free_limit.absolute = 64MB\n");
    // Figures of quorum queues are brought up to date ten times a second, not once in five.
    let advanced = "[{rabbit, [{quorum_tick_interval, 100}]}].\n";
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).expect("the broker's folder is ours");
        path.to_string_lossy().into_owned()
    };
    let in_folder = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let (distribution, control) = (free_port(), free_port().to_string());
    let loopback = "-kernel inet_dist_use_interface {127,0,0,1}";
    vec![
        ("HOME", folder.to_string_lossy().into_owned()), // holds the cookie
        ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
        ("ERL_EPMD_PORT", free_port().to_string()),
        (
            "RABBITMQ_ADVANCED_CONFIG_FILE",
            write("advanced.config", advanced),
        ),
        ("RABBITMQ_CONFIG_FILE", write("rabbitmq.conf", &main)),
        ("RABBITMQ_CONF_ENV_FILE", in_folder("no-such-file")),
        ("RABBITMQ_CTL_DIST_PORT_MAX", control.clone()),
        ("RABBITMQ_CTL_DIST_PORT_MIN", control),
        ("RABBITMQ_CTL_ERL_ARGS", loopback.into()),
        ("RABBITMQ_DIST_PORT", distribution.to_string()),
        (
            "RABBITMQ_ENABLED_PLUGINS_FILE",
            write("enabled_plugins", "[].\n"),
        ),
        ("RABBITMQ_LOG_BASE", in_folder("log")),
        ("RABBITMQ_MNESIA_BASE", in_folder("data")),
        ("RABBITMQ_NODENAME", format!("test-{port}@localhost")),
        ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", loopback.into()),
        // Makes the start script become the node instead of its parent, so that signals reach the node.
        ("RUNNING_UNDER_SYSTEMD", "true".into()),
    ]
}

/// RabbitMQ's own scripts: Debian's wrappers in the PATH insist on a user of their own.
fn scripts() -> PathBuf {
    let folder = Path::new("/usr/lib/rabbitmq/bin");
    assert!(folder.join("rabbitmq-server").exists(), "{INSTALL}");
    folder.to_owned()
}

/// The virtual host of a URL, or the name itself.
fn vhost_name(vhost: &str) -> String {
    let Some((_, rest)) = vhost.split_once("://") else {
        return vhost.to_owned();
    };
    let name = rest.split_once('/').map_or("%2f", |(_, name)| name);
    name.replace("%2f", "/").replace("%2F", "/")
}

fn erlang_binary(text: &str) -> String {
    let mut bytes = String::new();
    for (at, byte) in text.bytes().enumerate() {
        write!(bytes, "{}{byte}", if at == 0 { "" } else { "," }).expect("a string takes all");
    }
    format!("<<{bytes}>>")
}
