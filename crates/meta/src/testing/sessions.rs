//! Clients that read and write: their records, ids, settings and limits.

use std::collections::HashSet;

use shoal_format::{Ino, SessionInfo, Settings};
use shoal_runtime::{clock, task};
use shoal_types::ErrorKind;

use super::Case;
use super::sample::{client, settings};
use crate::error::MetaError;
use crate::ops::{Caller, MkdirP, NewInode};
use crate::record::{Counter, IdKind};
use crate::session::{HEARTBEAT, Session};

pub(super) async fn a_client_is_recorded_until_it_leaves(case: &Case) {
    case.init().await;
    let (first, second) = (case.join().await, case.join().await);
    assert_eq!((first.sid(), second.sid()), (1, 2));
    let records = case.ok(case.engine.records().sessions().await);
    assert_eq!(records.iter().map(|record| record.sid).collect::<Vec<_>>(), [1, 2]);
    let said = SessionInfo::parse(&records[0].info).expect("JSON");
    assert_eq!((said.mount_point.as_str(), said.process_id), ("/mnt/conform", 4711));
    let left = records[0].expire - clock::unix_now().as_secs() as i64;
    assert!((58..=60).contains(&left), "five heartbeats of twelve seconds, not {left}");
    case.ok(first.close().await);
    let records = case.ok(case.engine.records().sessions().await);
    assert_eq!(records.iter().map(|record| record.sid).collect::<Vec<_>>(), [2]);
    let error = first.create(&Caller::root(), Ino::ROOT, b"f", &NewInode::File, 0o644).await.expect_err("it has ended");
    assert_eq!(error.kind(), ErrorKind::Denied);
    case.ok(second.close().await);
}

pub(super) async fn ids_are_taken_in_batches(case: &Case) {
    case.init().await;
    let session = case.join().await;
    let takers: Vec<_> = (0..20)
        .map(|_| {
            let session = session.clone();
            task::spawn("take-id", async move { (session.new_slice().await, session.new_inode().await) })
        })
        .collect();
    let (mut slices, mut inodes) = (HashSet::new(), HashSet::new());
    for taker in takers {
        let (slice, inode) = case.ok(taker.await);
        assert!(slices.insert(case.ok(slice)) && inodes.insert(case.ok(inode).0));
    }
    assert_eq!((slices, inodes), ((1..21).collect(), (2..22).collect()));
    let records = case.engine.records();
    assert_eq!(case.ok(records.next_id(IdKind::Slice).await), 4097);
    assert_eq!(case.ok(records.next_id(IdKind::Inode).await), 1026);
    case.ok(session.close().await);
}

pub(super) async fn a_heartbeat_brings_new_settings_and_a_lost_record_back(case: &Case) {
    case.init().await;
    let session = case.join().await;
    let txn = case.ok(case.engine.begin().await);
    case.ok(txn.delete_session(session.sid()).await);
    case.ok(txn.commit().await);
    case.ok(case.meta.update_settings(&Settings { trash_days: 7, ..settings() }).await);
    assert_eq!(session.settings().trash_days, 1);
    case.ok(session.beat().await);
    assert_eq!(session.settings().trash_days, 7);
    assert_eq!(case.ok(case.engine.records().sessions().await).len(), 1);
    case.ok(session.close().await);
}

pub(super) async fn a_volume_that_asks_for_more_or_is_another_one_is_changed_no_more(case: &Case) {
    case.init().await;
    let session = case.join().await;
    let put = async |settings: &Settings| {
        let txn = case.ok(case.engine.begin().await);
        case.ok(txn.put_setting(&settings.to_json()).await);
        case.ok(txn.commit().await);
    };
    let other = Settings { uuid: "11111111-10f1-473c-bdf0-b8ed81207873".into(), ..settings() };
    for wrong in [
        Settings { min_client_version: "9.9.9".into(), ..settings() },
        other,
        Settings { meta_version: 2, ..settings() },
    ] {
        put(&wrong).await;
        case.ok(session.beat().await);
        let error = session.create(&Caller::root(), Ino::ROOT, b"f", &NewInode::File, 0o644).await.expect_err("lost");
        assert!(matches!(error, MetaError::Lost { .. }), "{error}");
        assert_eq!(case.ok(session.meta().lookup(Ino::ROOT, b"f").await), None);
    }
    let refused = Session::open(case.meta.clone(), client(), HEARTBEAT).await.expect_err("a newer volume");
    assert_eq!(refused.kind(), ErrorKind::Denied);
    // The volume is what it was again, and so is the client.
    put(&settings()).await;
    case.ok(session.beat().await);
    case.ok(session.create(&Caller::root(), Ino::ROOT, b"f", &NewInode::File, 0o644).await);
    case.ok(session.close().await);
}

pub(super) async fn limits_and_quotas_are_kept(case: &Case) {
    case.ok(case.meta.init(&Settings { inodes: 3, ..settings() }, false).await);
    let session = case.join().await;
    let root = Caller::root();
    let create = async |name: &str| session.create(&root, Ino::ROOT, name.as_bytes(), &NewInode::File, 0o644).await;
    for name in ["a", "b", "c"] {
        case.ok(create(name).await);
    }
    assert_eq!(create("d").await.expect_err("full").to_string(), "volume `conform` holds at most 3 inodes");
    assert_eq!(case.ok(case.meta.lookup(Ino::ROOT, b"d").await), None, "nothing is left of it");
    case.ok(case.meta.update_settings(&Settings { capacity: 5 * 4096, ..settings() }).await);
    case.ok(session.beat().await);
    case.ok(create("d").await);
    case.ok(create("e").await);
    assert_eq!(create("f").await.expect_err("full").to_string(), "volume `conform` holds at most 20480 bytes");
    case.ok(session.close().await);
    assert_eq!(case.ok(case.engine.records().counter(Counter::TotalInodes).await), 5);
    case.ok(case.meta.update_settings(&settings()).await);
    case.ok(case.meta.mkdir_p(b"/more", MkdirP::default()).await);
}
