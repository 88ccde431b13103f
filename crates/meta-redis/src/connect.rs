//! Making connections: to one server, to the master that sentinels name, to the member of a cluster that has the volume's keys.

use std::path::Path;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::io::{AsyncDNSResolver, tcp::TcpSettings};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Pipeline,
    RedisConnectionInfo, RedisError, TlsCertificates,
};
use shoal_meta::MetaError;
use shoal_types::ErrorKind;

use crate::address::{Address, Host, Place, Tls, host};
use crate::failure::{failed, unreachable};
use crate::keys::{Keys, SETTING};
use crate::options::invalid;
use crate::script;

/// Requests on their way on one connection; more wait.
const IN_FLIGHT_MAX: usize = 4096;

/// Makes connections to the server that has the volume.
pub(crate) struct Dialer {
    address: Address,
    certificates: Option<TlsCertificates>,
    /// The member of a cluster that had the volume's keys when last asked.
    member: Mutex<Option<Host>>,
}

/// Where a login goes.
enum Login {
    Server,
    Sentinel,
}

impl Dialer {
    /// Reads the certificates that `address` names. A server that says it is one of a cluster is treated as such from now on.
    pub(crate) async fn new(address: Address) -> Result<Dialer, MetaError> {
        let certificates = match address.tls {
            Tls::On => {
                // The client asks for the process's choice. It may have been made already.
                rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
                Some(certificates(&address)?)
            }
            Tls::Off => None,
        };
        let mut dialer = Dialer { address, certificates, member: Mutex::new(None) };
        if let Place::Tcp(host) = &dialer.address.place
            && dialer.is_of_cluster(host).await?
        {
            dialer.address.place = Place::Cluster(vec![host.clone()]);
        }
        Ok(dialer)
    }

    /// What messages call the database.
    pub(crate) fn at(&self) -> &str {
        &self.address.name
    }

    /// Connections at once.
    pub(crate) fn connections(&self) -> usize {
        self.address.options.connections
    }

    /// What every key begins with: in a cluster a hash tag, so that all lie together.
    pub(crate) fn prefix(&self) -> String {
        match self.address.place {
            Place::Cluster(_) => format!("{{{}}}", self.address.db),
            _ => String::new(),
        }
    }

    /// True if another server may take over.
    pub(crate) fn may_move(&self) -> bool {
        matches!(self.address.place, Place::Sentinels { .. } | Place::Cluster(_))
    }

    /// A connection to the server that has the volume, where the scripts are loaded.
    pub(crate) async fn dial(&self) -> Result<MultiplexedConnection, MetaError> {
        match &self.address.place {
            Place::Tcp(host) => self.greeted(self.of_host(host), self.address.db).await,
            Place::Unix(path) => self.greeted(ConnectionAddr::Unix(path.clone()), self.address.db).await,
            Place::Sentinels { master, sentinels } => self.dial_master(master, sentinels).await,
            Place::Cluster(seeds) => self.dial_member(seeds).await,
        }
    }

    async fn is_of_cluster(&self, host: &Host) -> Result<bool, MetaError> {
        let mut connection = self.login(self.of_host(host), 0, Login::Server).await?;
        let info: String = ask(self.at(), &mut connection, redis::cmd("INFO").arg("cluster")).await?;
        Ok(info.contains("cluster_enabled:1"))
    }

    /// The master that the first sentinel with an answer names.
    async fn dial_master(&self, master: &str, sentinels: &[Host]) -> Result<MultiplexedConnection, MetaError> {
        let mut last = None;
        for sentinel in sentinels {
            match self.dial_master_of(master, sentinel).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| unreachable(self.at(), "it names no sentinel", ErrorKind::Invalid)))
    }

    async fn dial_master_of(&self, master: &str, sentinel: &Host) -> Result<MultiplexedConnection, MetaError> {
        let mut asked = self.login(self.of_host(sentinel), 0, Login::Sentinel).await?;
        let mut question = redis::cmd("SENTINEL");
        question.arg("get-master-addr-by-name").arg(master);
        let place: Option<(String, u16)> = ask(self.at(), &mut asked, &question).await?;
        let Some((name, port)) = place else {
            let what = format!("sentinel {sentinel} knows no master `{master}`");
            return Err(unreachable(self.at(), what, ErrorKind::NotFound));
        };
        let found = Host { name, port };
        let mut connection = self.greeted(self.of_host(&found), self.address.db).await?;
        let role: redis::Value = ask(self.at(), &mut connection, &redis::cmd("ROLE")).await?;
        match &role {
            redis::Value::Array(parts) if parts.first() == Some(&redis::Value::BulkString(b"master".to_vec())) => {
                Ok(connection)
            }
            _ => {
                let what = format!("{found}, which sentinel {sentinel} names, is no master (yet, or any more)");
                Err(unreachable(self.at(), what, ErrorKind::Unavailable))
            }
        }
    }

    /// The member of the cluster that has the volume's keys. All lie in one slot, so one member has them.
    async fn dial_member(&self, seeds: &[Host]) -> Result<MultiplexedConnection, MetaError> {
        let known = self.member.lock().clone();
        let mut last = None;
        for seed in known.iter().chain(seeds) {
            match self.dial_member_by(seed).await {
                Ok((host, connection)) => {
                    *self.member.lock() = Some(host);
                    return Ok(connection);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| unreachable(self.at(), "it names no server", ErrorKind::Invalid)))
    }

    /// Follows at most one redirection from `seed`.
    async fn dial_member_by(&self, seed: &Host) -> Result<(Host, MultiplexedConnection), MetaError> {
        let key = Keys::new(self.prefix()).single(SETTING);
        let mut question = redis::cmd("EXISTS");
        question.arg(&key);
        let mut here = seed.clone();
        for _ in 0..2 {
            let mut connection = self.greeted(self.of_host(&here), 0).await?;
            match question.query_async::<i64>(&mut connection).await {
                Ok(_) => return Ok((here, connection)),
                Err(error) => {
                    let there = error.redirect_node().and_then(|(node, _)| host(node, here.port));
                    let there = there.ok_or_else(|| failed(self.at(), &error))?;
                    // A member that knows no name of its own leaves it out.
                    let name = if there.name == "localhost" { here.name } else { there.name };
                    here = Host { name, port: there.port };
                }
            }
        }
        Err(unreachable(self.at(), format!("the cluster of {seed} is moving the volume"), ErrorKind::Unavailable))
    }

    /// A connection whose server knows the scripts.
    async fn greeted(&self, addr: ConnectionAddr, db: u32) -> Result<MultiplexedConnection, MetaError> {
        let mut connection = self.login(addr, db, Login::Server).await?;
        let mut greeting = Pipeline::new();
        for command in script::load() {
            greeting.add_command(command);
        }
        greeting.query_async::<()>(&mut connection).await.map_err(|error| failed(self.at(), &error))?;
        Ok(connection)
    }

    async fn login(&self, addr: ConnectionAddr, db: u32, login: Login) -> Result<MultiplexedConnection, MetaError> {
        let shown = addr.to_string();
        let told = |error: &RedisError| match failed(self.at(), error) {
            MetaError::Database { at, detail, kind } => {
                MetaError::Database { at, detail: format!("{shown}: {detail}"), kind }
            }
            other => other,
        };
        let client = self.client(addr, db, login).map_err(|error| told(&error))?;
        let options = &self.address.options;
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(options.dial_timeout))
            .set_response_timeout(Some(options.read_timeout))
            .set_concurrency_limit(IN_FLIGHT_MAX);
        if let (Tls::On, Some(_), ConnectionAddr::TcpTls { .. }) =
            (self.address.tls, &options.tls.server_name, client.get_connection_info().addr())
        {
            config = config.set_dns_resolver(Fixed(shown.clone()));
        }
        client.get_multiplexed_async_connection_with_config(&config).await.map_err(|error| told(&error))
    }

    fn client(&self, addr: ConnectionAddr, db: u32, login: Login) -> Result<Client, RedisError> {
        let address = &self.address;
        let mut settings = RedisConnectionInfo::default().set_db(i64::from(db));
        match login {
            Login::Server => {
                settings = address.user.iter().fold(settings, |settings, user| settings.set_username(user));
                settings = address.password.iter().fold(settings, |settings, password| settings.set_password(password));
            }
            Login::Sentinel => {
                let password = &address.sentinel_password;
                settings = password.iter().fold(settings, |settings, password| settings.set_password(password));
            }
        }
        let info: ConnectionInfo = match (addr, &address.options.tls.server_name) {
            (ConnectionAddr::TcpTls { port, insecure, tls_params, .. }, Some(name)) => {
                ConnectionAddr::TcpTls { host: name.clone(), port, insecure, tls_params }.into_connection_info()?
            }
            (addr, _) => addr.into_connection_info()?,
        };
        let info = info.set_redis_settings(settings).set_tcp_settings(TcpSettings::default().set_nodelay(true));
        match &self.certificates {
            Some(certificates) => Client::build_with_tls(info, certificates.clone()),
            None => Client::open(info),
        }
    }

    fn of_host(&self, host: &Host) -> ConnectionAddr {
        let Host { name, port } = host.clone();
        match self.address.tls {
            Tls::Off => ConnectionAddr::Tcp(name, port),
            Tls::On => {
                let insecure = self.address.options.tls.insecure;
                ConnectionAddr::TcpTls { host: name, port, insecure, tls_params: None }
            }
        }
    }
}

/// Gives the address of one host whatever is asked: certificates may be for another name than the one connected to.
struct Fixed(String);

impl AsyncDNSResolver for Fixed {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        _host: &'b str,
        _port: u16,
    ) -> redis::RedisFuture<'a, Box<dyn Iterator<Item = std::net::SocketAddr> + Send + 'a>> {
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host(self.0.as_str()).await?.collect();
            Ok(Box::new(found.into_iter()) as Box<dyn Iterator<Item = std::net::SocketAddr> + Send>)
        })
    }
}

async fn ask<T: redis::FromRedisValue>(
    at: &str,
    connection: &mut MultiplexedConnection,
    command: &redis::Cmd,
) -> Result<T, MetaError> {
    command.query_async(connection).await.map_err(|error| failed(at, &error))
}

/// The files of the URL.
fn certificates(address: &Address) -> Result<TlsCertificates, MetaError> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| {
            invalid(format!("`{}` names {}, which cannot be read: {error}", address.name, path.display()))
        })
    };
    let tls = &address.options.tls;
    let client_tls = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => Some(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? }),
        _ => None,
    };
    let root_cert = tls.ca_cert.as_deref().map(read).transpose()?;
    Ok(TlsCertificates { client_tls, root_cert })
}
