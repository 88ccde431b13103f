//! `shoal status`: the nodes of a ring; the setting, the clients and the use of a volume.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::future::join_all;
use shoal_cluster::Member;
use shoal_net::Endpoint;
use shoal_runtime::metrics::Registry;
use shoal_types::{ByteSize, Tier};
use shoal_volume::{Access, OpenOptions, RingClient, RingOptions, Volume, connect};
use shoal_wire::{NodeStat, Request, Response};

use crate::mount_state::MountState;
use crate::options::RingArgs;
use crate::table::Table;
use crate::volume_status::{Detail, describe, describe_session};

/// How long a node may take to say how it is.
const STAT_TIMEOUT: Duration = Duration::from_secs(5);

/// Flags of `status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Metadata URL of a volume, or a path in a mount
    #[arg(value_name = "META-URL|PATH")]
    target: Option<String>,
    #[command(flatten)]
    ring: RingArgs,
    /// Show this client of the volume alone, with the removed files it holds
    #[arg(long, short, value_name = "SID")]
    session: Option<u64>,
    /// Count what is in the trash and what waits to be deleted too, which may take long
    #[arg(long, short)]
    more: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let registry = Registry::new();
    let mut ring = args.ring.ring()?;
    let mut described = None;
    if let Some(target) = &args.target {
        let url = match target.contains("://") {
            true => target.clone(),
            false => {
                let (state, _) = MountState::of(&PathBuf::from(target))?;
                ring = ring.or_else(|| state.ring());
                state.meta_url
            }
        };
        let volume = Volume::open(&url, &OpenOptions::new(Access::Read), &registry).await?;
        let detail = if args.more { Detail::More } else { Detail::Usual };
        match args.session {
            Some(sid) => {
                println!("{}", serde_json::to_string_pretty(&describe_session(&volume.meta, sid).await?)?);
                return Ok(());
            }
            None => described = Some(describe(&volume, detail).await?),
        }
    }
    if ring.is_none() && described.is_none() {
        bail!("name a ring with --join HOST:PORT,... and --certs DIR, or a volume, or a path in a mount");
    }
    let nodes = match &ring {
        Some(ring) => ask_nodes(ring, &registry).await?,
        None => Vec::new(),
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&as_json(described.as_ref(), &nodes))?);
        return Ok(());
    }
    if let Some(described) = described {
        println!("{}", serde_json::to_string_pretty(&described)?);
    }
    if ring.is_some() {
        print!("{}", as_table(&nodes).render());
    }
    Ok(())
}

/// A node of the ring, and what it said of itself.
pub(crate) struct NodeReport {
    pub member: Member,
    pub share: f64,
    pub stat: anyhow::Result<NodeStat>,
}

pub(crate) async fn ask_nodes(options: &RingOptions, registry: &Registry) -> anyhow::Result<Vec<NodeReport>> {
    let RingClient { endpoint, views, .. } = &connect(options, STAT_TIMEOUT, registry).await?;
    let view = views.current();
    let asked = view.members.iter().map(|member| async {
        let share = view.ring.share(member.id);
        NodeReport { member: (**member).clone(), share, stat: ask(endpoint, member).await }
    });
    let mut nodes = join_all(asked).await;
    nodes.sort_by(|a, b| a.member.name.cmp(&b.member.name));
    endpoint.close().await;
    Ok(nodes)
}

async fn ask(endpoint: &Endpoint, member: &Member) -> anyhow::Result<NodeStat> {
    let answer = endpoint.call(member.addr, &Request::Stat, STAT_TIMEOUT).await;
    match answer.with_context(|| format!("node {} does not answer", member.name))? {
        Response::Stat(stat) => Ok(stat),
        Response::Error { message, .. } => bail!(message),
        _ => bail!("node {} answered something else", member.name),
    }
}

fn as_table(nodes: &[NodeReport]) -> Table {
    let mut table = Table::new(&[
        "NODE",
        "ADDRESS",
        "ZONE",
        "STATE",
        "WEIGHT",
        "SHARE",
        "RAM",
        "OF",
        "NVME",
        "OF",
        "BLOCKS",
        "RAM HITS",
        "NVME HITS",
        "ORIGIN",
        "ERRORS",
        "UP",
    ]);
    for node in nodes {
        let Member { name, addr, zone, weight, .. } = &node.member;
        let mut cells = vec![
            name.clone(),
            addr.to_string(),
            if zone.is_empty() { "-".to_owned() } else { zone.clone() },
            state(&node.member).to_owned(),
            weight.to_string(),
            format!("{:.1}%", 100.0 * node.share),
        ];
        match &node.stat {
            Ok(stat) => cells.extend([
                ByteSize(stat.ram_used).to_string(),
                ByteSize(stat.ram_limit).to_string(),
                ByteSize(stat.nvme_used).to_string(),
                ByteSize(stat.nvme_limit).to_string(),
                stat.blocks.to_string(),
                stat.reads_by_tier[Tier::Ram as usize].to_string(),
                stat.reads_by_tier[Tier::Nvme as usize].to_string(),
                stat.origin_requests.to_string(),
                stat.errors.to_string(),
                uptime(stat.uptime_s),
            ]),
            Err(error) => cells.push(format!("{error:#}")),
        }
        table.row(cells);
    }
    table
}

/// In a word, whether the node owns blocks, and if not why.
fn state(member: &Member) -> &'static str {
    match (member.leaving, member.damped) {
        (true, _) => "leaving",
        (false, true) => "damped",
        (false, false) => "serving",
    }
}

pub(crate) fn uptime(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn as_json(volume: Option<&serde_json::Value>, nodes: &[NodeReport]) -> serde_json::Value {
    let nodes: Vec<_> = nodes
        .iter()
        .map(|node| {
            serde_json::json!({
                "id": node.member.id.to_string(),
                "name": node.member.name,
                "addr": node.member.addr.to_string(),
                "share": node.share,
                "weight": node.member.weight,
                "zone": node.member.zone,
                "state": state(&node.member),
                "error": node.stat.as_ref().err().map(|error| format!("{error:#}")),
                "stat": node.stat.as_ref().ok(),
            })
        })
        .collect();
    let part = |name: &str| volume.map(|volume| &volume[name]);
    serde_json::json!({
        "setting": part("Setting"),
        "sessions": part("Sessions"),
        "stat": part("Stat"),
        "nodes": nodes,
    })
}
