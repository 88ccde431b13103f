//! At most one fetch of a thing at a time: whoever comes second joins the first.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use shoal_types::BlockKey;

use crate::error::CacheError;
use crate::flight::Flight;

/// The flights under way, by what they fetch; clones share them.
#[derive(Debug)]
pub(crate) struct Flights<K>(Arc<Mutex<HashMap<K, Arc<Flight>>>>);

impl<K> Clone for Flights<K> {
    fn clone(&self) -> Flights<K> {
        Flights(Arc::clone(&self.0))
    }
}

impl<K> Default for Flights<K> {
    fn default() -> Flights<K> {
        Flights(Arc::default())
    }
}

/// What [`Flights::join`] found.
pub(crate) enum Joined<K: Hash + Eq + Copy, T> {
    /// Somebody fetches it already, as this of the keys asked for.
    Running(K, Arc<Flight>),
    /// It lies elsewhere by now.
    Elsewhere(T),
    /// Nobody does: the caller must, and hand the ticket to the task that does it.
    Started(Arc<Flight>, Ticket<K>),
}

impl<K: Hash + Eq + Copy> Flights<K> {
    /// True while `key` is being fetched.
    pub(crate) fn is_running(&self, key: &K) -> bool {
        self.0.lock().contains_key(key)
    }

    /// The flight that fetches `key`, if there is one.
    pub(crate) fn running(&self, key: &K) -> Option<Arc<Flight>> {
        self.0.lock().get(key).cloned()
    }

    /// The flight of one of `keys`, else what `elsewhere` gives, else a new flight of the last of `keys`.
    ///
    /// All three are decided in one step, so that a flight that ends meanwhile is either still joined or seen by `elsewhere`,
    /// as long as its result is put there before its ticket is dropped. `elsewhere` must not block.
    pub(crate) fn join<T>(&self, block: &BlockKey, keys: &[K], elsewhere: impl FnOnce() -> Option<T>) -> Joined<K, T> {
        let mut flights = self.0.lock();
        if let Some((key, flight)) = keys.iter().find_map(|key| flights.get_key_value(key)) {
            return Joined::Running(*key, Arc::clone(flight));
        }
        if let Some(found) = elsewhere() {
            return Joined::Elsewhere(found);
        }
        let flight = Arc::new(Flight::default());
        let key = *keys.last().expect("a caller names what it wants");
        flights.insert(key, Arc::clone(&flight));
        let ticket = Ticket { flights: self.clone(), key, block: block.clone(), flight: Arc::clone(&flight) };
        Joined::Started(flight, ticket)
    }
}

/// The duty to bring one flight to its end. Dropping it takes the flight off the list; a flight that has not ended by then
/// fails, so no reader waits for a task that is gone.
#[derive(Debug)]
pub(crate) struct Ticket<K: Hash + Eq + Copy> {
    flights: Flights<K>,
    key: K,
    block: BlockKey,
    flight: Arc<Flight>,
}

impl<K: Hash + Eq + Copy> Ticket<K> {
    /// The flight itself.
    pub(crate) fn flight(&self) -> &Flight {
        &self.flight
    }

    /// Ends the flight without bytes. It is off the list before anyone hears of it, so who asks again starts afresh.
    pub(crate) fn fail(self, error: CacheError) {
        self.unlist();
        self.flight.fail(error);
    }

    fn unlist(&self) {
        let mut flights = self.flights.0.lock();
        if flights.get(&self.key).is_some_and(|listed| Arc::ptr_eq(listed, &self.flight)) {
            flights.remove(&self.key);
        }
    }
}

impl<K: Hash + Eq + Copy> Drop for Ticket<K> {
    fn drop(&mut self) {
        self.unlist();
        self.flight.fail(CacheError::Abandoned { key: self.block.clone() });
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use shoal_types::{OriginId, Tier};

    use super::*;

    fn start(flights: &Flights<u8>, keys: &[u8]) -> Option<(Arc<Flight>, Ticket<u8>)> {
        match flights.join(&block(), keys, || None::<()>) {
            Joined::Started(flight, ticket) => Some((flight, ticket)),
            _ => None,
        }
    }

    fn ended(flight: &Flight) -> Option<Result<u32, CacheError>> {
        use futures::FutureExt;
        flight.head().now_or_never().map(|head| head.map(|head| head.len))
    }

    fn block() -> BlockKey {
        BlockKey::whole(OriginId([1; 16]), "a")
    }

    #[test]
    fn the_second_asker_joins_the_first() {
        let flights = Flights::default();
        let (flight, ticket) = start(&flights, &[1]).unwrap();
        let Joined::Running(1, joined) = flights.join(&block(), &[2, 1], || None::<()>) else { panic!("not joined") };
        assert!(Arc::ptr_eq(&flight, &joined));
        assert!(flights.is_running(&1) && !flights.is_running(&2));
        let other = start(&flights, &[2]).unwrap();
        drop((ticket, other));
        assert!(matches!(flights.join(&block(), &[1], || Some(7)), Joined::Elsewhere(7)));
        assert!(start(&flights, &[1]).is_some());
    }

    #[test]
    fn a_dropped_ticket_fails_its_flight_and_no_other() {
        let flights = Flights::default();
        let (flight, ticket) = start(&flights, &[1]).unwrap();
        drop(ticket);
        assert!(matches!(ended(&flight), Some(Err(CacheError::Abandoned { .. }))));
        let (flight, ticket) = start(&flights, &[1]).unwrap();
        flight.land(Bytes::from_static(b"x"), Tier::Origin);
        drop(ticket);
        assert!(matches!(ended(&flight), Some(Ok(1))));
        let (first, ticket) = start(&flights, &[1]).unwrap();
        first.fail(CacheError::NoNodes);
        ticket.unlist();
        let second = start(&flights, &[1]).unwrap();
        drop(ticket);
        assert!(start(&flights, &[1]).is_none(), "the second flight is still listed");
        assert!(ended(&second.0).is_none());
    }
}
