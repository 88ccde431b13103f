//! The change log: what every change appends, and what is removed of it.

use bytes::Bytes;
use shoal_format::{Ino, Settings, SliceRecord, Time, trash_hour};

use super::Case;
use super::sample::{BatchBuilder, settings};
use crate::engine::Job;
use crate::ops::{
    AtimeMode, Caller, Fallocate, FileRange, NewInode, Place, QuotaLimits, RenameMode, SetAttr, SetTime, XattrMode,
    plan_compaction,
};
use crate::quota::QuotaKey;
use crate::record::{ChunkSlices, SliceRef};
use crate::session::{Session, now};

fn logged() -> Settings {
    Settings { change_log: true, trash_days: 0, ..settings() }
}

/// An entry without its time and number.
fn what(entry: &str) -> String {
    let mut parts = entry.split('|');
    let (time, what, client) = (parts.next(), parts.next(), parts.next());
    let (secs, nanos) = time.and_then(|time| time.split_once('.')).expect("a time");
    assert!(secs.parse::<i64>().is_ok() && nanos.len() == 9 && client.is_some_and(|by| by.starts_with('(')), "{entry}");
    // Where use is batched a fresh directory keeps its time, unless it gets a directory.
    what.expect("an entry").replace(",linux,false)", ",linux,true)")
}

impl Case {
    /// What was logged after version `from`.
    async fn log_after(&self, from: u64) -> Vec<String> {
        self.ok(self.meta.changes(from, 1000).await).iter().map(|change| what(&change.entry)).collect()
    }

    /// Runs `change` and gives what it logged.
    async fn logs<T>(&self, change: impl Future<Output = Result<T, crate::error::MetaError>>) -> Vec<String> {
        let before = self.ok(self.meta.newest_change().await);
        self.ok(change.await);
        self.log_after(before).await
    }
}

fn time(secs: i64) -> Time {
    Time { secs, nanos: 5 }
}

pub(super) async fn every_change_of_names_is_logged(case: &Case) {
    case.ok(case.meta.init(&logged(), false).await);
    let session = case.join().await;
    let (root, ann) = (Caller::root(), Caller { uid: 10, gid: 100, umask: 0o22, ..Caller::default() });
    let (f, _) = case.ok(session.create(&ann, Ino::ROOT, b"a,b", &NewInode::File, 0o666).await);
    let (d, _) = case.ok(session.create(&root, Ino::ROOT, b"d", &NewInode::Directory, 0o755).await);
    let link = NewInode::Symlink(Bytes::from_static(b"to"));
    let (l, _) = case.ok(session.create(&root, d, b"l", &link, 0o777).await);
    let log = case.log_after(0).await;
    assert!(
        log[1].starts_with("NEWSESSION(1,") && log[1].contains("%22MountPoint%22:%22/mnt/conform%22"),
        "{}",
        log[1]
    );
    let want = [
        "INCR_COUNTER(nextSession,1)".to_owned(),
        log[1].clone(),
        "INCR_COUNTER(nextInode,1024)".to_owned(),
        format!("CREATE(1,a%2Cb,10,100,1,420,18,,linux,true):{f}"),
        format!("CREATE(1,d,0,0,2,493,0,,linux,true):{d}"),
        log[5].clone(),
    ];
    assert_eq!(log, want);
    assert!(log[5].starts_with(&format!("CREATE({d},l,0,0,3,511,0,to,linux,")) && log[5].ends_with(&format!(":{l}")));

    let log = case.logs(session.link(&root, f, d, b"g")).await;
    assert!(log[0].starts_with(&format!("LINK({f},{d},g,")) && log[0].ends_with(":2"), "{log:?}");
    let place = |parent, name| Place { parent, name };
    let (a, g, m) = (place(Ino::ROOT, &b"a,b"[..]), place(d, &b"g"[..]), place(d, &b"m"[..]));
    let mv = |from, to, mode| session.rename(&root, from, to, mode);
    assert_eq!(case.logs(mv(a, m, RenameMode::NoReplace)).await, [format!("MOVE(1,a%2Cb,{d},m,1,0,0):{f}")]);
    let l_place = place(d, &b"l"[..]);
    assert_eq!(case.logs(mv(m, l_place, RenameMode::Exchange)).await, [format!("MOVE({d},m,{d},l,2,{l},0):{f}")]);
    assert_eq!(case.logs(mv(m, g, RenameMode::Replace)).await, [format!("MOVE({d},m,{d},g,0,{f},0):{l}")]);
    let log = case.logs(session.unlink(&root, d, b"l")).await;
    assert!(log[0].starts_with(&format!("UNLINK({d},l,0,false,")) && log[0].ends_with(&format!("):{f}")), "{log:?}");
    case.ok(session.unlink(&root, d, b"g").await);
    assert_eq!(case.logs(session.rmdir(&root, Ino::ROOT, b"d")).await, [format!("RMDIR(1,d,0):{d}")]);
    assert_eq!(case.logs(session.close()).await, ["CLEANSESSION(1)"]);
    case.init_trash_again().await;
}

impl Case {
    /// What goes to the trash is logged with where it goes.
    async fn init_trash_again(&self) {
        self.ok(self.meta.update_settings(&Settings { trash_days: 1, ..logged() }).await);
        let session = self.join().await;
        let (f, _) = self.ok(session.create(&Caller::root(), Ino::ROOT, b"f", &NewInode::File, 0o644).await);
        let hour = Ino(Ino::TRASH.0 + 1);
        let log = self.logs(session.unlink(&Caller::root(), Ino::ROOT, b"f")).await;
        let name = trash_hour(now());
        let made = |name: &str| format!("CREATE({},{name},0,0,2,365,0,,linux,true):{hour}", Ino::TRASH);
        assert!(log[0] == made(&name) || log[0].starts_with("CREATE("), "{log:?}");
        assert!(
            log[1].starts_with(&format!("UNLINK(1,f,{hour},false,")) && log[1].ends_with(&format!(":{f}")),
            "{log:?}"
        );
        self.ok(session.close().await);
    }
}

pub(super) async fn every_change_of_an_inode_is_logged(case: &Case) {
    case.ok(case.meta.init(&logged(), false).await);
    let session = case.join().await;
    let root = Caller::root();
    let (f, _) = case.ok(session.create(&root, Ino::ROOT, b"f", &NewInode::File, 0o644).await);
    let set =
        SetAttr { uid: Some(7), atime: Some(SetTime::To(time(3))), mtime: Some(SetTime::Now), ..Default::default() };
    let log = case.logs(session.setattr(&root, f, &set)).await;
    let attr = case.some(case.meta.getattr(f).await);
    let (m, c) = (attr.mtime, attr.ctime);
    let want = format!("SETATTR({f},306,0,7,0,420,0,3,{},5,{},{},{},0)", m.secs, m.nanos, c.secs, c.nanos);
    assert_eq!(log, [want]);
    let log = case.logs(session.setxattr(f, b"user.k", b"v\xff", XattrMode::Create)).await;
    assert_eq!(log, [format!("SETXATTR({f},user.k,v%FF,1)")]);
    assert_eq!(case.logs(session.removexattr(f, b"user.k")).await, [format!("REMOVEXATTR({f},user.k)")]);

    let record = |pos, id, len| SliceRecord::whole(pos, id, len);
    let chunk = |index, slices: &[SliceRecord]| ChunkSlices { ino: f, index, slices: slices.to_vec() };
    assert_eq!(case.logs(session.note_read(f, AtimeMode::Relative)).await, [format!("ACCESS({f})")]);
    assert!(case.logs(session.note_read(f, AtimeMode::Relative)).await.is_empty());
    let (s, t) = (case.ok(session.new_slice().await), case.ok(session.new_slice().await));
    let chunks = [chunk(0, &[record(0, s, 100), record(50, t, 100)])];
    let log = case.logs(session.write(f, &chunks, time(9))).await;
    assert_eq!(log, [format!("WRITE({f},0,0,{s},100,9,5):1"), format!("WRITE({f},0,50,{t},100,9,5):2")]);
    assert_eq!(case.logs(session.truncate(f, 120)).await, [format!("TRUNCATE({f},150,120,0)")]);
    let log = case.logs(session.fallocate(f, Fallocate::Punch, 10, 20)).await;
    assert_eq!(log, [format!("FALLOCATE({f},10,20,3)")]);
    let (from, to) = (FileRange { ino: f, offset: 5 }, FileRange { ino: f, offset: 200 });
    let log = case.logs(session.copy_range(from, to, 40)).await;
    assert_eq!(log, [format!("COPYFILERANGE({f},5,{f},200,40):240")]);
    let plan = plan_compaction(&case.ok(case.meta.chunk(f, 0).await)).expect("many records");
    let id = case.ok(session.new_slice().await);
    let log = case.logs(session.compact(f, 0, &plan, id)).await;
    let (n, pos, size) = (plan.replaced().len(), plan.pos, plan.size);
    assert_eq!(log, [format!("COMPACTCHUNK({f},0,0,{n},{pos},{id},{size})")]);
    let gone = SliceRef { id: s, size: 100, count: 0 };
    assert_eq!(case.logs(session.forget_slices(&[gone])).await, [format!("DELETESLICE({s},100)")]);

    session.opened(f);
    case.ok(session.unlink(&root, Ino::ROOT, b"f").await);
    let log = case.logs(session.release(f)).await;
    assert_eq!(log[0], format!("DELSUSTAINED(1,{f})"));
    case.ok(session.close().await);
}

pub(super) async fn what_tools_do_is_logged_as_nobodys(case: &Case) {
    case.ok(case.meta.init(&logged(), false).await);
    let ids = case.ok(case.meta.alloc_inodes(3).await).start;
    case.ok(case.meta.alloc_slices(1).await);
    let slice = [SliceRecord::whole(0, 1, 10)];
    let batch = BatchBuilder::new().dir(1, b"d", ids).sliced(ids, b"f", ids + 1, &slice).xattr(b"user.k", b"v");
    case.ok(case.meta.import(batch.link(1, b"g", ids + 1).build()).await);
    let log = case.log_after(0).await.split_off(2);
    let want = [
        format!("CREATE(1,d,1000,100,2,493,0,,linux,true):{ids}"),
        log[1].clone(),
        format!("CREATE({ids},f,1000,100,1,420,0,,linux,true):{}", ids + 1),
        format!("WRITE({},0,0,1,10,1700000000,123456789):1", ids + 1),
        format!("SETXATTR({},user.k,v,0)", ids + 1),
        log[5].clone(),
        format!("LINK({},1,g,true):2", ids + 1),
    ];
    assert_eq!(log, want);
    let times = "1700000000,1700000000,123456789,123456789,1700000000,123456789,0)";
    assert_eq!(log[1], format!("SETATTR({ids},55,0,1000,100,493,0,{times}"));
    let limits = QuotaLimits { space: None, inodes: Some(9) };
    assert_eq!(
        case.logs(case.meta.set_quota(QuotaKey::Dir(Ino(ids)), limits)).await,
        [format!("SETQUOTA(0,{ids},-1,9)")]
    );
    let log = case.logs(case.meta.set_quota(QuotaKey::User(5), limits)).await;
    assert_eq!(log, ["INIT_ENABLE_USERGROUPQUOTA()", "SETQUOTA(1,5,-1,9)"]);
    assert_eq!(case.logs(case.meta.remove_quota(QuotaKey::User(5))).await, ["DELQUOTA(1,5)"]);
    let changes = case.ok(case.meta.changes(0, 1000).await);
    let by: Vec<&str> = changes.iter().filter_map(|change| change.entry.rsplit('|').next()).collect();
    let numbered: Vec<String> = (1..=by.len()).map(|n| format!("(0,{n})")).collect();
    assert_eq!(by, numbered);
}

pub(super) async fn a_volume_without_a_log_logs_nothing(case: &Case) {
    case.init().await;
    let session = case.join().await;
    case.ok(session.create(&Caller::root(), Ino::ROOT, b"f", &NewInode::File, 0o644).await);
    case.ok(session.close().await);
    assert_eq!(case.ok(case.meta.changes(0, 9).await), []);
    assert_eq!(case.ok(case.meta.newest_change().await), 0);
}

pub(super) async fn old_entries_and_too_many_are_removed(case: &Case) {
    let keep = |age, lines| Settings { change_log_max_age: age, change_log_max_lines: lines, ..logged() };
    case.ok(case.meta.init(&keep(100, 0), false).await);
    let session = case.join().await;
    let secs = now().secs;
    let txn = case.ok(case.engine.begin().await);
    let before = case.ok(txn.newest_change().await);
    case.ok(txn.remove_changes(before).await);
    for age in [9000, 200, 150, 50, 40] {
        case.ok(txn.append_change(&format!("{}.000000000|SET(a,{age})|(9,9)", secs - age)).await);
    }
    case.ok(txn.commit().await);
    let run = async |session: &Session| {
        let txn = case.ok(case.engine.begin().await);
        case.ok(txn.elect(Job::ChangeLog, 1, i64::MIN).await);
        case.ok(txn.commit().await);
        assert!(case.ok(session.run_job(Job::ChangeLog).await));
        case.log_after(0).await
    };
    let entries = run(&session).await;
    assert_eq!(entries[..2], ["SET(a,50)", "SET(a,40)"]);
    assert!(entries[2].starts_with("SET(lastCleanupChangelog,"), "{entries:?}");
    case.ok(case.meta.update_settings(&keep(0, 2)).await);
    case.ok(session.beat().await);
    let versions: Vec<u64> = case.ok(case.meta.changes(0, 9).await).iter().map(|change| change.version).collect();
    let entries = run(&session).await;
    assert_eq!(entries.len(), 2, "{entries:?}");
    let left: Vec<u64> = case.ok(case.meta.changes(0, 9).await).iter().map(|change| change.version).collect();
    assert!(left[0] >= versions[2], "versions are never given twice: {left:?} after {versions:?}");
    case.ok(session.close().await);
}
