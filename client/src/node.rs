//! `shoal node`: looks after one cache node: its state, and leaving the ring in order.

use std::io::IsTerminal;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use shoal_net::{Credentials, Endpoint, EndpointConfig, NetError, Role};
use shoal_runtime::clock;
use shoal_runtime::metrics::Registry;
use shoal_types::{ByteSize, ErrorKind, Span, Tier};
use shoal_wire::{NodeStat, Request, Response};

use crate::status::uptime;

/// How long the node may take to say how it is.
const STAT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two lines of progress where there is no terminal for a bar.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Flags of `node`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Have a node hand its blocks over to the others, leave the ring and end
    Drain {
        #[command(flatten)]
        node: NodeArgs,
        /// Longest time to wait for the end; the node goes on after it [default: until it is done, which its --drain-timeout bounds]
        #[arg(long, value_name = "TIME")]
        timeout: Option<Span>,
    },
    /// Show the state of a node
    Status {
        #[command(flatten)]
        node: NodeArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Which node, and with what right.
#[derive(Debug, clap::Args)]
struct NodeArgs {
    /// Address of the node
    #[arg(value_name = "HOST:PORT")]
    addr: String,
    /// Directory with ca.pem, cert.pem and key.pem; to drain a node they must be a node's, as `shoal cert node` makes them
    #[arg(long, value_name = "DIR")]
    certs: PathBuf,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Drain { node, timeout } => drain(&node, timeout).await,
        Command::Status { node, json } => status(&node, json).await,
    }
}

async fn drain(node: &NodeArgs, timeout: Option<Span>) -> anyhow::Result<()> {
    let (endpoint, addr) = connect(node, Some(Role::Node)).await?;
    let work = watch_drain(&endpoint, addr);
    let drained = match timeout {
        None => work.await,
        Some(Span(limit)) => match clock::timeout(limit, work).await {
            Ok(drained) => drained,
            Err(_) => bail!("{addr} is not done after {}; it goes on", Span(limit)),
        },
    };
    endpoint.close().await;
    let Drained { total, moved, failed, bytes, first_error } = drained?;
    println!("{addr} leaves the ring: {moved} of {total} blocks handed over ({}), {failed} not", ByteSize(bytes));
    if failed > 0 {
        eprintln!(
            "shoal: nobody took {failed} blocks, which will come from the object store; the first: {first_error}"
        );
    }
    Ok(())
}

/// How a drain ended.
struct Drained {
    total: u64,
    moved: u64,
    failed: u64,
    bytes: u64,
    first_error: String,
}

async fn watch_drain(endpoint: &Endpoint, addr: SocketAddr) -> anyhow::Result<Drained> {
    let mut answers = endpoint.call_stream(addr, &Request::Drain).await.map_err(|error| refused(addr, error))?;
    let mut shown = Shown::new();
    loop {
        match answers.next().await {
            Ok(Some(Response::DrainProgress { total, done, moved, failed, bytes, last, first_error })) => {
                shown.progress(done, total, bytes);
                if last {
                    shown.bar.finish_and_clear();
                    return Ok(Drained { total, moved, failed, bytes, first_error });
                }
            }
            Ok(Some(Response::Error { message, .. })) => bail!("{addr} refuses: {message}"),
            Ok(Some(_)) => bail!("{addr} answered something else"),
            Ok(None) => {
                bail!("{addr} ended before it was done; blocks it had not handed over come from the object store")
            }
            Err(error) => return Err(error).context(format!("{addr} was lost before it was done")),
        }
    }
}

/// A bar on a terminal, else a line now and then.
struct Shown {
    bar: ProgressBar,
    line_at: Option<Instant>,
}

impl Shown {
    fn new() -> Shown {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} blocks  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let line_at = (!std::io::stderr().is_terminal()).then(|| clock::now() + LINE_EVERY);
        Shown { bar, line_at }
    }

    fn progress(&mut self, done: u64, total: u64, bytes: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.bar.set_message(ByteSize(bytes).to_string());
        if let Some(at) = &mut self.line_at
            && *at <= clock::now()
        {
            *at = clock::now() + LINE_EVERY;
            eprintln!("{done} of {total} blocks, {} handed over", ByteSize(bytes));
        }
    }
}

async fn status(node: &NodeArgs, json: bool) -> anyhow::Result<()> {
    let (endpoint, addr) = connect(node, None).await?;
    let answer = endpoint.call(addr, &Request::Stat, STAT_TIMEOUT).await.map_err(|error| refused(addr, error));
    endpoint.close().await;
    let stat = match answer? {
        Response::Stat(stat) => stat,
        Response::Error { message, .. } => bail!("{addr} refuses: {message}"),
        _ => bail!("{addr} answered something else"),
    };
    match json {
        true => println!("{}", serde_json::to_string_pretty(&stat)?),
        false => print!("{}", described(&stat)),
    }
    Ok(())
}

fn described(stat: &NodeStat) -> String {
    let of = |used, limit| format!("{} of {}", ByteSize(used), ByteSize(limit));
    let reads = |tier: Tier| stat.reads_by_tier[tier as usize].to_string();
    let rows = [
        ("node", format!("{} ({})", stat.name, stat.id)),
        ("address", stat.addr.to_string()),
        ("state", if stat.leaving { "leaving" } else { "serving" }.to_owned()),
        ("zone", if stat.zone.is_empty() { "-".to_owned() } else { stat.zone.clone() }),
        ("weight", stat.weight.to_string()),
        ("version", stat.version.clone()),
        ("up", uptime(stat.uptime_s)),
        ("members", stat.members.to_string()),
        ("epoch", format!("{:016x}", stat.epoch)),
        ("ram", of(stat.ram_used, stat.ram_limit)),
        ("nvme", of(stat.nvme_used, stat.nvme_limit)),
        ("blocks", stat.blocks.to_string()),
        ("evictions", stat.evictions.to_string()),
        ("ram hits", reads(Tier::Ram)),
        ("nvme hits", reads(Tier::Nvme)),
        ("origin requests", stat.origin_requests.to_string()),
        ("errors", stat.errors.to_string()),
    ];
    rows.iter().map(|(name, value)| format!("{name:<16}{value}\n")).collect()
}

/// An endpoint with the rights of the certificate, which must be of `role` if one is named, and the node's address.
async fn connect(node: &NodeArgs, role: Option<Role>) -> anyhow::Result<(Endpoint, SocketAddr)> {
    let credentials = Credentials::load(&node.certs)?;
    if let Some(role) = role {
        ensure!(credentials.identity().role == role, wrong_role(&node.certs));
    }
    let addr = tokio::net::lookup_host(&node.addr)
        .await
        .with_context(|| format!("`{}` is no address of a node; write HOST:PORT", node.addr))?
        .next()
        .with_context(|| format!("`{}` has no address", node.addr))?;
    let any = match addr {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    Ok((Endpoint::bind(EndpointConfig::new(any, credentials), &Registry::new())?, addr))
}

fn wrong_role(certs: &Path) -> String {
    format!(
        "the certificate in {} is a client's; draining a node takes a node's, made with `shoal cert node`",
        certs.display()
    )
}

fn refused(addr: SocketAddr, error: NetError) -> anyhow::Error {
    let what = match error.kind() {
        ErrorKind::Denied => format!("{addr} and this certificate do not trust each other"),
        _ => format!("{addr} does not answer"),
    };
    anyhow::Error::from(error).context(what)
}
