//! PostgreSQL and MariaDB on loopback, started when the first test asks for one and gone with this process.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use shoal_runtime::clock;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use tempfile::TempDir;

use super::servers::Kind::{MariaDb, Postgres};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    MariaDb,
}

pub const KINDS: [Kind; 2] = [Postgres, MariaDb];

/// A running server with a database `vol` and a superuser without password on its socket and on loopback.
pub struct Server {
    pub kind: Kind,
    pub port: u16,
    pub dir: PathBuf,
    /// Ends the server and its directory when its input ends, which the end of this process brings about at the latest.
    keeper: Child,
    made: AtomicU32,
}

/// The server that tests share, or `None` (said loudly) where it is not installed.
pub async fn shared(kind: Kind, test: &str) -> Option<&'static Server> {
    static SHARED: [OnceLock<Option<Server>>; 2] = [const { OnceLock::new() }; 2];
    let server = SHARED[kind as usize].get_or_init(|| Server::start(kind));
    let Some(server) = server else {
        eprintln!("SKIPPED: {test}: {kind:?} is not installed (scripts/install-deps --test)");
        return None;
    };
    server.ready().await;
    Some(server)
}

/// Where a program of a package is; PostgreSQL's are in no path.
fn program(name: &str) -> Option<PathBuf> {
    let mut places: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    places.push("/usr/sbin".into());
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    places.extend(versions.map(|version| version.path().join("bin")));
    places.into_iter().map(|place| place.join(name)).find(|path| path.is_file())
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

const POSTGRES_ACCESS: &str =
    "local all postgres trust\nhost all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";

impl Server {
    /// A server of its own, for tests that stop it. `None` if it is not installed.
    pub fn start(kind: Kind) -> Option<Server> {
        let (user, setup, daemon) = match kind {
            Postgres => ("postgres", "initdb", "postgres"),
            MariaDb => ("mysql", "mariadb-install-db", "mariadbd"),
        };
        let (setup, daemon) = (program(setup)?.display().to_string(), program(daemon)?.display().to_string());
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number").port();
        let root = TempDir::new().expect("a temporary directory").keep();
        let dir = root.join("d");
        std::fs::create_dir(&dir).expect("a data directory");
        // Only root may and must become somebody else.
        let r#as =
            if is_root() { format!("setpriv --reuid={user} --regid={user} --clear-groups ") } else { String::new() };
        let d = dir.display();
        let (setup, daemon) = match kind {
            Postgres => (
                format!("{as}{setup} -D {d} -A trust -U postgres --no-sync --no-locale -E UTF8", as = r#as),
                format!("{as}{daemon} -D {d} -p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={d} -c fsync=off -c max_connections=60", as = r#as),
            ),
            MariaDb => (
                format!(
                    "{setup} --no-defaults --user=mysql --datadir={d} --auth-root-authentication-method=normal --skip-test-db --skip-name-resolve"
                ),
                format!("{as}{daemon} --no-defaults --datadir={d} --port={port} --bind-address=127.0.0.1 --socket={d}/s --skip-name-resolve --innodb-flush-log-at-trx-commit=2 --innodb-flush-method=nosync --innodb-doublewrite=0 --sync-frm=0 --pid-file={d}/pid --max-connections=60", as = r#as),
            ),
        };
        let own =
            if is_root() { format!("chmod 755 {r}; chown -R {user} {r};", r = root.display()) } else { String::new() };
        let access = match kind {
            Postgres => format!("printf '{POSTGRES_ACCESS}' >{d}/pg_hba.conf"),
            MariaDb => "true".to_owned(),
        };
        let log = root.join("log").display().to_string();
        // Each line of input starts the server again after it was stopped; the end of the input ends everything.
        // MariaDB removes every `#sql` file of its directory of temporary files as it starts: no two may share one.
        let script = format!(
            "mkdir {root}/tmp; export TMPDIR={root}/tmp; {own} ({setup} && {access}) >{log} 2>&1 </dev/null || exit 1\n\
             while :; do {daemon} >>{log} 2>&1 </dev/null & pid=$!; read -r go || go=; kill -{stop} $pid; wait $pid; \
             [ -n \"$go\" ] || break; read -r go || break; done; rm -rf {root}",
            stop = match kind {
                Postgres => "QUIT",
                MariaDb => "KILL",
            },
            root = root.display(),
        );
        let script = script.replace("{log}", &log);
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let keeper = command.spawn().expect("sh runs");
        Some(Server { kind, port, dir, keeper, made: AtomicU32::new(0) })
    }

    /// Waits until the server answers, and makes `vol` if it is not there.
    pub async fn ready(&self) {
        let answer = async {
            loop {
                match self.kind {
                    Postgres => {
                        let options = self.postgres_options().database("postgres");
                        if let Ok(mut connection) = options.connect().await {
                            // Fails for all but the first.
                            connection.execute("CREATE DATABASE vol").await.ok();
                            return;
                        }
                    }
                    MariaDb => {
                        if let Ok(mut connection) = self.mysql_options().connect().await {
                            connection.execute("CREATE DATABASE IF NOT EXISTS vol").await.expect("a database");
                            return;
                        }
                    }
                }
                clock::sleep(Duration::from_millis(20)).await;
            }
        };
        let log = || std::fs::read_to_string(self.dir.parent().expect("a parent").join("log")).unwrap_or_default();
        clock::timeout(Duration::from_secs(60), answer).await.unwrap_or_else(|_| panic!("no server: {}", log()));
    }

    /// Kills the server as a crash does.
    pub async fn kill(&mut self) {
        self.say("stop");
        let gone = async {
            while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                clock::sleep(Duration::from_millis(5)).await;
            }
        };
        clock::timeout(Duration::from_secs(60), gone).await.expect("the server ends");
    }

    /// Starts the server after [`Server::kill`].
    pub async fn restart(&mut self) {
        self.say("start");
        self.ready().await;
    }

    fn say(&mut self, line: &str) {
        let input = self.keeper.stdin.as_mut().expect("the keeper listens");
        writeln!(input, "{line}").expect("the keeper lives");
    }

    fn postgres_options(&self) -> sqlx::postgres::PgConnectOptions {
        sqlx::postgres::PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username("postgres")
            .ssl_mode(sqlx::postgres::PgSslMode::Disable)
    }

    fn mysql_options(&self) -> sqlx::mysql::MySqlConnectOptions {
        let options = sqlx::mysql::MySqlConnectOptions::new().host("127.0.0.1").port(self.port).username("root");
        options.ssl_mode(sqlx::mysql::MySqlSslMode::Disabled)
    }

    /// URL of database `vol` as the superuser.
    pub fn url(&self) -> String {
        match self.kind {
            Postgres => format!("postgres://postgres@127.0.0.1:{}/vol?sslmode=disable", self.port),
            MariaDb => format!("mysql://root@(127.0.0.1:{})/vol?tls=false", self.port),
        }
    }

    /// URL of tables that no other test uses.
    pub fn fresh_url(&self) -> String {
        format!("{}&table_prefix=t{}", self.url(), self.made.fetch_add(1, Ordering::Relaxed))
    }

    /// URL of a database of its own, empty.
    pub async fn fresh_database(&self) -> String {
        let name = format!("d{}", self.made.fetch_add(1, Ordering::Relaxed));
        self.sql(&[&format!("CREATE DATABASE {name}")]).await;
        self.url().replace("/vol?", &format!("/{name}?"))
    }

    /// Runs statements on `vol` as some other program would; gives the first column of the last one's rows.
    pub async fn sql(&self, statements: &[&str]) -> Vec<String> {
        let mut last = Vec::new();
        match self.kind {
            Postgres => {
                let mut connection = self.postgres_options().database("vol").connect().await.expect("a connection");
                for statement in statements {
                    let rows = sqlx::raw_sql(AssertSqlSafe(*statement)).fetch_all(&mut connection).await;
                    let rows = rows.unwrap_or_else(|error| panic!("{statement}: {error}"));
                    last = rows.iter().map(|row| sqlx::Row::try_get_unchecked(row, 0).unwrap_or_default()).collect();
                }
                connection.close().await.expect("closed");
            }
            MariaDb => {
                let mut connection = self.mysql_options().database("vol").connect().await.expect("a connection");
                for statement in statements {
                    let rows = sqlx::raw_sql(AssertSqlSafe(*statement)).fetch_all(&mut connection).await;
                    let rows = rows.unwrap_or_else(|error| panic!("{statement}: {error}"));
                    last = rows.iter().map(|row| sqlx::Row::try_get_unchecked(row, 0).unwrap_or_default()).collect();
                }
                connection.close().await.expect("closed");
            }
        }
        last
    }

    /// Empties the tables of a [`Server::fresh_url`], where there are any.
    pub async fn empty_tables(&self, url: &str) {
        let prefix = url.rsplit_once('=').expect("a table prefix").1;
        let text = if self.kind == Postgres { "table_name::text" } else { "table_name" };
        let query = format!("SELECT {text} FROM information_schema.tables WHERE table_name LIKE 'jfs\\_{prefix}\\_%'");
        let deletes: Vec<String> =
            self.sql(&[&query]).await.iter().map(|table| format!("DELETE FROM {table}")).collect();
        self.sql(&deletes.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }

    /// Ends every connection that speaks as `vol`'s superuser but the one that does it.
    pub async fn end_connections(&self) {
        match self.kind {
            Postgres => {
                self.sql(&["SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity WHERE pid<>pg_backend_pid() AND datname='vol'"]).await;
            }
            MariaDb => {
                let ids = self.sql(&["SELECT CAST(id AS CHAR) FROM information_schema.processlist WHERE id<>CONNECTION_ID() AND db='vol'"]).await;
                for id in ids {
                    self.sql(&[&format!("KILL {id}")]).await;
                }
            }
        }
    }

    /// The directory of its Unix socket.
    pub fn socket_dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        self.keeper.wait().ok();
    }
}
