//! Redis on loopback, started for tests and gone with their process.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::keeper::{Keeper, Program};
use crate::port::free_port;
use crate::probe::{have_command, skipped};
use crate::wait::{PATIENCE, wait_until};

/// Databases of a server: one for each that asks.
const DATABASES: u32 = 64;

/// A running server without a password. Its data is on disk, so that it comes back after a crash.
#[derive(Debug)]
pub struct RedisServer {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    /// Its directory; its socket `s` is there.
    pub dir: PathBuf,
    keeper: Keeper,
    made: AtomicU32,
}

impl RedisServer {
    /// The server that all tests of a process share. `None`, and a loud word, where it is not installed.
    pub fn shared() -> Option<&'static RedisServer> {
        static SHARED: OnceLock<Option<RedisServer>> = OnceLock::new();
        SHARED.get_or_init(|| RedisServer::start(&[])).as_ref()
    }

    /// A server of one's own with more options; `{dir}` in them is its directory. `None`, and a loud word, where it is not installed.
    pub fn start(options: &[&str]) -> Option<RedisServer> {
        if !have_command("redis-server") {
            skipped("redis-server is not installed: scripts/install-deps --test");
            return None;
        }
        // Another program may take the port before the server does.
        let started = (0..5).find_map(|_| RedisServer::try_start(options));
        assert!(started.is_some(), "five ports were taken by others");
        started
    }

    fn try_start(options: &[&str]) -> Option<RedisServer> {
        let port = free_port();
        let made = tempfile::Builder::new().prefix("shoal-redis-").tempdir().expect("a temporary directory");
        let dir = made.keep();
        let d = dir.display().to_string();
        let options = options.join(" ").replace("{dir}", &d);
        let server = format!(
            "redis-server --port {port} --bind 127.0.0.1 --dir {d} --unixsocket {d}/s --save '' --appendonly yes --appendfsync no \
             --databases {DATABASES} {options}"
        );
        let keeper = Keeper::start(dir.clone(), &Program { setup: "true", server: &server, end: "KILL" });
        let server = RedisServer { port, dir, keeper, made: AtomicU32::new(0) };
        wait_until("redis answers or fails", PATIENCE, || server.listens() || server.log().contains("in use"));
        server.listens().then_some(server)
    }

    /// What the server said.
    pub fn log(&self) -> String {
        self.keeper.log()
    }

    fn listens(&self) -> bool {
        self.dir.join("s").exists() && TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }

    /// URL of a database that nobody else was given, empty.
    pub fn fresh_url(&self) -> String {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        assert!(number < DATABASES, "more databases are asked for than there are");
        format!("redis://127.0.0.1:{}/{number}", self.port)
    }

    /// Runs a command on the database of a URL; gives what redis-cli prints.
    pub fn tell(&self, url: &str, words: &[&str]) -> String {
        let db = url.rsplit('/').next().expect("the number of a database");
        let output = redis_cli(&["-p", &self.port.to_string(), "-n", db]).args(words).output().expect("redis-cli runs");
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Kills the server as a crash does.
    pub fn kill(&mut self) {
        self.keeper.stop();
        wait_until("redis ends", PATIENCE, || TcpStream::connect(("127.0.0.1", self.port)).is_err());
    }

    /// Starts the server after [`RedisServer::kill`], with what it held.
    pub fn restart(&mut self) {
        self.keeper.start_again();
        wait_until("redis answers again", PATIENCE, || {
            let ping = redis_cli(&["-p", &self.port.to_string(), "PING"]).output();
            ping.is_ok_and(|output| output.stdout.starts_with(b"PONG"))
        });
    }

    /// Makes the server silent: connections stay, and nothing is answered.
    pub fn freeze(&self) {
        self.keeper.freeze();
    }

    /// Lets the server go on after [`RedisServer::freeze`].
    pub fn thaw(&self) {
        self.keeper.thaw();
    }

    /// The server's socket.
    pub fn socket(&self) -> PathBuf {
        Path::new(&self.dir).join("s")
    }
}

fn redis_cli(words: &[&str]) -> Command {
    let mut command = Command::new("redis-cli");
    command.args(words).stdin(Stdio::null());
    command
}
