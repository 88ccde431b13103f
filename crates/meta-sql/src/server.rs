//! A database on a server, PostgreSQL or MySQL: many writers at once.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use shoal_meta::{Accounting, Engine, MetaError, Records, Txn};
use sqlx::ConnectOptions;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::OpenMode;
use crate::address::ServerAddress;
use crate::address::mysql::{MySqlAddress, MySqlPlace, MySqlTls};
use crate::address::postgres::{PgAddress, PgTls};
use crate::args::Args;
use crate::dialect::Dialect;
use crate::driver::Server;
use crate::pool::{Pool, Reuse};
use crate::schema::{NODE_COLUMNS, table_names};
use crate::server_txn::ServerTxn;
use crate::session::Session;
use crate::statements::Statements;

/// Prepared statements a connection keeps: all of ours. A MySQL server bounds their sum over all connections
/// (`max_prepared_stmt_count`, 16,382 unless set).
const STATEMENT_CACHE: usize = 192;

/// Metadata on a server.
pub(crate) struct ServerEngine<D: Server> {
    session: Session<Pool<D>>,
    mode: OpenMode,
}

impl<D: Server> std::fmt::Debug for ServerEngine<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ServerEngine").field(&self.session.sql.at).finish()
    }
}

/// Opens the database at `address`.
pub(crate) async fn open_postgres(
    address: &PgAddress,
    mode: OpenMode,
) -> Result<ServerEngine<sqlx::Postgres>, MetaError> {
    let pool = Pool::new(postgres_options(address), address.server.limits);
    ServerEngine::open(pool, &address.server, mode).await
}

/// Opens the database at `address`.
pub(crate) async fn open_mysql(address: &MySqlAddress, mode: OpenMode) -> Result<ServerEngine<sqlx::MySql>, MetaError> {
    let pool = Pool::new(mysql_options(address), address.server.limits);
    ServerEngine::open(pool, &address.server, mode).await
}

/// Only what the URL says: no file or variable that other programs use to find their password.
fn postgres_options(address: &PgAddress) -> PgConnectOptions {
    let mut options = PgConnectOptions::new_without_pgpass()
        .port(address.port)
        .ssl_mode(match address.tls {
            PgTls::Disable => PgSslMode::Disable,
            PgTls::Allow => PgSslMode::Allow,
            PgTls::Prefer => PgSslMode::Prefer,
            PgTls::Require => PgSslMode::Require,
            PgTls::VerifyCa => PgSslMode::VerifyCa,
            PgTls::VerifyFull => PgSslMode::VerifyFull,
        })
        .statement_cache_capacity(STATEMENT_CACHE)
        .disable_statement_logging();
    options = match address.host.starts_with('/') {
        true => options.socket(&address.host),
        false => options.host(&address.host),
    };
    if let Some(user) = &address.user {
        options = options.username(user);
    }
    if let Some(password) = &address.password {
        options = options.password(password);
    }
    if let Some(database) = &address.database {
        options = options.database(database);
    }
    if let Some(path) = &address.root_cert {
        options = options.ssl_root_cert(path);
    }
    if let Some(path) = &address.cert {
        options = options.ssl_client_cert(path);
    }
    if let Some(path) = &address.key {
        options = options.ssl_client_key(path);
    }
    options.options(address.settings.iter().map(|(key, value)| (key, value)))
}

fn mysql_options(address: &MySqlAddress) -> MySqlConnectOptions {
    let options = MySqlConnectOptions::new()
        .database(&address.database)
        .ssl_mode(match address.tls {
            MySqlTls::Disabled => MySqlSslMode::Disabled,
            MySqlTls::Preferred => MySqlSslMode::Preferred,
            MySqlTls::Required => MySqlSslMode::Required,
            MySqlTls::Verified => MySqlSslMode::VerifyIdentity,
        })
        .statement_cache_capacity(STATEMENT_CACHE)
        .disable_statement_logging();
    let options = match &address.place {
        MySqlPlace::Tcp { host, port } => options.host(host).port(*port),
        MySqlPlace::Unix(path) => options.socket(path),
    };
    let options = match &address.user {
        Some(user) => options.username(user),
        None => options,
    };
    match &address.password {
        Some(password) => options.password(password),
        None => options,
    }
}

impl<D: Server> ServerEngine<D> {
    async fn open(pool: Pool<D>, address: &ServerAddress, mode: OpenMode) -> Result<ServerEngine<D>, MetaError> {
        let prefix = &address.table_prefix;
        let every: Vec<String> = NODE_COLUMNS.iter().map(ToString::to_string).collect();
        let sql = Arc::new(Statements::new::<D>(&address.name, prefix, &every));
        let session = Session { link: pool, sql };
        let found = columns(&session).await?;
        let tables: HashSet<&str> = found.iter().map(|(table, _)| table.as_str()).collect();
        let node: Vec<String> = found
            .iter()
            .filter(|(table, _)| *table == format!("{prefix}node"))
            .map(|(_, column)| column.clone())
            .collect();
        if node.is_empty() {
            return match mode {
                OpenMode::Create => Ok(ServerEngine { session, mode }),
                OpenMode::ReadOnly | OpenMode::ReadWrite => Err(MetaError::NoVolume { at: address.name.clone() }),
            };
        }
        let missing = table_names().map(|name| format!("{prefix}{name}")).find(|name| !tables.contains(name.as_str()));
        // A statement that names a missing table would undo a transaction, so writers need them all.
        if let (OpenMode::ReadWrite, Some(missing)) = (mode, missing) {
            let at = &address.name;
            let what =
                format!("{at} has an older schema (no table {missing}); open it once with JuiceFS 1.4 to renew it");
            return Err(MetaError::Invalid { what });
        }
        let sql = Arc::new(Statements::new::<D>(&address.name, prefix, &node));
        Ok(ServerEngine { session: Session { link: session.link, sql }, mode })
    }
}

/// Every table and column the connection's schema has.
async fn columns<D: Server>(session: &Session<Pool<D>>) -> Result<Vec<(String, String)>, MetaError> {
    let schema = match D::DIALECT {
        Dialect::MySql => "DATABASE()",
        Dialect::Postgres | Dialect::Sqlite => "current_schema()",
    };
    let text = format!("SELECT table_name,column_name FROM information_schema.columns WHERE table_schema={schema}");
    session.rows(&Arc::from(text), Args::default(), |row| Ok((row.text(0)?, row.text(1)?))).await
}

#[async_trait]
impl<D: Server> Engine for ServerEngine<D> {
    fn name(&self) -> &str {
        &self.session.sql.at
    }

    fn records(&self) -> &dyn Records {
        &self.session
    }

    fn accounting(&self) -> Accounting {
        Accounting::Batched
    }

    async fn begin(&self) -> Result<Box<dyn Txn>, MetaError> {
        if self.mode == OpenMode::ReadOnly {
            return Err(MetaError::ReadOnly { at: self.name().to_owned() });
        }
        let pool = self.session.link.clone();
        let lease = pool.lease(Reuse::Idle).await.map_err(|error| self.session.failed(error.into()))?;
        Ok(Box::new(Session { link: ServerTxn::new(pool, lease), sql: self.session.sql.clone() }))
    }

    async fn sync(&self) -> Result<(), MetaError> {
        Ok(())
    }

    async fn close(&self) {
        self.session.link.close().await;
    }
}
