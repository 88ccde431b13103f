//! PostgreSQL and MariaDB on loopback, started for tests and gone with their process.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::keeper::{Keeper, Program};
use crate::port::free_port;
use crate::probe::{have_root, skipped};
use crate::wait::{PATIENCE, wait_until};

/// The database that every server has.
const DATABASE: &str = "vol";

/// Who may connect to PostgreSQL: its superuser at will, others with a password.
const POSTGRES_ACCESS: &str =
    "local all postgres trust\nhost all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";

/// A database server with SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqlKind {
    /// PostgreSQL.
    Postgres,
    /// MariaDB, which speaks MySQL's protocol.
    MariaDb,
}

impl SqlKind {
    /// Both.
    pub const ALL: [SqlKind; 2] = [SqlKind::Postgres, SqlKind::MariaDb];
}

/// A running server with a database `vol` and a superuser without password, on its socket and on loopback. It survives the end of its
/// process, but not that of the machine: nothing is synced.
#[derive(Debug)]
pub struct SqlServer {
    /// Which it is.
    pub kind: SqlKind,
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    keeper: Keeper,
    made: AtomicU32,
}

impl SqlServer {
    /// The server that all tests of a process share. `None`, and a loud word, where it is not installed.
    pub fn shared(kind: SqlKind) -> Option<&'static SqlServer> {
        static SHARED: [OnceLock<Option<SqlServer>>; 2] = [const { OnceLock::new() }; 2];
        SHARED[kind as usize].get_or_init(|| SqlServer::start(kind)).as_ref()
    }

    /// A server of one's own, for tests that stop it. `None`, and a loud word, where it is not installed.
    pub fn start(kind: SqlKind) -> Option<SqlServer> {
        let names = match kind {
            SqlKind::Postgres => ["initdb", "postgres", "psql"],
            SqlKind::MariaDb => ["mariadb-install-db", "mariadbd", "mariadb"],
        };
        let [Some(setup), Some(server), Some(_)] = names.map(program) else {
            skipped(&format!("{} are not all installed: scripts/install-deps --test", names.join(", ")));
            return None;
        };
        // Another program may take the port before the server does.
        let started = (0..5).find_map(|_| SqlServer::try_start(kind, &setup, &server));
        assert!(started.is_some(), "five ports were taken by others");
        started
    }

    fn try_start(kind: SqlKind, setup: &Path, server: &Path) -> Option<SqlServer> {
        let port = free_port();
        let root = tempfile::Builder::new().prefix("shoal-sql-").tempdir().expect("a temporary directory").keep();
        let data = root.join("d");
        std::fs::create_dir(root.join("tmp")).expect("a directory");
        let from = installed(kind, setup).join("d");
        let (server, d, become_user) = (server.display(), data.display(), become_user(kind));
        let setup = format!("{} cp -a --sparse=always {} .", give(kind), from.display());
        let (server, end) = match kind {
            SqlKind::Postgres => (
                format!(
                    "{become_user}{server} -D {d} -p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={d} \
                     -c fsync=off -c max_connections=60"
                ),
                "QUIT",
            ),
            SqlKind::MariaDb => (
                // It removes every `#sql` file of its directory of temporary files as it starts: no two may share one.
                format!(
                    "env TMPDIR={root}/tmp {become_user}{server} --no-defaults --datadir={d} --port={port} --bind-address=127.0.0.1 \
                     --socket={d}/s --skip-name-resolve --innodb-flush-log-at-trx-commit=2 --innodb-flush-method=nosync \
                     --innodb-doublewrite=0 --sync-frm=0 --pid-file={d}/pid --max-connections=60",
                    root = root.display()
                ),
                "KILL",
            ),
        };
        let keeper = Keeper::start(root, &Program { setup: &setup, server: &server, end });
        let server = SqlServer { kind, port, keeper, made: AtomicU32::new(0) };
        let taken = || ["Address already in use", "is another server"].iter().any(|word| server.log().contains(word));
        wait_until("the server answers or fails", PATIENCE, || server.answers() || taken());
        if !server.answers() {
            return None;
        }
        server.make(DATABASE);
        Some(server)
    }

    /// What the server said.
    pub fn log(&self) -> String {
        self.keeper.log()
    }

    fn answers(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok() && self.run(None, "SELECT 1").status.success()
    }

    /// Kills the server as a crash does.
    pub fn kill(&mut self) {
        self.keeper.stop();
        wait_until("the server ends", PATIENCE, || TcpStream::connect(("127.0.0.1", self.port)).is_err());
    }

    /// Starts the server after [`SqlServer::kill`], with what it held.
    pub fn restart(&mut self) {
        self.keeper.start_again();
        wait_until("the server answers again", PATIENCE, || self.answers());
    }

    /// Makes the server silent: connections stay, and nothing is answered.
    pub fn freeze(&self) {
        self.keeper.freeze();
    }

    /// Lets the server go on after [`SqlServer::freeze`].
    pub fn thaw(&self) {
        self.keeper.thaw();
    }

    /// URL of database `vol` as the superuser.
    pub fn url(&self) -> String {
        match self.kind {
            SqlKind::Postgres => format!("postgres://postgres@127.0.0.1:{}/{DATABASE}?sslmode=disable", self.port),
            SqlKind::MariaDb => format!("mysql://root@(127.0.0.1:{})/{DATABASE}?tls=false", self.port),
        }
    }

    /// URL of tables in `vol` that nobody else was given.
    pub fn fresh_tables(&self) -> String {
        format!("{}&table_prefix=t{}", self.url(), self.made.fetch_add(1, Ordering::Relaxed))
    }

    /// URL of a database of its own, empty.
    pub fn fresh_url(&self) -> String {
        let name = format!("d{}", self.made.fetch_add(1, Ordering::Relaxed));
        self.make(&name);
        self.url().replace(&format!("/{DATABASE}?"), &format!("/{name}?"))
    }

    fn make(&self, database: &str) {
        let output = self.run(None, &format!("CREATE DATABASE {database}"));
        assert!(output.status.success(), "database {database}: {output:?}");
    }

    /// Runs statements on `vol` as some other program would, each by itself; gives the first column of the last one's rows.
    pub fn tell(&self, statements: &[&str]) -> Vec<String> {
        let mut last = Vec::new();
        for statement in statements {
            let output = self.run(Some(DATABASE), statement);
            assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            last = text.lines().map(|row| row.split('\t').next().unwrap_or_default().to_owned()).collect();
        }
        last
    }

    /// One statement, by the server's own command-line client; `None` for a database that was there before any other.
    fn run(&self, database: Option<&str>, statement: &str) -> Output {
        let port = self.port.to_string();
        let mut command = match self.kind {
            SqlKind::Postgres => {
                let mut command = Command::new(program("psql").expect("it was there when the server started"));
                command.args([
                    "-X",
                    "-w",
                    "-q",
                    "-A",
                    "-t",
                    "-F",
                    "\t",
                    "-h",
                    "127.0.0.1",
                    "-U",
                    "postgres",
                    "-p",
                    &port,
                ]);
                command.args(["-d", database.unwrap_or("postgres"), "-c", statement]);
                command
            }
            SqlKind::MariaDb => {
                let mut command = Command::new("mariadb");
                command.args(["--no-defaults", "-h", "127.0.0.1", "-u", "root", "-N", "-B", "-P", &port]);
                command.args(["-D", database.unwrap_or("mysql"), "-e", statement]);
                command
            }
        };
        command.stdin(Stdio::null()).output().expect("the command-line client runs")
    }

    /// Empties the tables of a [`SqlServer::fresh_tables`], where there are any.
    pub fn empty_tables(&self, url: &str) {
        let prefix = url.rsplit_once('=').expect("a table prefix").1;
        let query =
            format!("SELECT table_name FROM information_schema.tables WHERE table_name LIKE 'jfs\\_{prefix}\\_%'");
        let deletes: Vec<String> = self.tell(&[&query]).iter().map(|table| format!("DELETE FROM {table}")).collect();
        if !deletes.is_empty() {
            self.tell(&[&deletes.join("; ")]);
        }
    }

    /// Ends every connection to `vol`.
    pub fn end_connections(&self) {
        match self.kind {
            SqlKind::Postgres => {
                self.tell(&["SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid<>pg_backend_pid() AND datname='vol'"]);
            }
            SqlKind::MariaDb => {
                let query = "SELECT id FROM information_schema.processlist WHERE id<>CONNECTION_ID() AND db='vol'";
                for id in self.tell(&[query]) {
                    // It may have ended by itself.
                    self.run(None, &format!("KILL {id}"));
                }
            }
        }
    }

    /// The directory of its Unix socket.
    pub fn socket_dir(&self) -> PathBuf {
        self.keeper.root().join("d")
    }
}

/// The directory of a server that never ran, in `d`: to make one takes long on a busy machine, to copy it does not.
fn installed(kind: SqlKind, setup: &Path) -> &'static Path {
    static INSTALLED: [OnceLock<Keeper>; 2] = [const { OnceLock::new() }; 2];
    let make = || {
        let root = tempfile::Builder::new().prefix("shoal-sql-").tempdir().expect("a temporary directory").keep();
        for name in ["d", "tmp"] {
            std::fs::create_dir(root.join(name)).expect("a directory");
        }
        let (setup, d, give) = (setup.display(), root.join("d"), give(kind));
        let (d, become_user) = (d.display(), become_user(kind));
        let setup = match kind {
            SqlKind::Postgres => format!(
                "{give} {become_user}{setup} -D {d} -A trust -U postgres --no-sync --no-locale -E UTF8 && \
                 printf '{POSTGRES_ACCESS}' >{d}/pg_hba.conf"
            ),
            SqlKind::MariaDb => format!(
                "{give} env TMPDIR={root}/tmp {setup} --no-defaults --user={user} --datadir={d} \
                 --auth-root-authentication-method=normal --skip-test-db --skip-name-resolve",
                root = root.display(),
                user = user(kind)
            ),
        };
        // Keeps the directory as long as this process lives.
        let mut keeper = Keeper::start(root, &Program { setup: &setup, server: "sleep infinity", end: "KILL" });
        wait_until("a server is installed or refused", PATIENCE, || keeper.is_set_up() || keeper.has_ended());
        assert!(keeper.is_set_up(), "{kind:?} cannot be installed: {}", keeper.log());
        keeper
    };
    INSTALLED[kind as usize].get_or_init(make).root()
}

/// The beginning of a command that only root may, and must, run as somebody else.
fn become_user(kind: SqlKind) -> String {
    let user = user(kind);
    if have_root() { format!("setpriv --reuid={user} --regid={user} --clear-groups ") } else { String::new() }
}

/// The beginning of a command that needs the working directory to be the server's.
fn give(kind: SqlKind) -> String {
    if have_root() { format!("chmod 755 . && chown -R {user} . &&", user = user(kind)) } else { String::new() }
}

fn user(kind: SqlKind) -> &'static str {
    match kind {
        SqlKind::Postgres => "postgres",
        SqlKind::MariaDb => "mysql",
    }
}

/// Where a program of a package is; PostgreSQL's are in no path.
fn program(name: &str) -> Option<PathBuf> {
    let mut places: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    places.push("/usr/sbin".into());
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    places.extend(versions.map(|version| version.path().join("bin")));
    places.into_iter().map(|place| place.join(name)).find(|path| path.is_file())
}
