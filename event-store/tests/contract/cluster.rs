//! Several nodes behind one URL, of which some die or hang; and several logs on one server.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use event_store::{EventStore, Filter, Options, follow, open};
use events::{CommandId, Position, RecordedEvent};
use futures::StreamExt;
use test_support::{Link, Postgres, eventually};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::faults::storm;
use super::log::{Log, append, exactly, serve, stream, verified, verified_once};

/// How long an append may take, and a reader may stand still, when the node that it is connected to is gone, or hangs.
/// That takes 5 s to find out; the rest is for a slow machine.
const BOUND: Duration = Duration::from_secs(14);

/// Three nodes that serve one log in PostgreSQL, each as a process of its own would, and the ways to them.
struct Cluster {
    database: String,
    links: Vec<Link>,
    _nodes: Vec<JoinSet<()>>,
}

impl Cluster {
    async fn start() -> Self {
        let database = Postgres::shared().await.fresh_database().await;
        let (mut links, mut nodes) = (vec![], vec![]);
        for _ in 0..3 {
            let store = open(&database, Options::default()).await.unwrap();
            let (address, node) = serve(store).await;
            links.push(Link::to(&address).await);
            nodes.push(node);
        }
        Self {
            database,
            links,
            _nodes: nodes,
        }
    }

    fn url(&self) -> String {
        let hosts: Vec<_> = self.links.iter().map(Link::address).collect();
        format!("esdb://{}?tls=false", hosts.join(","))
    }

    async fn open(&self) -> Arc<dyn EventStore> {
        open(&self.url(), Options::default()).await.unwrap()
    }

    /// The node that is talked to; only one store may be open.
    fn in_use(&self) -> &Link {
        let busiest = self.links.iter().max_by_key(|link| link.connections());
        busiest.expect("there are three")
    }
}

/// Appends one event, and gives its command and how long it took.
async fn append_one(store: &dyn EventStore, version: u64) -> (CommandId, Duration) {
    let one = append(&stream("probe-1"), exactly(version), 1);
    let (command, began) = (one.command_id, Instant::now());
    store.append(one).await.unwrap();
    (command, began.elapsed())
}

pub async fn nodes_that_die_or_fall_silent_lose_and_repeat_nothing() {
    let cluster = Cluster::start().await;
    let writer = cluster.open().await;
    let node = cluster.in_use();
    let storming = tokio::spawn({
        let writer = Arc::clone(&writer);
        async move { storm(&writer, 30).await }
    });
    let direct = open(&cluster.database, Options::default()).await.unwrap();
    eventually(Duration::from_secs(20), || async {
        direct.head().await.unwrap() > Position::new(200)
    })
    .await;
    assert!(!storming.is_finished(), "appends are on their way");
    node.cut();
    let (first, took) = append_one(&*writer, 0).await;
    println!("after a node's death an append took {took:?}");
    assert!(took < BOUND, "{took:?}");
    let mut commands = storming.await.unwrap();
    commands.push(first);

    // A node that hangs, for whoever appends and whoever follows.
    node.mend();
    let mut followed = Followed::start(&cluster).await;
    followed.until(commands.len(), BOUND).await;
    let silent: Vec<_> = cluster
        .links
        .iter()
        .filter(|link| link.connections() > 0)
        .collect();
    assert!((1..3).contains(&silent.len()), "one at least is left");
    for link in silent {
        link.freeze();
    }
    let began = Instant::now();
    let seen_so_far = commands.len();
    let (second, ()) = tokio::join!(
        append_one(&*writer, 1),
        followed.until(seen_so_far + 1, BOUND)
    );
    let (second, took) = second;
    commands.push(second);
    println!(
        "in silence an append took {took:?}, and a reader heard of it after {:?}",
        began.elapsed()
    );
    assert!(took < BOUND, "{took:?}");
    cluster.links.iter().for_each(Link::mend);

    let log = verified(&*writer).await;
    assert_eq!(followed.seen, log, "each event once, in the log's order");
    verified_once(&*cluster.open().await, &commands).await;
}

/// What somebody has followed.
struct Followed {
    pages: futures::stream::BoxStream<'static, Result<event_store::Page, event_store::Error>>,
    seen: Vec<RecordedEvent>,
}

impl Followed {
    async fn start(cluster: &Cluster) -> Self {
        let store = cluster.open().await;
        let pages = follow(store, Position::ZERO, Filter::default(), 500).boxed();
        Self {
            pages,
            seen: vec![],
        }
    }

    /// Follows until so many events were seen.
    async fn until(&mut self, events: usize, within: Duration) {
        let deadline = Instant::now() + within;
        while self.seen.len() < events {
            let page = timeout(deadline - Instant::now(), self.pages.next());
            match page
                .await
                .expect("it goes on in time")
                .expect("it never ends")
            {
                Ok(page) => self.seen.extend(page.events),
                Err(event_store::Error::Unavailable(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

pub async fn logs_of_different_names_on_one_server_know_nothing_of_each_other() {
    let server = Log::eventstore().await;
    let at = |name: &str| format!("{}_{name}", server.url);
    let mut urls = vec![server.url.clone(), at("blue"), at("bluer")];
    urls.extend(server.without_name());
    let mut logs = vec![];
    for url in &urls {
        logs.push(open(url, Options::default()).await.unwrap());
    }
    let thing = stream("thing-1");
    for (index, log) in logs.iter().enumerate() {
        log.append(append(&thing, exactly(0), 1 + index))
            .await
            .unwrap();
        assert_eq!(verified(&**log).await.len(), 1 + index);
    }
    let identities: BTreeSet<_> = logs.iter().map(|log| log.identity().log).collect();
    assert_eq!(identities.len(), logs.len());
    let things = Filter {
        categories: vec!["thing".into()],
        ..Filter::default()
    };
    for (index, log) in logs.iter().enumerate() {
        let page = log.read_all(Position::ZERO, &things, 10).await.unwrap();
        assert_eq!(page.events.len(), 1 + index);
        let mut stranger = append(&stream("thing-2"), exactly(0), 1);
        stranger.stream = stream("a~b-1");
        let refused = log.append(stranger).await.unwrap_err();
        assert!(refused.to_string().contains("rename"), "{refused}");
    }
    let wrong = open(&at("Blue"), Options::default()).await;
    let why = wrong.err().expect("it is refused").to_string();
    assert!(why.contains("lowercase"), "{why}");
}
