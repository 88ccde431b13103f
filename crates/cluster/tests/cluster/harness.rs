//! Small nodes: an endpoint, a cluster and the service between them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use shoal_cluster::{Cluster, ClusterConfig, Member, Timing, View, ViewWatch};
use shoal_net::testing::{TestCa, crash};
use shoal_net::{Endpoint, GetSink, PeerIdentity, ResponseSink, Role, Service};
use shoal_runtime::metrics::Registry;
use shoal_testkit::{PATIENCE, wait_until_async};
use shoal_types::NodeId;
use shoal_wire::{GetRequest, Request, Response, Status};

/// Answers what membership needs and nothing else.
#[derive(Default)]
struct NodeService(OnceLock<Cluster>);

#[async_trait]
impl Service for NodeService {
    async fn get(&self, _: &PeerIdentity, _: GetRequest, out: &mut GetSink) {
        out.fail(Status::NotFound, "no blocks here").await;
    }

    async fn call(&self, _: &PeerIdentity, request: Request, out: &mut ResponseSink) {
        let Some(cluster) = self.0.get() else { return };
        match request {
            Request::View => {
                let _ = out.send(Response::View(cluster.encoded_view())).await;
            }
            Request::Watch => cluster.serve_watch(out).await,
            other => panic!("nobody asks for {}", other.as_str()),
        }
    }

    fn gossip(&self, _: &PeerIdentity, data: Bytes) {
        if let Some(cluster) = self.0.get() {
            cluster.on_gossip(data);
        }
    }
}

pub struct TestNode {
    pub endpoint: Endpoint,
    pub cluster: Cluster,
    pub registry: Registry,
    pub id: NodeId,
}

/// Paces at which nobody is taken for dead, however busy the machine is: for tests in which nobody dies.
pub fn calm() -> Timing {
    Timing { suspect_for: PATIENCE, ..Timing::default() }
}

impl TestNode {
    /// A node of a ring in which nobody dies.
    pub fn start(ca: &TestCa, id: u8, seeds: &[String]) -> TestNode {
        TestNode::start_with(ca, id, seeds, None, calm())
    }

    /// A node that takes others for dead as one in production does. On a busy machine it may do so wrongly, and take it back: a test
    /// is to wait for what it states.
    pub fn start_mortal(ca: &TestCa, id: u8, seeds: &[String]) -> TestNode {
        TestNode::start_with(ca, id, seeds, None, Timing::default())
    }

    pub fn start_with(ca: &TestCa, id: u8, seeds: &[String], state_dir: Option<&Path>, timing: Timing) -> TestNode {
        let registry = Registry::new();
        let endpoint = ca.endpoint_with(Role::Node, &format!("node-{id}"), &registry);
        let service = Arc::new(NodeService::default());
        let me = Member::new(NodeId([id; 16]), &format!("node-{id}"), endpoint.local_addr());
        let config = ClusterConfig { me, seeds: seeds.to_vec(), state_dir: state_dir.map(Path::to_owned), timing };
        let cluster = Cluster::start(config, endpoint.clone(), &registry).expect("a node starts");
        assert!(service.0.set(cluster.clone()).is_ok());
        endpoint.serve(service);
        TestNode { endpoint, cluster, registry, id: NodeId([id; 16]) }
    }

    pub fn addr(&self) -> SocketAddr {
        self.endpoint.local_addr()
    }

    pub fn seed(&self) -> String {
        self.addr().to_string()
    }

    /// As kill -9 would end it.
    pub async fn kill(self) {
        self.cluster.stop();
        crash(self.endpoint).await;
    }
}

/// Waits until `views` holds exactly `ids`; gives the view that does.
pub async fn wait_for_members(views: &ViewWatch, ids: &[u8]) -> Arc<View> {
    let ids: Vec<NodeId> = ids.iter().map(|&id| NodeId([id; 16])).collect();
    let what = format!("members {ids:?} in {views:?}");
    let mut view = views.current();
    wait_until_async(&what, PATIENCE, async || {
        view = views.current();
        view.members.iter().map(|member| member.id).eq(ids.iter().copied())
    })
    .await;
    view
}
