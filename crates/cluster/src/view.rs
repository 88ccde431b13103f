//! A snapshot of the ring and its members, its encoding, and the watch that hands out the newest one.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use shoal_ring::{Ring, RingMember};
use shoal_runtime::clock;
use shoal_types::{BlockKey, NodeId};
use tokio::sync::watch;

use crate::error::ClusterError;
use crate::member::Member;

/// Most members a view holds; further ones, by ascending id, are left out everywhere alike.
pub const MEMBERS_MAX: usize = 4096;
/// Largest encoded view in bytes: [`MEMBERS_MAX`] members of the largest size, rounded up.
pub const VIEW_BYTES_MAX: usize = MEMBERS_MAX * 512;
/// First byte of an encoded view. Golden: `encoding_is_pinned`. Another number is another format: readers refuse it.
const VIEW_FORMAT: u8 = 2;

/// Who is in the ring and who owns what, at one moment. Immutable.
pub struct View {
    /// Counts the changes this process has seen; says nothing to another process. Compare [`View::epoch`] across processes.
    pub version: u64,
    /// Owners by block: of the members, those that are neither leaving nor damped. If more than a third of those that stay are damped, the
    /// trouble is not theirs, and they own blocks all the same; if all are leaving, nobody owns anything.
    pub ring: Ring,
    /// Ascending by id, distinct. With those that own nothing: they can be asked.
    pub members: Vec<Arc<Member>>,
    /// Since when this process has seen this ring: a change that leaves every owner as it was does not count.
    pub changed_at: Instant,
    /// The ring of all members, for [`View::former`]; built when it is first asked for.
    all: OnceLock<Ring>,
    encoded: OnceLock<Bytes>,
}

impl View {
    /// The view of `members` in any order; of two with the same id the higher incarnation counts.
    pub fn new(version: u64, members: Vec<Arc<Member>>) -> View {
        let members = canonical(members);
        let owning = owning(&members);
        let ring = shared(&owning, || Ring::new(&owning));
        View { version, ring, members, changed_at: clock::now(), all: OnceLock::new(), encoded: OnceLock::new() }
    }

    /// The view of `members`, which are canonical, with what of `before` is still true.
    fn after(before: &View, members: Vec<Arc<Member>>) -> View {
        let owning = owning(&members);
        let (ring, changed_at) = match before.ring.members() == owning {
            true => (before.ring.clone(), before.changed_at),
            false => (shared(&owning, || before.ring.with(&owning)), clock::now()),
        };
        View { version: before.version + 1, ring, members, changed_at, all: OnceLock::new(), encoded: OnceLock::new() }
    }

    /// The view without members, version 0.
    pub fn empty() -> View {
        View::new(0, Vec::new())
    }

    /// The owner of `key` and then its replicas: at most `n` distinct nodes.
    pub fn owners(&self, key: &BlockKey, n: usize) -> Vec<Arc<Member>> {
        self.ring.owners(key.id(), n).into_iter().filter_map(|id| self.member(id).cloned()).collect()
    }

    /// [`View::owners`], those in `zone` first and otherwise in the same order; an empty zone is nobody's.
    pub fn owners_near(&self, key: &BlockKey, n: usize, zone: &str) -> Vec<Arc<Member>> {
        let mut owners = self.owners(key, n);
        owners.sort_by_key(|owner| zone.is_empty() || owner.zone != zone);
        owners
    }

    /// Members that may still hold `key` from the time before the last change, likeliest first, at most `n`; none of them is
    /// among the first `skip` owners of today.
    ///
    /// The nodes that follow on the circle of all members, leaving and damped ones included: a node that stopped owning the
    /// block stands where it stood, and after a join the former owner is the next one.
    pub fn former(&self, key: &BlockKey, skip: usize, n: usize) -> Vec<Arc<Member>> {
        let today = self.ring.owners(key.id(), skip);
        let all = self.all.get_or_init(|| {
            let all: Vec<RingMember> = self.members.iter().map(|member| ring_member(member)).collect();
            shared(&all, || self.ring.with(&all))
        });
        let walk = all.owners(key.id(), today.len() + n).into_iter();
        walk.filter(|id| !today.contains(id)).take(n).filter_map(|id| self.member(id).cloned()).collect()
    }

    /// True if `node` is among the first `n` owners of `key`.
    pub fn is_owner(&self, node: NodeId, key: &BlockKey, n: usize) -> bool {
        self.ring.owners(key.id(), n).contains(&node)
    }

    /// Fingerprint of ids and weights: equal wherever the owners are. See [`Ring::epoch`].
    pub fn epoch(&self) -> u64 {
        self.ring.epoch()
    }

    /// The member with this id.
    pub fn member(&self, id: NodeId) -> Option<&Arc<Member>> {
        let index = self.members.binary_search_by_key(&id, |member| member.id).ok()?;
        self.members.get(index)
    }

    /// The members as bytes for a peer or a client; computed once per view.
    pub fn encode(&self) -> Bytes {
        let encode = || {
            let members: Vec<&Member> = self.members.iter().map(Arc::as_ref).collect();
            let bytes = postcard::to_extend(&members, vec![VIEW_FORMAT]);
            Bytes::from(bytes.expect("growing a vector and plain structs cannot fail"))
        };
        self.encoded.get_or_init(encode).clone()
    }

    /// Reads [`View::encode`]'s bytes; the version is 0.
    ///
    /// Errors: `Corrupt` for bytes that are no view, are larger than [`VIEW_BYTES_MAX`] or hold members out of bounds;
    /// `Invalid` for another format.
    pub fn decode(bytes: &[u8]) -> Result<View, ClusterError> {
        let bad = |what| ClusterError::BadView { what };
        if bytes.len() > VIEW_BYTES_MAX {
            return Err(bad("too large"));
        }
        let (&format, body) = bytes.split_first().ok_or(bad("empty"))?;
        if format != VIEW_FORMAT {
            return Err(ClusterError::OtherView { found: format, known: VIEW_FORMAT });
        }
        let (members, rest): (Vec<Member>, &[u8]) =
            postcard::take_from_bytes(body).map_err(|_| bad("not a list of members"))?;
        if !rest.is_empty() {
            return Err(bad("bytes after the members"));
        }
        if members.len() > MEMBERS_MAX {
            return Err(bad("too many members"));
        }
        members.iter().try_for_each(Member::check).map_err(|_| bad("a member out of bounds"))?;
        Ok(View::new(0, members.into_iter().map(Arc::new).collect()))
    }
}

impl Default for View {
    fn default() -> View {
        View::empty()
    }
}

impl Clone for View {
    fn clone(&self) -> View {
        View {
            version: self.version,
            ring: self.ring.clone(),
            members: self.members.clone(),
            changed_at: self.changed_at,
            all: self.all.clone(),
            encoded: self.encoded.clone(),
        }
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.members.iter().map(|member| member.name.as_str()).collect();
        write!(f, "View(version {}, epoch {:016x}, {names:?})", self.version, self.epoch())
    }
}

fn canonical(mut members: Vec<Arc<Member>>) -> Vec<Arc<Member>> {
    members.sort_by_key(|member| (member.id, std::cmp::Reverse(member.incarnation)));
    members.dedup_by_key(|member| member.id);
    members.truncate(MEMBERS_MAX);
    members
}

/// Those of `members` that own blocks, in the same order.
///
/// Damping spares the many what a few do: where many come and go, as after a switch that failed again and again, taking them out
/// would be one more change. A third is rounded up, so that one of two or three nodes can be damped.
pub(crate) fn owning(members: &[Arc<Member>]) -> Vec<RingMember> {
    let staying = members.iter().filter(|member| !member.leaving);
    let damped = staying.clone().filter(|member| member.damped).count();
    let few = damped * 3 <= staying.clone().count() + 1;
    staying.filter(|member| !(few && member.damped)).map(|member| ring_member(member)).collect()
}

fn ring_member(member: &Member) -> RingMember {
    RingMember { id: member.id, weight: member.weight }
}

/// The newest view, now and whenever it changes. Cheap to clone; each clone has its own mark of what it has seen.
#[derive(Clone)]
pub struct ViewWatch {
    newest: Arc<ArcSwap<View>>,
    changes: watch::Receiver<u64>,
}

impl ViewWatch {
    /// The newest view. Never blocks.
    pub fn current(&self) -> Arc<View> {
        self.newest.load_full()
    }

    /// Returns once there is a view that this watch has not been told of; never again if its source has ended. Cancel-safe.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// A watch that counts the current view as seen, whatever this one has seen.
    pub(crate) fn clone_seen(&self) -> ViewWatch {
        let mut watch = self.clone();
        watch.changes.mark_unchanged();
        watch
    }

    /// A view that never changes, for tests and for rings given by hand.
    pub fn fixed(view: View) -> ViewWatch {
        ViewPublisher::new(view).watch()
    }
}

impl fmt::Debug for ViewWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ViewWatch({:?})", self.newest.load())
    }
}

/// The one writer behind any number of [`ViewWatch`]es: a membership, or a ring that is changed by hand.
pub struct ViewPublisher {
    newest: Arc<ArcSwap<View>>,
    changes: watch::Sender<u64>,
}

impl ViewPublisher {
    /// The first view.
    pub fn new(view: View) -> ViewPublisher {
        let changes = watch::Sender::new(view.version);
        ViewPublisher { newest: Arc::new(ArcSwap::from_pointee(view)), changes }
    }

    /// The view now and as it changes.
    pub fn watch(&self) -> ViewWatch {
        ViewWatch { newest: Arc::clone(&self.newest), changes: self.changes.subscribe() }
    }

    pub(crate) fn current(&self) -> Arc<View> {
        self.newest.load_full()
    }

    /// Makes `members` the newest view if they differ from the current ones; gives that view then.
    pub fn publish(&self, members: Vec<Arc<Member>>) -> Option<Arc<View>> {
        let before = self.current();
        let members = canonical(members);
        if members == before.members {
            return None;
        }
        let after = Arc::new(View::after(&before, members));
        self.newest.store(Arc::clone(&after));
        self.changes.send_replace(after.version);
        Some(after)
    }

    /// Returns once no watch is left.
    pub(crate) async fn unwatched(&self) {
        self.changes.closed().await;
    }
}

impl fmt::Debug for ViewPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ViewPublisher({:?})", self.newest.load())
    }
}

/// What `make` gives, the ring of `members`; in a simulation all nodes that see the same share it.
#[cfg(feature = "testing")]
use crate::rings::shared;

/// What `make` gives, the ring of `members`.
#[cfg(not(feature = "testing"))]
fn shared(_members: &[RingMember], make: impl FnOnce() -> Ring) -> Ring {
    make()
}

#[cfg(test)]
mod tests {
    use shoal_types::OriginId;

    use super::*;

    fn member(byte: u8, incarnation: u64) -> Arc<Member> {
        let addr = format!("10.0.0.{byte}:7070").parse().unwrap();
        let member = Member::new(NodeId([byte; 16]), &format!("node-{byte}"), addr);
        Arc::new(Member { capacity: 1 << 40, zone: "a".into(), incarnation, life: 7, ..member })
    }

    #[test]
    fn views_survive_encoding() {
        let view = View::new(7, vec![member(2, 5), member(1, 9)]);
        let read = View::decode(&view.encode()).unwrap();
        assert_eq!(read.members, view.members);
        assert_eq!(read.epoch(), view.epoch());
        assert_eq!(read.version, 0);
        assert!(View::decode(&View::empty().encode()).unwrap().members.is_empty());
    }

    #[test]
    fn encoding_is_pinned() {
        let mut golden = vec![2, 1];
        golden.extend_from_slice(&[1; 16]);
        golden.extend_from_slice(b"\x06node-1");
        golden.extend_from_slice(&[0, 10, 0, 0, 1, 0x9e, 0x37]); // IPv4, port 7070 as a varint
        golden.push(100);
        golden.extend_from_slice(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x20]); // 1 << 40
        golden.extend_from_slice(b"\x01a");
        golden.extend_from_slice(&[9, 7, 0, 1]); // incarnation, life, leaving, damped
        let damped = Arc::new(Member { damped: true, ..member(1, 9).as_ref().clone() });
        assert_eq!(View::new(0, vec![damped]).encode(), golden);
    }

    #[test]
    fn bad_bytes_are_refused() {
        let good = View::new(0, vec![member(1, 9), member(2, 3)]).encode();
        for cut in 0..good.len() {
            assert!(View::decode(&good[..cut]).is_err(), "cut at {cut}");
        }
        let mut longer = good.to_vec();
        longer.push(0);
        assert!(View::decode(&longer).is_err());
        let mut newer = good.to_vec();
        newer[0] = 3;
        assert!(matches!(View::decode(&newer), Err(ClusterError::OtherView { found: 3, known: 2 })));
        // A length that promises more members than bytes.
        assert!(View::decode(&[2, 0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
        let weightless = Arc::new(Member { weight: 0, ..member(1, 1).as_ref().clone() });
        assert!(View::decode(&View::new(0, vec![weightless]).encode()).is_err());
    }

    #[test]
    fn newest_incarnation_of_an_id_counts() {
        let view = View::new(0, vec![member(1, 4), member(1, 6), member(1, 5)]);
        assert_eq!(view.members, [member(1, 6)]);
    }

    #[test]
    fn owners_are_members_in_ring_order() {
        let view = View::new(0, (1..=5).map(|byte| member(byte, 1)).collect());
        let key = BlockKey::whole(OriginId([7; 16]), "a");
        let owners = view.owners(&key, 3);
        let ids: Vec<NodeId> = owners.iter().map(|owner| owner.id).collect();
        assert_eq!(ids, view.ring.owners(key.id(), 3));
        assert!(view.is_owner(ids[1], &key, 2));
        assert!(!view.is_owner(ids[2], &key, 2));
        assert!(View::empty().owners(&key, 2).is_empty());
    }

    /// Members 1 to 5 with `change` made to some.
    fn five(change: impl Fn(&mut Member)) -> View {
        let changed = |byte| {
            let mut member = member(byte, 1).as_ref().clone();
            change(&mut member);
            Arc::new(member)
        };
        View::new(0, (1..=5).map(changed).collect())
    }

    fn ids(members: &[Arc<Member>]) -> Vec<u8> {
        members.iter().map(|member| member.id.0[0]).collect()
    }

    fn keys() -> impl Iterator<Item = BlockKey> {
        (0..200).map(|n| BlockKey::whole(OriginId([7; 16]), &format!("object-{n}")))
    }

    #[test]
    fn leaving_and_damped_members_own_nothing_but_are_asked() {
        let whole = five(|_| {});
        for change in [|m: &mut Member| m.leaving = m.id.0[0] == 2, |m: &mut Member| m.damped = m.id.0[0] == 2] {
            let view = five(change);
            assert_eq!(view.members.len(), 5);
            assert_ne!(view.epoch(), whole.epoch());
            for key in keys() {
                let before = ids(&whole.owners(&key, 5));
                let rest: Vec<u8> = before.iter().copied().filter(|id| *id != 2).collect();
                assert_eq!(ids(&view.owners(&key, 5)), rest);
                // Whoever would own it comes first among those to ask, if it is the one that went.
                let former: Vec<u8> = before.iter().copied().filter(|id| *id != rest[0]).take(2).collect();
                assert_eq!(ids(&view.former(&key, 1, 2)), former);
            }
        }
    }

    #[test]
    fn former_owner_after_a_join_is_the_next_on_the_circle() {
        let four = View::new(0, (1..=4).map(|byte| member(byte, 1)).collect());
        let five = five(|_| {});
        let mut moved = 0;
        for key in keys() {
            let (before, after) = (ids(&four.owners(&key, 1)), ids(&five.owners(&key, 1)));
            if before != after {
                moved += 1;
                assert_eq!(after, [5]);
                assert_eq!(ids(&five.former(&key, 1, 1)), before);
            }
            assert!(!ids(&five.former(&key, 2, 5)).contains(&after[0]));
            assert_eq!(five.former(&key, 2, 5).len(), 3);
        }
        assert!(moved > 0);
        assert!(View::empty().former(&keys().next().unwrap(), 1, 2).is_empty());
    }

    #[test]
    fn damping_takes_a_third_of_the_members_out_and_not_more() {
        let owners = |nodes: u8, damped: u8| {
            let member = |byte| Arc::new(Member { damped: byte <= damped, ..member(byte, 1).as_ref().clone() });
            View::new(0, (1..=nodes).map(member).collect()).ring.len()
        };
        let counts = [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (9, 3), (9, 4), (9, 9)];
        assert_eq!(counts.map(|(nodes, damped)| owners(nodes, damped)), [1, 1, 2, 2, 3, 6, 9, 9]);
    }

    #[test]
    fn damped_members_own_everything_if_nobody_else_does_and_leaving_ones_never() {
        let all_damped = five(|member| member.damped = true);
        assert_eq!(all_damped.epoch(), five(|_| {}).epoch());
        let one_stays = five(|member| {
            member.leaving = member.id.0[0] != 3;
            member.damped = member.id.0[0] == 3;
        });
        let key = keys().next().unwrap();
        assert_eq!(ids(&one_stays.owners(&key, 2)), [3]);
        let all_leave = five(|member| member.leaving = true);
        assert!(all_leave.owners(&key, 2).is_empty());
        assert_eq!(all_leave.former(&key, 1, 2).len(), 2);
    }

    #[test]
    fn owners_of_the_readers_zone_come_first_in_ring_order() {
        let view = five(|member| member.zone = if member.id.0[0] % 2 == 0 { "even" } else { "" }.into());
        for key in keys() {
            let plain = ids(&view.owners(&key, 5));
            let (even, odd): (Vec<u8>, Vec<u8>) = plain.iter().copied().partition(|id| id % 2 == 0);
            assert_eq!(ids(&view.owners_near(&key, 5, "even")), [even, odd].concat());
            assert_eq!(ids(&view.owners_near(&key, 5, "")), plain);
            assert_eq!(ids(&view.owners_near(&key, 5, "elsewhere")), plain);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_the_last_change_is_that_of_the_owners() {
        let publisher = ViewPublisher::new(View::new(0, vec![member(1, 1)]));
        let start = publisher.current().changed_at;
        clock::sleep(std::time::Duration::from_secs(5)).await;
        let renewed = publisher.publish(vec![member(1, 2)]).unwrap();
        assert_eq!(renewed.changed_at, start);
        let joined = publisher.publish(vec![member(1, 2), member(2, 1)]).unwrap();
        assert_eq!(joined.changed_at, clock::now());
    }

    #[tokio::test]
    async fn watches_see_each_change_once() {
        let publisher = ViewPublisher::new(View::empty());
        let mut watch = publisher.watch();
        assert!(publisher.publish(vec![member(1, 1)]).is_some());
        assert!(publisher.publish(vec![member(1, 1)]).is_none(), "the same members are no change");
        watch.changed().await;
        assert_eq!(watch.current().version, 1);
        assert!(futures::FutureExt::now_or_never(watch.changed()).is_none());
        // A restart changes the member but not the owners.
        let epoch = watch.current().epoch();
        publisher.publish(vec![member(1, 2)]);
        watch.changed().await;
        assert_eq!((watch.current().version, watch.current().epoch()), (2, epoch));
    }

    #[tokio::test]
    async fn fixed_views_never_change() {
        let mut watch = ViewWatch::fixed(View::new(3, vec![member(1, 1)]));
        assert_eq!(watch.current().members.len(), 1);
        assert!(futures::FutureExt::now_or_never(watch.changed()).is_none());
    }
}
