//! What `shoal status` says of a volume: its setting, its clients, how full it is. The shape is JuiceFS's.

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};
use shoal_format::Ino;
use shoal_format::{SessionInfo, Settings, Time, rfc3339};
use shoal_fuse::Space;
use shoal_meta::{Counting, Meta, Reach, SessionRecord};
use shoal_volume::Volume;

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// What costs a few reads.
    Usual,
    /// Also what is in the trash, and what waits to be deleted: counted one by one.
    More,
}

/// Setting, sessions and use of a volume.
pub(crate) async fn describe(volume: &Volume, detail: Detail) -> anyhow::Result<Value> {
    let setting: Value = serde_json::from_str(&without_secrets(volume.settings.clone()).to_json())?;
    let sessions = volume.meta.sessions().await?;
    let sessions: Vec<Value> = sessions.iter().map(|session| Value::Object(described(session))).collect();
    let mut stat = use_of(&volume.meta).await?;
    if detail == Detail::More {
        add_waiting(&volume.meta, &mut stat).await?;
    }
    Ok(json!({ "Setting": setting, "Sessions": sessions, "Stat": stat }))
}

/// One session with what it holds.
pub(crate) async fn describe_session(meta: &Meta, sid: u64) -> anyhow::Result<Value> {
    let sessions = meta.sessions().await?;
    let Some(session) = sessions.iter().find(|session| session.sid == sid) else {
        bail!("the volume has no session {sid}");
    };
    let mut shown = described(session);
    let held: Vec<u64> = meta.sustained(sid).await?.into_iter().map(|ino| ino.0).collect();
    if !held.is_empty() {
        shown.insert("Sustained".into(), json!(held));
    }
    Ok(Value::Object(shown))
}

fn described(session: &SessionRecord) -> Map<String, Value> {
    let mut shown = Map::new();
    shown.insert("Sid".into(), json!(session.sid));
    shown.insert("Expire".into(), json!(rfc3339(Time { secs: session.expire, nanos: 0 })));
    let info = SessionInfo::parse(&session.info).unwrap_or_default();
    if let Ok(Value::Object(info)) = serde_json::from_str(&info.to_json()) {
        shown.extend(info);
    }
    shown
}

async fn use_of(meta: &Meta) -> anyhow::Result<Map<String, Value>> {
    let stat = meta.statfs().await.context("how full the volume is")?;
    let space = Space::of(&stat);
    let mut shown = Map::new();
    shown.insert("UsedSpace".into(), json!(stat.used_bytes));
    shown.insert("AvailableSpace".into(), json!(space.bytes_free()));
    shown.insert("UsedInodes".into(), json!(stat.used_inodes));
    shown.insert("AvailableInodes".into(), json!(space.files_free));
    Ok(shown)
}

/// What is in the trash and what waits to be deleted, where there is any.
async fn add_waiting(meta: &Meta, stat: &mut Map<String, Value>) -> anyhow::Result<()> {
    let mut add = |names: [&str; 2], count: u64, size: u64| {
        if count > 0 {
            stat.insert(names[0].into(), json!(count));
            stat.insert(names[1].into(), json!(size));
        }
    };
    if let Some(attr) = meta.getattr(Ino::TRASH).await? {
        let trash = meta.summary(Ino::TRASH, &attr, Reach::Tree, Counting::Inodes).await?;
        add(["TrashFileCount", "TrashFileSize"], trash.files, trash.length);
    }
    let deleted = meta.deleted_files().await?;
    add(
        ["PendingDeletedFileCount", "PendingDeletedFileSize"],
        deleted.len() as u64,
        deleted.iter().map(|file| file.length).sum(),
    );
    Ok(())
}

/// The setting with its secrets replaced by JuiceFS's word for that.
pub(crate) fn without_secrets(mut setting: Settings) -> Settings {
    for secret in [&mut setting.secret_key, &mut setting.session_token, &mut setting.encrypt_key] {
        if !secret.is_empty() {
            *secret = "removed".to_owned();
        }
    }
    setting
}
