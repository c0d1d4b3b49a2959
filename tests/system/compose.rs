//! docker-compose.yml, run without Docker: its commands, variables, secrets and health checks, as plain processes on this
//! machine. Only names of hosts, ports and folders differ.
//!
//! Not shown here, since there is no engine and no registry: that the images exist and start, what the engine enforces (read-only
//! file systems, capabilities, limits, networks), and KurrentDB.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use test_support::{Postgres, Program, RabbitMq, TempDir, eventually, free_port, temp_dir};

use crate::client::{Client, ME};

const BINARY: &str = env!("CARGO_BIN_EXE_showcaller");
/// Where containers find their secrets.
const SECRETS: &str = "/run/secrets/";
/// What each role of the file is called there; the last is started by its profile.
const ROLES: [&str; 5] = [
    "command-api",
    "relay",
    "projector",
    "query-api",
    "event-store",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a program to its end, which must be a good one.
async fn run(
    program: impl AsRef<Path>,
    arguments: &[&str],
    variables: &[(String, String)],
) -> Output {
    let program = program.as_ref().to_owned();
    let mut command = Command::new(&program);
    command.args(arguments).envs(variables.iter().cloned());
    let ran = tokio::task::spawn_blocking(move || command.output()).await;
    let output = ran
        .expect("it ran")
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{} {arguments:?}: {}{}",
        program.display(),
        told(&output.stdout),
        told(&output.stderr)
    );
    output
}

/// The file as it stands, checked by Compose's schema and by what this project wants of it.
async fn compose() -> Value {
    run(root().join("tests/clients/schemas/install"), &[], &[]).await;
    let python = root().join("tests/clients/python/run");
    let script = |name: &str| root().join(name).display().to_string();
    run(&python, &[&script("scripts/check-compose")], &[]).await;
    let printed = run(&python, &[&script("tests/clients/schemas/compose.py")], &[]).await;
    serde_json::from_slice(&printed.stdout).expect("JSON")
}

/// The strings of a list.
fn words(list: &Value) -> Vec<String> {
    let list = list.as_array().expect("a list").iter();
    list.map(|word| word.as_str().expect("a word").to_owned())
        .collect()
}

/// `30s`.
fn seconds(text: &Value) -> Duration {
    let text = text.as_str().expect("a duration");
    let number = text.strip_suffix('s').expect("in seconds");
    Duration::from_secs(number.parse().expect("a number"))
}

fn signal(service: &Value) -> &'static str {
    match service["stop_signal"].as_str() {
        Some("SIGTERM") => "TERM",
        Some("SIGINT") => "INT",
        other => panic!("{other:?} is no signal that is sent here"),
    }
}

/// Runs a service's health check until it says healthy, as often as the file allows.
async fn becomes_healthy(name: &str, service: &Value, variables: &[(String, String)]) {
    let check = &service["healthcheck"];
    let test = words(&check["test"]);
    assert_eq!(test[0], "CMD", "{name}");
    let within = seconds(&check["start_period"])
        + seconds(&check["interval"]) * check["retries"].as_u64().expect("a number") as u32;
    eventually(within, || async {
        let mut command = Command::new("timeout");
        command.arg(seconds(&check["timeout"]).as_secs().to_string());
        command.args(&test[1..]).envs(variables.iter().cloned());
        let asked = tokio::task::spawn_blocking(move || command.output()).await;
        match asked.expect("it ran") {
            Ok(output) if output.status.success() => Ok(()),
            other => Err(format!("{name}: {other:?}")),
        }
    })
    .await;
}

/// Secrets as scripts/secrets makes them, with hosts that are on this machine.
struct Secrets(TempDir);

impl Secrets {
    async fn make() -> Self {
        let folder = temp_dir();
        let variables = [
            ("SECRETS".to_owned(), folder.path().display().to_string()),
            ("SHOWCALLER".to_owned(), BINARY.to_owned()),
        ];
        run(root().join("scripts/secrets"), &[], &variables).await;
        // A second run touches nothing, and another event store is refused.
        let before = fs::read(folder.path().join("keys")).expect("keys");
        run(root().join("scripts/secrets"), &[], &variables).await;
        assert_eq!(before, fs::read(folder.path().join("keys")).expect("keys"));
        // Mounted secrets may be read by others than their owner; files elsewhere may not.
        let mine_alone = fs::Permissions::from_mode(0o600);
        fs::set_permissions(folder.path().join("keys"), mine_alone).expect("ours");
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Where a container would resolve a host's name, this says where it is.
    fn move_host(&self, host: &str, port: u16) {
        for entry in fs::read_dir(self.0.path()).expect("ours").flatten() {
            if entry.file_name().to_string_lossy().ends_with("_url") {
                let text = fs::read_to_string(entry.path()).expect("text");
                let here = text.replace(&format!("@{host}/"), &format!("@127.0.0.1:{port}/"));
                fs::write(entry.path(), here).expect("ours");
            }
        }
    }

    /// A variable's value as it is here.
    fn translated(&self, value: &str) -> String {
        match value.strip_prefix(SECRETS) {
            Some(name) => self.path(name).display().to_string(),
            None => match value.strip_prefix("0.0.0.0:") {
                Some(_) => format!("127.0.0.1:{}", free_port()),
                None => value.to_owned(),
            },
        }
    }
}

async fn start_postgres(service: &Value, secrets: &Secrets) -> Postgres {
    let command = words(&service["command"]);
    assert_eq!(command[0], "postgres");
    let password = &service["environment"]["POSTGRES_PASSWORD_FILE"];
    let password = secrets.translated(password.as_str().expect("a file"));
    let postgres = Postgres::start_with_password(Path::new(&password), &command[1..]).await;
    let mut variables = vec![
        ("PGPORT".to_owned(), postgres.port().to_string()),
        ("PATH".to_owned(), path(&Postgres::programs())),
    ];
    becomes_healthy("postgres", service, &variables).await;

    // The image runs it on its socket, where no password is asked for.
    let script = fs::read_to_string(root().join("scripts/create-databases")).expect("the script");
    let here = script.replace(SECRETS, &format!("{}/", secrets.0.path().display()));
    let file = temp_dir();
    fs::write(file.path().join("create-databases"), here).expect("ours");
    let password = fs::read_to_string(password).expect("a password");
    variables.extend([
        ("PGHOST".to_owned(), "127.0.0.1".to_owned()),
        ("PGPASSWORD".to_owned(), password),
    ]);
    let script = file.path().join("create-databases").display().to_string();
    run("bash", &[&script], &variables).await;
    secrets.move_host("postgres", postgres.port());
    postgres
}

async fn start_rabbitmq(service: &Value, secrets: &Secrets) -> RabbitMq {
    let secret = &service["secrets"][0];
    let target = secret["target"].as_str().expect("a path");
    assert!(target.starts_with("/etc/rabbitmq/conf.d/"), "{target}");
    let file = secrets.path(secret["source"].as_str().expect("a name"));
    let rabbitmq = RabbitMq::start_with(&file).await;
    let mut variables = rabbitmq.variables();
    variables.push(("PATH".to_owned(), path(&RabbitMq::programs())));
    becomes_healthy("rabbitmq", service, &variables).await;
    secrets.move_host("rabbitmq", rabbitmq.port());
    rabbitmq
}

/// Programs are looked for there first.
fn path(folder: &Path) -> String {
    let others = std::env::var("PATH").expect("a path");
    format!("{}:{others}", folder.display())
}

/// A role as its container would run it: the image's entrypoint and address, the service's variables.
struct Role {
    name: &'static str,
    program: Program,
    url: String,
    variables: Vec<(String, String)>,
    _folder: TempDir,
}

impl Role {
    async fn start(name: &'static str, service: &Value, secrets: &Secrets) -> Self {
        let dockerfile = fs::read_to_string(root().join("Dockerfile")).expect("the Dockerfile");
        assert!(
            dockerfile.contains("\nENTRYPOINT [\"showcaller\"]\n"),
            "{dockerfile}"
        );
        assert!(
            dockerfile.contains("\nENV SHOWCALLER_LISTEN=0.0.0.0:8080\n"),
            "{dockerfile}"
        );
        assert!(
            service["command"].is_null() && service["entrypoint"].is_null(),
            "{name}"
        );
        let (folder, port) = (temp_dir(), free_port());
        let address = format!("127.0.0.1:{port}");
        let given = service["environment"]
            .as_object()
            .expect("variables")
            .iter();
        let mut variables: Vec<_> = given
            .map(|(variable, value)| {
                let value = secrets.translated(value.as_str().expect("text"));
                (variable.clone(), value)
            })
            .collect();
        variables.push(("SHOWCALLER_LISTEN".to_owned(), address.clone()));
        let binaries = Path::new(BINARY).parent().expect("a folder");
        variables.push(("PATH".to_owned(), path(binaries)));
        let program = Program::new::<&str>(BINARY, &[], &variables, Some(folder.path()));
        program.start().await;
        Self {
            name,
            program,
            url: format!("http://{address}"),
            variables,
            _folder: folder,
        }
    }

    /// Its metrics are where Prometheus looks for them.
    async fn tells_of_itself(&self) {
        const LISTEN: &str = "SHOWCALLER_METRICS_LISTEN";
        let listens = self.variables.iter().find(|(name, _)| name == LISTEN);
        let (_, address) = listens.expect("a listener for metrics");
        let page = Client::new(&format!("http://{address}")).get("/metrics");
        let page = page.expect(200).await.text;
        let role = format!("role=\"{}\"", self.name);
        assert!(page.contains(&role), "{}: {page}", self.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_compose_file_says_runs_becomes_healthy_answers_and_stops_in_time() {
    let compose = compose().await;
    let services = &compose["services"];
    let secrets = Secrets::make().await;
    let (postgres, rabbitmq) = (&services["postgres"], &services["rabbitmq"]);
    let (_postgres, _rabbitmq) = (
        start_postgres(postgres, &secrets).await,
        start_rabbitmq(rabbitmq, &secrets).await,
    );

    let mut roles = Vec::new();
    for name in ROLES {
        roles.push(Role::start(name, &services[name], &secrets).await);
    }
    for role in &roles {
        becomes_healthy(role.name, &services[role.name], &role.variables).await;
    }

    // Commands to the one, queries to the other, and the row says what the command said.
    let client = Client::apart(&roles[0].url, &roles[3].url);
    let ada = client.person("ada@example.org").await;
    let change = json!({ "given_name": "Augusta Ada" });
    let changed = client
        .command(&ada, "update-profile", &change)
        .expect(200)
        .await;
    let row = client.read(ME, &ada, changed.token()).await;
    assert_eq!(row.body["given_name"], "Augusta Ada");

    for role in &roles {
        role.tells_of_itself().await;
    }
    for role in roles.iter().rev() {
        let service = &services[role.name];
        let stopped = role
            .program
            .stop(signal(service), seconds(&service["stop_grace_period"]))
            .await;
        assert_eq!(stopped, 0, "{}: {}", role.name, role.program.logs());
    }
}
