//! QUIC's parameters, chosen per connection by where the peer is.
//!
//! Facts measured on this library: a packet costs 0.5 us a side whatever its size, so size is speed. On loopback 64 KiB
//! packets without segmentation offload give 4.3 GB/s, 1452 bytes with it 0.8. Offload sends up to 10 packets in one call of
//! at most 65507 bytes in all; a larger call fails silently and looks like a black hole, hence [`segments`]. Packets start
//! small and grow by discovery: a first packet larger than the congestion window would never leave.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use crate::error::NetError;
use crate::limits::{
    ANSWERED_DATAGRAM_BUFFER, ASKING_WINDOW, CONNECTION_WINDOW, DATAGRAM_BUFFER, IDLE_TIMEOUT, KEEP_ALIVE,
    MAX_GOSSIP_STREAMS, MAX_STREAMS, SEND_WINDOW, STREAM_WINDOW,
};
use crate::loopback::LoopbackConfig;

/// How large packets to peers beyond this machine may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MtuChoice {
    /// 1452 bytes of payload: any Ethernet. Peers on loopback get 64 KiB packets.
    #[default]
    Auto,
    /// Up to this many bytes of payload, 1200 to 65507, for networks with jumbo frames: 8952 for an MTU of 9000. Peers on loopback get
    /// 64 KiB packets all the same.
    Bytes(u16),
    /// The same, and to peers on loopback too: for measuring what another network would give.
    Everywhere(u16),
}

/// Largest UDP payload over IPv4.
const MAX_PAYLOAD: u16 = 65_507;
/// Every QUIC path carries this much.
const MIN_PAYLOAD: u16 = 1200;
/// Payload that fits Ethernet's 1500 bytes with IPv6 and common tunnels.
const ETHERNET_PAYLOAD: u16 = 1452;

/// Which side opened the connection: only peers open streams, and only on connections they made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Inbound,
    Outbound,
}

/// Parameters for every kind of connection of one endpoint.
pub(crate) struct Transports {
    inbound: [Arc<TransportConfig>; 2],
    outbound: [Arc<TransportConfig>; 2],
    payload: u16,
    hears_loopback: bool,
}

impl Transports {
    /// For an endpoint that is bound to `listen`. Errors: `Invalid` for an MTU out of bounds.
    pub(crate) fn new(mtu: MtuChoice, listen: IpAddr) -> Result<Transports, NetError> {
        let payload = match mtu {
            MtuChoice::Auto => ETHERNET_PAYLOAD,
            MtuChoice::Bytes(payload) | MtuChoice::Everywhere(payload)
                if (MIN_PAYLOAD..=MAX_PAYLOAD).contains(&payload) =>
            {
                payload
            }
            MtuChoice::Bytes(payload) | MtuChoice::Everywhere(payload) => {
                let bounds = "1200 to 65507 bytes of UDP payload, 8952 for jumbo frames";
                return Err(NetError::Setting { setting: "mtu", value: payload.into(), bounds });
            }
        };
        let everywhere = matches!(mtu, MtuChoice::Everywhere(_));
        let near = |direction| if everywhere { network(direction, payload) } else { loopback(direction) };
        let both = |direction| [network(direction, payload), near(direction)].map(Arc::new);
        Ok(Transports {
            inbound: both(Direction::Inbound),
            outbound: both(Direction::Outbound),
            payload,
            hears_loopback: !everywhere && (listen.is_loopback() || listen.is_unspecified()),
        })
    }

    /// For a connection that the peer at `peer` makes.
    pub(crate) fn inbound(&self, peer: SocketAddr) -> Arc<TransportConfig> {
        self.inbound[usize::from(is_loopback(peer))].clone()
    }

    /// For a connection to the peer at `peer`.
    pub(crate) fn outbound(&self, peer: SocketAddr) -> Arc<TransportConfig> {
        self.outbound[usize::from(is_loopback(peer))].clone()
    }

    /// Largest payload this endpoint takes: the library refuses longer ones, and its peers learn that.
    pub(crate) fn largest_received(&self) -> u16 {
        if self.hears_loopback { MAX_PAYLOAD } else { self.payload.max(ETHERNET_PAYLOAD) }
    }

    /// Most packets in one offloaded send.
    pub(crate) fn segments(&self) -> usize {
        segments(self.payload)
    }
}

/// Most packets of `payload` bytes that one call can carry.
fn segments(payload: u16) -> usize {
    usize::from(MAX_PAYLOAD / payload).max(1)
}

/// IPv4 peers of an IPv6 socket appear as mapped addresses.
fn is_loopback(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

fn loopback(direction: Direction) -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    // Half a KiB short of the bound is as good, and saves half of the probes of each new connection.
    discovery.upper_bound(MAX_PAYLOAD).minimum_change(512);
    let mut config = base(direction);
    config
        .mtu_discovery_config(Some(discovery))
        .enable_segmentation_offload(false)
        .congestion_controller_factory(Arc::new(LoopbackConfig));
    config
}

fn network(direction: Direction, payload: u16) -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(payload);
    let mut config = base(direction);
    config.mtu_discovery_config(Some(discovery)).enable_segmentation_offload(segments(payload) > 1);
    config
}

fn base(direction: Direction) -> TransportConfig {
    let (bidi, uni, datagrams, window) = match direction {
        Direction::Inbound => (MAX_STREAMS, MAX_GOSSIP_STREAMS, DATAGRAM_BUFFER, CONNECTION_WINDOW),
        Direction::Outbound => (0, 0, ANSWERED_DATAGRAM_BUFFER, ASKING_WINDOW),
    };
    let idle_ms = VarInt::from_u32(IDLE_TIMEOUT.as_millis() as u32);
    let mut config = TransportConfig::default();
    config
        .min_mtu(MIN_PAYLOAD)
        .max_concurrent_bidi_streams(bidi.into())
        .max_concurrent_uni_streams(uni.into())
        .datagram_receive_buffer_size(Some(datagrams))
        .datagram_send_buffer_size(DATAGRAM_BUFFER)
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(window.into())
        .send_window(SEND_WINDOW)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(idle_ms)));
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_offloaded_send_never_passes_the_largest_payload() {
        for payload in [1200, 1452, 6550, 8952, 16_000, 32_753, 32_754, 65_507] {
            assert!(segments(payload) * usize::from(payload) <= 65_507, "{payload}");
        }
        assert_eq!(segments(8952), 7);
        assert_eq!(segments(65_507), 1);
    }

    #[test]
    fn only_who_can_hear_loopback_takes_its_packets() {
        for (address, largest) in [("127.0.0.1", 65_507), ("0.0.0.0", 65_507), ("::1", 65_507), ("10.0.0.1", 1452)] {
            let transports = Transports::new(MtuChoice::Auto, listen(address)).unwrap();
            assert_eq!(transports.largest_received(), largest, "{address}");
        }
        let jumbo = Transports::new(MtuChoice::Bytes(8952), listen("10.0.0.1")).unwrap();
        assert_eq!((jumbo.largest_received(), jumbo.segments()), (8952, 7));
        let everywhere = Transports::new(MtuChoice::Everywhere(1452), listen("127.0.0.1")).unwrap();
        assert_eq!((everywhere.largest_received(), everywhere.segments()), (1452, 45));
    }

    #[test]
    fn an_mtu_out_of_bounds_is_refused_with_the_bounds() {
        for payload in [0, 1199, 65_508] {
            let Err(error) = Transports::new(MtuChoice::Bytes(payload), listen("10.0.0.1")) else {
                panic!("{payload}")
            };
            assert!(error.to_string().contains("8952 for jumbo frames"), "{error}");
        }
    }

    #[test]
    fn mapped_loopback_is_loopback() {
        assert!(is_loopback("[::ffff:127.0.0.1]:1".parse().unwrap()));
        assert!(!is_loopback("[::ffff:10.0.0.1]:1".parse().unwrap()));
    }
}
