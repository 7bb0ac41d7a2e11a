//! The cluster as clients see it: DescribeCluster 0-2 (KIP-700, KIP-919, KIP-1073).

use super::Controller;
use super::records::{Listener, Registration, Standing};
use crate::wire::ErrorCode;
use crate::wire::describe_cluster::{DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse};

/// What a client may do to the cluster, as bits by the numbers of Kafka's operations: create (5), alter (7),
/// describe (8), cluster action (9), describe configs (10), alter configs (11), idempotent write (12).
pub(super) const CLUSTER_OPERATIONS: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;

/// What DescribeCluster may be about.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

impl Controller {
    /// The cluster's brokers, as a client sees them that came in by `listener`.
    pub fn describe_cluster(&self, listener: &str, request: &DescribeClusterRequest) -> DescribeClusterResponse {
        let refused = match request.endpoint_type {
            BROKERS => None,
            CONTROLLERS => Some((
                ErrorCode::MismatchedEndpointType,
                "The request was sent to an endpoint of type BROKER, but asks for type CONTROLLER.".to_owned(),
            )),
            other => Some((ErrorCode::UnsupportedEndpointType, format!("Unsupported endpoint type {other}."))),
        };
        if let Some((error, message)) = refused {
            return DescribeClusterResponse {
                error_code: error.code(),
                error_message: Some(message.into()),
                endpoint_type: request.endpoint_type,
                ..DescribeClusterResponse::default()
            };
        }
        let listed = self.image.brokers();
        let listed = listed.filter(|broker| request.include_fenced_brokers || broker.standing != Standing::Fenced);
        let brokers = listed.filter_map(|broker| {
            let address = broker.address(listener)?;
            Some(DescribeClusterBroker {
                broker_id: broker.node_id.0,
                host: address.host.clone(),
                port: i32::from(address.port),
                rack: broker.rack.clone(),
                is_fenced: broker.standing == Standing::Fenced,
            })
        });
        DescribeClusterResponse {
            cluster_id: self.cluster_id.clone(),
            controller_id: self.controller_id(),
            brokers: brokers.collect(),
            cluster_authorized_operations: match request.include_cluster_authorized_operations {
                true => CLUSTER_OPERATIONS,
                false => i32::MIN,
            },
            ..DescribeClusterResponse::default()
        }
    }
}

impl Controller {
    /// Who decides, as clients are told it: -1 where nobody is known to.
    pub(super) fn controller_id(&self) -> i32 {
        self.leader.map_or(-1, |leader| leader.0)
    }
}

impl Registration {
    /// The address for clients that came in by `listener`, whether the broker is fenced or not.
    pub fn address(&self, listener: &str) -> Option<&Listener> {
        self.listeners.iter().find(|candidate| candidate.name == *listener)
    }
}
