//! What an operator sees of the network.

use std::time::Duration;

use shoal_runtime::metrics::{Counter, CounterVec, Gauge, Histogram, LATENCY_BUCKETS, Registry};
use shoal_types::{Class, ErrorKind};

/// What was asked of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A get, up to its head.
    Get,
    /// The body of a get.
    Body,
    /// A control request.
    Call,
    /// A batched get, up to its first head.
    Many,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Get, Kind::Body, Kind::Call, Kind::Many];

    const fn as_str(self) -> &'static str {
        match self {
            Kind::Get => "get",
            Kind::Body => "body",
            Kind::Call => "call",
            Kind::Many => "get_many",
        }
    }
}

/// Why a certificate, or what its holder did, was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownCa,
    Expired,
    NotYetValid,
    NoCertificate,
    WrongRole,
    WrongGroup,
    BadCertificate,
    GossipFromClient,
    /// The peer looked first and refused ours: one of the two is a stranger.
    ByPeer,
}

impl Refusal {
    const ALL: [Refusal; 9] = [
        Refusal::UnknownCa,
        Refusal::Expired,
        Refusal::NotYetValid,
        Refusal::NoCertificate,
        Refusal::WrongRole,
        Refusal::WrongGroup,
        Refusal::BadCertificate,
        Refusal::GossipFromClient,
        Refusal::ByPeer,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Refusal::UnknownCa => "unknown_ca",
            Refusal::Expired => "expired",
            Refusal::NotYetValid => "not_yet_valid",
            Refusal::NoCertificate => "no_certificate",
            Refusal::WrongRole => "wrong_role",
            Refusal::WrongGroup => "wrong_group",
            Refusal::BadCertificate => "bad_certificate",
            Refusal::GossipFromClient => "gossip_from_client",
            Refusal::ByPeer => "by_peer",
        }
    }
}

/// What became of a gossip message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gossip {
    SentDatagram,
    SentStream,
    Dropped,
    Received,
}

impl Gossip {
    const ALL: [Gossip; 4] = [Gossip::SentDatagram, Gossip::SentStream, Gossip::Dropped, Gossip::Received];

    const fn as_str(self) -> &'static str {
        match self {
            Gossip::SentDatagram => "sent_datagram",
            Gossip::SentStream => "sent_stream",
            Gossip::Dropped => "dropped",
            Gossip::Received => "received",
        }
    }
}

/// A row of counters: `ok`, then one for every [`ErrorKind`].
#[derive(Debug)]
struct Outcomes {
    ok: Counter,
    errors: [Counter; ErrorKind::ALL.len()],
}

impl Outcomes {
    fn new(counters: &CounterVec, kind: &str) -> Outcomes {
        let errors = ErrorKind::ALL.map(|error| counters.with(&[kind, error.as_str()]));
        Outcomes { ok: counters.with(&[kind, "ok"]), errors }
    }

    fn count(&self, outcome: Option<ErrorKind>) {
        match outcome {
            None => self.ok.inc(),
            Some(kind) => self.errors[kind as usize].inc(),
        }
    }
}

/// Handles to every metric, looked up once.
#[derive(Debug)]
pub(crate) struct NetMetrics {
    asked: [Outcomes; Kind::ALL.len()],
    served: [Outcomes; Kind::ALL.len()],
    seconds: [Histogram; Kind::ALL.len()],
    refused: [Counter; Refusal::ALL.len()],
    gossip: [Counter; Gossip::ALL.len()],
    /// Connections that are open, made by this process.
    pub outbound: Gauge,
    /// Connections that are open, made by peers.
    pub inbound: Gauge,
    /// When the certificate in use expires, seconds since 1970.
    pub certificate_expiry: Gauge,
    /// Attempts to take new certificates into use: that did, that could not.
    pub certificate_reloads: [Counter; 2],
    /// Handshakes with peers that failed, for whatever reason.
    pub handshake_failures: Counter,
    /// Connection attempts turned away at a bound.
    pub turned_away_connections: Counter,
    /// The same for control requests.
    pub turned_away_calls: Counter,
    turned_away_gets: [Counter; Class::ALL.len()],
    /// Body bytes sent.
    pub sent_bytes: Counter,
    /// Body bytes received.
    pub received_bytes: Counter,
    /// Packets that were lost.
    pub lost_packets: Counter,
    /// Times a path stopped carrying packets of the size it had carried.
    pub black_holes: Counter,
    /// Smallest packet size in use among the open connections.
    pub smallest_mtu: Gauge,
}

impl NetMetrics {
    pub(crate) fn register(registry: &Registry) -> NetMetrics {
        let labels = ["kind", "outcome"];
        let asked = registry.counters("shoal_net_requests_total", "Requests to peers by outcome.", &labels);
        let served = registry.counters("shoal_net_served_total", "Requests of peers by outcome.", &labels);
        let seconds = registry.histograms(
            "shoal_net_request_seconds",
            "Time from a request to the head of its answer.",
            &["kind"],
            LATENCY_BUCKETS,
        );
        let refused =
            registry.counters("shoal_net_refused_total", "Certificates and acts of peers refused.", &["reason"]);
        let gossip = registry.counters("shoal_net_gossip_total", "Gossip messages.", &["outcome"]);
        let connections = registry.gauges("shoal_net_connections", "Open connections.", &["direction"]);
        let reloads = registry.counters(
            "shoal_net_certificate_reloads_total",
            "Certificates read again after they were replaced, by what came of it.",
            &["outcome"],
        );
        let turned_away = registry.counters(
            "shoal_net_turned_away_total",
            "Connections, control requests and gets (by class) turned away at a bound.",
            &["what"],
        );
        NetMetrics {
            asked: Kind::ALL.map(|kind| Outcomes::new(&asked, kind.as_str())),
            served: Kind::ALL.map(|kind| Outcomes::new(&served, kind.as_str())),
            seconds: Kind::ALL.map(|kind| seconds.with(&[kind.as_str()])),
            refused: Refusal::ALL.map(|reason| refused.with(&[reason.as_str()])),
            gossip: Gossip::ALL.map(|outcome| gossip.with(&[outcome.as_str()])),
            outbound: connections.with(&["outbound"]),
            inbound: connections.with(&["inbound"]),
            certificate_expiry: registry.gauge(
                "shoal_net_certificate_expiry_seconds",
                "When the certificate in use expires, seconds since 1970.",
            ),
            certificate_reloads: ["ok", "refused"].map(|outcome| reloads.with(&[outcome])),
            handshake_failures: registry.counter("shoal_net_handshake_failures_total", "Handshakes that failed."),
            turned_away_connections: turned_away.with(&["connection"]),
            turned_away_calls: turned_away.with(&["call"]),
            turned_away_gets: Class::ALL.map(|class| turned_away.with(&[class.as_str()])),
            sent_bytes: registry.counter("shoal_net_sent_bytes_total", "Body bytes sent."),
            received_bytes: registry.counter("shoal_net_received_bytes_total", "Body bytes received and verified."),
            lost_packets: registry.counter("shoal_net_lost_packets_total", "Packets sent and lost."),
            black_holes: registry
                .counter("shoal_net_black_holes_total", "Times a path stopped carrying large packets (speed falls)."),
            smallest_mtu: registry.gauge(
                "shoal_net_smallest_mtu_bytes",
                "Smallest UDP payload in use among open connections, 0 without one.",
            ),
        }
    }

    /// One request to a peer ended after `elapsed`.
    pub(crate) fn asked(&self, kind: Kind, outcome: Option<ErrorKind>, elapsed: Duration) {
        self.asked[kind as usize].count(outcome);
        self.seconds[kind as usize].observe_duration(elapsed);
    }

    /// The body of a get ended after `bytes` verified bytes.
    pub(crate) fn body(&self, outcome: Option<ErrorKind>, bytes: u64) {
        self.asked[Kind::Body as usize].count(outcome);
        self.received_bytes.add(bytes);
    }

    /// One request of a peer ended.
    pub(crate) fn served(&self, kind: Kind, outcome: Option<ErrorKind>) {
        self.served[kind as usize].count(outcome);
    }

    /// A get of `class` was answered `Busy`.
    pub(crate) fn turned_away_get(&self, class: Class) {
        self.turned_away_gets[class as usize].inc();
    }

    pub(crate) fn refused(&self, reason: Refusal) {
        self.refused[reason as usize].inc();
    }

    pub(crate) fn gossip(&self, outcome: Gossip) {
        self.gossip[outcome as usize].inc();
    }
}
