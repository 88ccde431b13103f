//! Locks: between clients, between owners of one client, and when those who hold them are gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shoal_format::{Ino, LockMode, RangeLock};
use shoal_runtime::task;

use super::Case;
use super::sample::client;
use crate::engine::{LockHolder, SessionRecord};
use crate::error::{MetaError, Refusal};
use crate::ops::{Caller, Lock, NewInode, Unlock};
use crate::session::{HEARTBEAT, LockWait, Session};

const SHARED: LockMode = LockMode::Shared;
const EXCLUSIVE: LockMode = LockMode::Exclusive;
/// An owner whose bits are a negative number.
const OWNER: u64 = 0xA177_8E1D_631E_E937;

fn whole(owner: u64, mode: LockMode) -> Lock {
    Lock::Whole { owner, mode }
}

fn range(owner: u64, mode: LockMode, start: u64, end: u64) -> Lock {
    Lock::Range { owner, lock: RangeLock { mode, pid: 42, start, end } }
}

async fn file(case: &Case, session: &Session) -> Ino {
    case.ok(session.create(&Caller::root(), Ino::ROOT, b"f", &NewInode::File, 0o644).await).0
}

impl Case {
    /// True if the lock is had at once.
    async fn has(&self, session: &Session, ino: Ino, lock: Lock) -> bool {
        match session.lock(ino, &[lock], LockWait::No).await {
            Ok(()) => true,
            Err(MetaError::Refused { why: Refusal::Locked, .. }) => false,
            Err(error) => panic!("{}: {error}", self.name),
        }
    }
}

pub(super) async fn whole_files_are_locked_by_one_or_shared_by_many(case: &Case) {
    case.init().await;
    let (a, b) = (case.join().await, case.join().await);
    let ino = file(case, &a).await;
    assert!(case.has(&a, ino, whole(OWNER, SHARED)).await && case.has(&b, ino, whole(OWNER, SHARED)).await);
    assert!(!case.has(&a, ino, whole(OWNER, EXCLUSIVE)).await, "another client shares it");
    assert!(!case.has(&b, ino, whole(1, EXCLUSIVE)).await, "so does another owner of this client");
    case.ok(b.unlock(ino, Unlock::Whole { owner: OWNER }).await);
    assert!(case.has(&a, ino, whole(OWNER, EXCLUSIVE)).await, "its own shared lock is not in its way");
    for (session, owner) in [(&b, OWNER), (&a, 1)] {
        assert!(!case.has(session, ino, whole(owner, SHARED)).await);
    }
    let holder = LockHolder { sid: a.sid(), owner: OWNER };
    assert_eq!(case.ok(case.engine.records().flocks(ino).await), [(holder, EXCLUSIVE)]);
    // Ranges are another matter.
    assert!(case.has(&b, ino, range(1, EXCLUSIVE, 0, RangeLock::END)).await);
    assert!(case.has(&a, ino, whole(OWNER, SHARED)).await, "given up in part");
    assert!(case.has(&b, ino, whole(1, SHARED)).await);
    case.ok(a.close().await);
    assert!(case.has(&b, ino, whole(1, EXCLUSIVE)).await, "a client that leaves gives back what it holds");
    case.ok(b.close().await);
    assert_eq!(case.ok(case.engine.records().flocks(ino).await), []);
    assert_eq!(case.ok(case.engine.records().plocks(ino).await), []);
}

pub(super) async fn ranges_split_and_merge_and_show_who_is_in_the_way(case: &Case) {
    case.init().await;
    let (a, b) = (case.join().await, case.join().await);
    let ino = file(case, &a).await;
    assert!(case.has(&a, ino, range(OWNER, EXCLUSIVE, 0, 99)).await);
    assert!(case.has(&a, ino, range(OWNER, SHARED, 10, 19)).await);
    case.ok(a.unlock(ino, Unlock::Range { owner: OWNER, start: 90, end: RangeLock::END }).await);
    let lock = |mode, start, end| RangeLock { mode, pid: 42, start, end };
    let expected = vec![lock(EXCLUSIVE, 0, 9), lock(SHARED, 10, 19), lock(EXCLUSIVE, 20, 89)];
    let holder = LockHolder { sid: a.sid(), owner: OWNER };
    assert_eq!(case.ok(case.engine.records().plocks(ino).await), [(holder, expected)]);

    assert!(
        case.has(&b, ino, range(OWNER, SHARED, 10, 19)).await
            && case.has(&b, ino, range(OWNER, EXCLUSIVE, 90, 95)).await
    );
    assert!(!case.has(&b, ino, range(OWNER, SHARED, 10, 20)).await && !case.has(&a, ino, range(1, SHARED, 0, 0)).await);
    let seen = async |session: &Session, owner, wanted| case.ok(session.range_in_the_way(ino, owner, &wanted).await);
    assert_eq!(seen(&b, OWNER, lock(SHARED, 15, 50)).await, Some(RangeLock { pid: 0, ..lock(EXCLUSIVE, 20, 89) }));
    assert_eq!(seen(&a, 1, lock(EXCLUSIVE, 15, 50)).await.map(|lock| (lock.pid, lock.start)), Some((42, 10)));
    assert_eq!(seen(&a, OWNER, lock(EXCLUSIVE, 0, 9)).await, None, "nobody is in its own way");

    case.ok(a.unlock(ino, Unlock::Range { owner: OWNER, start: 0, end: RangeLock::END }).await);
    assert!(!a.may_hold(ino, Unlock::Range { owner: OWNER, start: 0, end: 0 }));
    assert_eq!(case.ok(case.engine.records().plocks(ino).await).len(), 1);
    case.ok(b.unlock(ino, Unlock::Range { owner: OWNER, start: 0, end: 94 }).await);
    assert!(b.may_hold(ino, Unlock::Range { owner: OWNER, start: 0, end: 0 }), "a byte is left");
    case.ok(a.close().await);
    case.ok(b.close().await);
}

pub(super) async fn several_locks_are_taken_together_or_not_at_all(case: &Case) {
    case.init().await;
    let (a, b) = (case.join().await, case.join().await);
    let ino = file(case, &a).await;
    let both = |owner| [whole(owner, EXCLUSIVE), range(owner + 1, EXCLUSIVE, 0, RangeLock::END)];
    assert!(case.has(&b, ino, range(OWNER, SHARED, 5, 5)).await);
    let error = a.lock(ino, &both(1), LockWait::No).await.expect_err("a byte is locked");
    assert!(matches!(error, MetaError::Refused { why: Refusal::Locked, .. }), "{error}");
    assert_eq!(case.ok(case.engine.records().flocks(ino).await), []);
    case.ok(b.unlock(ino, Unlock::Range { owner: OWNER, start: 5, end: 5 }).await);
    case.ok(a.lock(ino, &both(1), LockWait::No).await);
    assert!(!case.has(&b, ino, range(OWNER, SHARED, 5, 5)).await && !case.has(&b, ino, whole(OWNER, SHARED)).await);
    let gone = a.lock(Ino(4711), &both(1), LockWait::No).await.expect_err("no such file");
    assert!(matches!(gone, MetaError::NoInode { ino: 4711 }), "{gone}");
    case.ok(a.close().await);
    case.ok(b.close().await);
}

pub(super) async fn who_waits_gets_the_lock_or_gives_up(case: &Case) {
    case.init().await;
    let (a, b) = (case.join().await, case.join().await);
    let ino = file(case, &a).await;
    assert!(case.has(&a, ino, whole(1, SHARED)).await && case.has(&b, ino, whole(1, SHARED)).await);
    let over = Arc::new(AtomicBool::new(false));
    let wait = |session: &Session, locks: Vec<Lock>| {
        let (session, over) = (session.clone(), over.clone());
        task::spawn("wait-for-lock", async move {
            session.lock(ino, &locks, LockWait::Until(&|| over.load(Ordering::SeqCst))).await
        })
    };
    // Both want the file alone and share it now: neither may keep the other waiting for ever.
    let (mut first, mut second) = (wait(&a, vec![whole(1, EXCLUSIVE)]), wait(&b, vec![whole(1, EXCLUSIVE)]));
    let (done, winner, later, loser) = tokio::select! {
        done = &mut first => (done, &a, second, &b),
        done = &mut second => (done, &b, first, &a),
    };
    case.ok(case.ok(done));
    case.ok(winner.unlock(ino, Unlock::Whole { owner: 1 }).await);
    case.ok(case.ok(later.await));
    case.ok(loser.unlock(ino, Unlock::Whole { owner: 1 }).await);
    case.ok(a.lock(ino, &[whole(2, EXCLUSIVE)], LockWait::Until(&|| false)).await);
    // Waiters of this client and of the other one.
    let waiters = [wait(&a, vec![whole(3, SHARED)]), wait(&b, vec![whole(3, SHARED)])];
    case.ok(a.unlock(ino, Unlock::Whole { owner: 2 }).await);
    for waiter in waiters {
        case.ok(case.ok(waiter.await));
    }
    let waiter = wait(&b, vec![whole(4, EXCLUSIVE)]);
    over.store(true, Ordering::SeqCst);
    let error = case.ok(waiter.await).expect_err("given up");
    assert!(matches!(error, MetaError::Refused { why: Refusal::Interrupted, .. }), "{error}");
    case.ok(a.close().await);
    case.ok(b.close().await);
}

pub(super) async fn locks_of_a_dead_client_are_released(case: &Case) {
    case.init().await;
    let (dead, alive) = (case.join().await, case.join().await);
    let ino = file(case, &dead).await;
    assert!(case.has(&dead, ino, whole(1, EXCLUSIVE)).await);
    assert!(case.has(&dead, ino, range(1, EXCLUSIVE, 3, 4)).await);
    let txn = case.ok(case.engine.begin().await);
    let records = case.ok(case.engine.records().sessions().await);
    let mut record: SessionRecord = records.into_iter().find(|record| record.sid == dead.sid()).expect("a record");
    record.expire = 1;
    case.ok(txn.put_session(&record).await);
    case.ok(txn.commit().await);
    assert!(!case.has(&alive, ino, whole(1, SHARED)).await);
    assert!(case.ok(alive.run_job(crate::engine::Job::StaleSessions).await));
    assert!(case.has(&alive, ino, whole(1, EXCLUSIVE)).await && case.has(&alive, ino, range(1, EXCLUSIVE, 0, 9)).await);
    case.ok(alive.close().await);
    case.ok(dead.close().await);
}

/// Many owners of several clients ask for whole files and ranges at once; who has a lock alone must be alone.
pub(super) async fn nobody_is_let_in_beside_an_exclusive_holder(case: &Case) {
    const OWNERS: u64 = 3;
    const ROUNDS: u64 = 4;
    case.init().await;
    let mut sessions = Vec::new();
    for _ in 0..2 {
        sessions.push(case.ok(Session::open(case.meta.clone(), client(), HEARTBEAT).await));
    }
    let ino = file(case, &sessions[0]).await;
    let inside = Arc::new(parking_lot::Mutex::new(BTreeMap::<&str, (u32, bool)>::new()));
    let mut tasks = Vec::new();
    for session in &sessions {
        for owner in 0..OWNERS {
            let (session, inside) = (session.clone(), inside.clone());
            tasks.push(task::spawn("locker", async move {
                for round in 0..ROUNDS {
                    let mode = if (owner + round) % 3 == 0 { SHARED } else { EXCLUSIVE };
                    let (kind, lock, unlock) = if round % 2 == 0 {
                        ("whole", whole(owner, mode), Unlock::Whole { owner })
                    } else {
                        ("range", range(owner, mode, round, 50), Unlock::Range { owner, start: 0, end: 60 })
                    };
                    session.lock(ino, &[lock], LockWait::Until(&|| false)).await?;
                    {
                        let mut inside = inside.lock();
                        let (count, alone) = inside.entry(kind).or_default();
                        assert!(*count == 0 || (!*alone && mode == SHARED), "{kind}: {count} inside, alone {alone}");
                        (*count, *alone) = (*count + 1, mode == EXCLUSIVE);
                    }
                    tokio::task::yield_now().await;
                    inside.lock().entry(kind).or_default().0 -= 1;
                    session.unlock(ino, unlock).await?;
                }
                Ok::<_, MetaError>(())
            }));
        }
    }
    for task in tasks {
        case.ok(case.ok(task.await));
    }
    assert_eq!(case.ok(case.engine.records().flocks(ino).await), []);
    assert_eq!(case.ok(case.engine.records().plocks(ino).await), []);
    for session in sessions {
        case.ok(session.close().await);
    }
}
