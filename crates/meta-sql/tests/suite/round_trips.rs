//! How often a server is waited for in one operation: on a network that is what an operation takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shoal_format::{Ino, SliceRecord, Time};
use shoal_meta::testing::sample;
use shoal_meta::{Caller, ChunkSlices, HEARTBEAT, Meta, MetaError, NewInode, Place, RenameMode, Session, SetAttr};
use shoal_meta_sql::{OpenMode, open};
use shoal_runtime::task;
use shoal_testkit::{SqlKind, SqlServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Each operation is done so often, and its cheapest counts: the first prepares statements, and a heartbeat may fall into one.
const TIMES: usize = 6;

/// Forwards connections, and counts how often clients speak after the server did.
struct Counter {
    port: u16,
    turns: Arc<AtomicUsize>,
}

impl Counter {
    async fn before(server: u16) -> Counter {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = turns.clone();
        task::spawn("counter", async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                let (speaks, _) = watch::channel(Speaker::Server);
                let count = (speaks.clone(), counted.clone());
                task::spawn("to server", forward(from_client, to_server, Speaker::Client, count.clone()));
                task::spawn("to client", forward(from_server, to_client, Speaker::Server, count));
            }
        });
        Counter { port, turns }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaker {
    Client,
    Server,
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    who: Speaker,
    (speaks, turns): (watch::Sender<Speaker>, Arc<AtomicUsize>),
) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if speaks.send_replace(who) != who && who == Speaker::Client {
            turns.fetch_add(1, Ordering::SeqCst);
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

/// A volume behind a counter, and a client that has done everything once.
struct Bed {
    session: Session,
    turns: Arc<AtomicUsize>,
    dir: Ino,
}

impl Bed {
    async fn new(server: &SqlServer) -> Bed {
        let counter = Counter::before(server.port).await;
        let url = format!("{}&max_open_conns=1", server.fresh_tables());
        let url = url.replace(&format!(":{}", server.port), &format!(":{}", counter.port));
        let meta = Meta::new(open(&url, OpenMode::Create).await.unwrap());
        meta.init(&sample::settings(), false).await.unwrap();
        let session = Session::open(meta, sample::client(), HEARTBEAT).await.unwrap();
        let (dir, _) = session.create(&Caller::root(), Ino::ROOT, b"dir", &NewInode::Directory, 0o755).await.unwrap();
        Bed { session, turns: counter.turns, dir }
    }

    /// Round trips of an operation, at least.
    async fn trips(&self, operation: impl AsyncFn(String) -> Result<(), MetaError>) -> usize {
        let mut least = usize::MAX;
        for time in 0..TIMES {
            let before = self.turns.load(Ordering::SeqCst);
            operation(time.to_string()).await.unwrap();
            least = least.min(self.turns.load(Ordering::SeqCst) - before);
        }
        least
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_wait_for_the_server_as_seldom_as_they_can() {
    for kind in SqlKind::ALL {
        let Some(server) = SqlServer::shared(kind) else { continue };
        let bed = Bed::new(server).await;
        let (session, dir, root) = (&bed.session, bed.dir, Caller::root());
        let meta = session.meta();
        let file = async |name: String| {
            session.create(&root, dir, name.as_bytes(), &NewInode::File, 0o644).await.map(|(ino, _)| ino)
        };
        let found = async |name: String| meta.lookup(dir, name.as_bytes()).await.map(|found| found.unwrap().0);

        assert_eq!(bed.trips(async |name| file(name).await.map(drop)).await, 2, "{kind:?}: create");
        let made = async |name: String| {
            session.create(&root, dir, format!("d{name}").as_bytes(), &NewInode::Directory, 0o755).await.map(drop)
        };
        assert_eq!(bed.trips(made).await, 2, "{kind:?}: mkdir");
        assert_eq!(bed.trips(async |name| found(name).await.map(drop)).await, 1, "{kind:?}: lookup");
        assert_eq!(bed.trips(async |_| meta.getattr(dir).await.map(drop)).await, 1, "{kind:?}: getattr");
        assert_eq!(bed.trips(async |_| meta.readdir(dir).await.map(drop)).await, 1, "{kind:?}: readdir");
        let ino = found("0".to_owned()).await.unwrap();
        let set = SetAttr { mode: Some(0o600), ..SetAttr::default() };
        assert_eq!(
            bed.trips(async |_| session.setattr(&root, ino, &set).await.map(drop)).await,
            2,
            "{kind:?}: setattr"
        );
        let written = async |name: String| {
            let id = 1000 + name.parse::<u64>().unwrap();
            let slices = vec![SliceRecord { pos: 0, id, size: 4096, off: 0, len: 4096 }];
            session.write(ino, &[ChunkSlices { ino, index: 0, slices }], Time::default()).await.map(drop)
        };
        assert_eq!(bed.trips(written).await, 2, "{kind:?}: write");
        let renamed = async |name: String| {
            let to = format!("r{name}");
            let [from, to] = [&name, &to].map(|name| Place { parent: dir, name: name.as_bytes() });
            session.rename(&root, from, to, RenameMode::Replace).await.map(drop)
        };
        assert_eq!(bed.trips(renamed).await, 3, "{kind:?}: rename");
        let removed = async |name: String| session.unlink(&root, dir, format!("r{name}").as_bytes()).await.map(drop);
        assert_eq!(bed.trips(removed).await, 2, "{kind:?}: unlink");
        let removed = async |name: String| session.rmdir(&root, dir, format!("d{name}").as_bytes()).await.map(drop);
        assert_eq!(bed.trips(removed).await, 3, "{kind:?}: rmdir");
        session.close().await.unwrap();
    }
}
