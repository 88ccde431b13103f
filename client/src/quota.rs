//! `shoal quota`: limits of directories, users and groups. Flags and output are JuiceFS's.

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use clap::Subcommand;
use shoal_format::Ino;
use shoal_meta::{Meta, MkdirP, Quota, QuotaCheck, QuotaKey, QuotaKind, QuotaLimits, QuotaScope, show_name};
use shoal_types::ByteSize;
use shoal_volume::{Access, open_meta};

use crate::grid::Grid;

/// Flags of `quota`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Set limits; what lies below a directory that had none is counted
    Set(Flags),
    /// Show limits and use of one directory, user or group
    Get(Flags),
    /// Show every quota that limits something
    #[command(visible_alias = "ls")]
    List(Flags),
    /// Remove limits
    #[command(visible_alias = "del")]
    Delete(Flags),
    /// Count what quotas are charged with, and compare
    Check(Flags),
}

#[derive(Debug, clap::Args)]
struct Flags {
    /// Metadata URL of the volume
    #[arg(value_name = "META-URL")]
    meta_url: String,
    /// A directory's path in the volume
    #[arg(long, conflicts_with_all = ["uid", "gid"])]
    path: Option<PathBuf>,
    /// A user's number
    #[arg(long, conflicts_with = "gid", value_parser = clap::value_parser!(u32).range(1..))]
    uid: Option<u32>,
    /// A group's number
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    gid: Option<u32>,
    /// Create the directory if it does not exist
    #[arg(long)]
    create: bool,
    /// Most bytes, in GiB or with a unit; 0 for no limit
    #[arg(long, value_name = "GIB", value_parser = gib_size)]
    capacity: Option<ByteSize>,
    /// Most inodes; 0 for no limit
    #[arg(long)]
    inodes: Option<u64>,
    /// Write what was counted where it differs
    #[arg(long)]
    repair: bool,
    /// Count name by name, which is always done
    #[arg(long)]
    strict: bool,
}

/// A bare number is GiB here, as with JuiceFS.
pub(crate) fn gib_size(text: &str) -> Result<ByteSize, String> {
    if let Ok(gib) = text.parse::<u64>() {
        return Ok(ByteSize(gib.saturating_mul(1 << 30)));
    }
    text.parse::<ByteSize>().map_err(|error| error.to_string())
}

/// Whom a command is about, and what people call it.
struct Subject {
    key: QuotaKey,
    name: String,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let (flags, access) = match &args.action {
        Action::Get(flags) | Action::List(flags) => (flags, Access::Read),
        Action::Check(flags) if !flags.repair => (flags, Access::Read),
        Action::Set(flags) | Action::Delete(flags) | Action::Check(flags) => (flags, Access::Write),
    };
    let meta = open_meta(&flags.meta_url, access).await?;
    let done = act(&meta, &args.action).await;
    meta.close().await;
    done
}

async fn act(meta: &Meta, action: &Action) -> anyhow::Result<()> {
    match action {
        Action::Set(flags) => {
            let subject = flags.subject(meta).await?.with_context(nobody)?;
            let limits = QuotaLimits { space: flags.capacity.map(|size| size.0), inodes: flags.inodes };
            let quota = meta.set_quota(subject.key, limits).await?;
            print!("{}", table(subject.name, quota));
            Ok(())
        }
        Action::Get(flags) => {
            let subject = flags.subject(meta).await?.with_context(nobody)?;
            if let Some(quota) = meta.quota(subject.key).await? {
                print!("{}", table(subject.name, quota));
            }
            Ok(())
        }
        Action::Delete(flags) => {
            let subject = flags.subject(meta).await?.with_context(nobody)?;
            Ok(meta.remove_quota(subject.key).await?)
        }
        Action::List(flags) => list(meta, flags.subject(meta).await?).await,
        Action::Check(flags) => check(meta, flags).await,
    }
}

fn nobody() -> &'static str {
    "name a directory with --path, a user with --uid or a group with --gid"
}

impl Flags {
    async fn subject(&self, meta: &Meta) -> anyhow::Result<Option<Subject>> {
        if let Some(uid) = self.uid {
            return Ok(Some(Subject { key: QuotaKey::User(uid), name: uid.to_string() }));
        }
        if let Some(gid) = self.gid {
            return Ok(Some(Subject { key: QuotaKey::Group(gid), name: gid.to_string() }));
        }
        let Some(path) = &self.path else { return Ok(None) };
        let name = path.display().to_string();
        let bytes = path.as_os_str().as_encoded_bytes();
        let ino = match self.create {
            true => meta.mkdir_p(bytes, MkdirP::default()).await?.0,
            false => {
                let found = meta.resolve_path(bytes).await?;
                let (ino, attr) = found.with_context(|| format!("there is no {name} in the volume"))?;
                ensure!(attr.is_dir(), "{name} is not a directory");
                ino
            }
        };
        ensure!(!ino.is_trash(), "{name} is the trash, which has no quota");
        Ok(Some(Subject { key: QuotaKey::Dir(ino), name }))
    }
}

async fn list(meta: &Meta, only: Option<Subject>) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for kind in [QuotaKind::Dir, QuotaKind::User, QuotaKind::Group] {
        for quota in meta.quotas(kind).await?.into_iter().filter(Quota::is_limited) {
            if only.as_ref().is_none_or(|subject| subject.key == quota.key) {
                rows.push((label(meta, quota.key).await?, quota));
            }
        }
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    print!("{}", framed("Path/ID", &rows));
    Ok(())
}

/// What a list of quotas of all kinds calls one.
async fn label(meta: &Meta, key: QuotaKey) -> anyhow::Result<String> {
    Ok(match key {
        QuotaKey::Dir(dir) => path_of(meta, dir).await?,
        QuotaKey::User(uid) => format!("uid:{uid}"),
        QuotaKey::Group(gid) => format!("gid:{gid}"),
    })
}

/// The path of a directory from the root; `inode:N` for one that is gone or hangs nowhere.
async fn path_of(meta: &Meta, dir: Ino) -> anyhow::Result<String> {
    let (mut ino, mut path) = (dir, String::new());
    while ino != Ino::ROOT {
        let Some(attr) = meta.getattr(ino).await? else { return Ok(format!("inode:{dir}")) };
        let names = meta.readdir(attr.parent).await?;
        let Some(name) = names.iter().find(|entry| entry.ino == ino) else { return Ok(format!("inode:{dir}")) };
        path = format!("/{}{path}", show_name(&name.name));
        ino = attr.parent;
    }
    Ok(if path.is_empty() { "/".to_owned() } else { path })
}

async fn check(meta: &Meta, flags: &Flags) -> anyhow::Result<()> {
    let subject = flags.subject(meta).await?;
    let scope = match &subject {
        None => QuotaScope::All,
        Some(Subject { key: QuotaKey::Dir(dir), .. }) => QuotaScope::Dir(*dir),
        Some(_) => QuotaScope::Owners,
    };
    let checks = match flags.repair {
        true => meta.repair_quotas(scope).await?,
        false => meta.check_quotas(scope).await?,
    };
    let mut wrong = 0;
    let mut rows = Vec::new();
    for check in &checks {
        let name = label(meta, check.kept.key).await?;
        if check.is_consistent() {
            tracing::info!(quota = name, "consistent");
        } else {
            wrong += 1;
            eprintln!("{}", difference(&name, check));
        }
        rows.push((name, check.kept.with_use(check.counted)));
    }
    if wrong > 0 && !flags.repair {
        bail!("{wrong} of {} quotas are inconsistent; --repair writes what was counted", checks.len());
    }
    print!("{}", framed("Path/ID", &rows));
    Ok(())
}

fn difference(name: &str, check: &QuotaCheck) -> String {
    let bytes = |space: i64| u64::try_from(space).map_or_else(|_| format!("{space} B"), |space| ByteSize(space).iec());
    let (kept, counted) = (&check.kept, &check.counted);
    format!(
        "{name}: quota({}, {}) != summary({}, {})",
        kept.used_inodes,
        bytes(kept.used_space),
        counted.inodes,
        bytes(counted.space)
    )
}

/// A table of one quota.
fn table(name: String, quota: Quota) -> String {
    let head = match quota.key.kind() {
        QuotaKind::User => "User ID",
        QuotaKind::Group => "Group ID",
        QuotaKind::Dir => "Path",
    };
    framed(head, &[(name, quota)])
}

fn framed(head: &'static str, rows: &[(String, Quota)]) -> String {
    let mut grid = Grid::new(&[head, "Size", "Used", "Use%", "Inodes", "IUsed", "IUse%"]);
    for (name, quota) in rows {
        let percent =
            |used: i64, limit: i64| if limit > 0 { format!("{}%", used.max(0) * 100 / limit) } else { String::new() };
        let limit = |limit: i64, said: &dyn Fn(u64) -> String| match u64::try_from(limit) {
            Ok(limit) if limit > 0 => said(limit),
            _ => "unchanged".to_owned(),
        };
        grid.row(vec![
            name.clone(),
            limit(quota.max_space, &|space| ByteSize(space).iec()),
            ByteSize(u64::try_from(quota.used_space).unwrap_or(0)).iec(),
            percent(quota.used_space, quota.max_space),
            limit(quota.max_inodes, &|inodes| inodes.to_string()),
            quota.used_inodes.to_string(),
            percent(quota.used_inodes, quota.max_inodes),
        ]);
    }
    grid.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_is_in_gib_unless_it_has_a_unit() {
        assert_eq!(gib_size("2"), Ok(ByteSize(2 << 30)));
        assert_eq!(gib_size("1M"), Ok(ByteSize(1 << 20)));
        assert!(gib_size("much").is_err());
    }

    #[test]
    fn quotas_are_shown_as_by_juicefs() {
        let quota = Quota { max_inodes: 6, used_space: 36_864, used_inodes: 7, ..Quota::unlimited(QuotaKey::User(10)) };
        let want = "\
+---------+-----------+--------+------+--------+-------+-------+
| User ID |    Size   |  Used  | Use% | Inodes | IUsed | IUse% |
+---------+-----------+--------+------+--------+-------+-------+
| 10      | unchanged | 36 KiB |      |      6 |     7 |  116% |
+---------+-----------+--------+------+--------+-------+-------+
";
        assert_eq!(table("10".into(), quota), want);
    }
}
