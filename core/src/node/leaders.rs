//! Who leads what, and where, for clients that have asked the wrong broker (KIP-951), and who is near to whom (KIP-392).

use std::collections::BTreeMap;

use super::Node;
use crate::boundary::ReplyTo;
use crate::ids::{LeaderEpoch, NodeId, TopicPartition};
use crate::wire::Str;

/// Where a client reaches a broker.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) node_id: i32,
    pub(super) host: Str,
    pub(super) port: i32,
    pub(super) rack: Option<Str>,
}

/// The racks that brokers stand in, each with a number from 1: what a reader is known by costs two bytes that way.
#[derive(Debug, Default)]
pub(super) struct Racks {
    names: Vec<Str>,
    /// The rack of each broker that stands in one.
    brokers: BTreeMap<NodeId, u16>,
}

impl Racks {
    /// A broker stands in this rack from now on.
    pub(super) fn stands(&mut self, node: NodeId, rack: Option<&Str>) {
        self.brokers.remove(&node);
        let Some(rack) = rack else { return };
        let number = self.number_of(rack).unwrap_or_else(|| {
            self.names.push(rack.detached());
            u16::try_from(self.names.len()).unwrap_or(0)
        });
        self.brokers.insert(node, number);
    }

    fn number_of(&self, rack: &str) -> Option<u16> {
        let at = self.names.iter().position(|known| *known == *rack)?;
        u16::try_from(at + 1).ok()
    }
}

impl Node {
    /// The number of a reader's rack, 0 where it had better read from leaders: followers are read from only where
    /// `replica.selector.class` asks for it, and nobody is near to who stands where this broker does.
    pub(super) fn rack_of(&self, rack: &str) -> u16 {
        if rack.is_empty() || !self.broker_config().replica_selector_is_rack_aware {
            return 0;
        }
        let number = self.racks.number_of(rack).unwrap_or(0);
        if self.is_in_rack(self.node_id(), number) { 0 } else { number }
    }

    /// A broker has registered, and told where it stands.
    pub(super) fn broker_stands(&mut self, node: NodeId) {
        let broker = self.controller.image().broker(node);
        self.racks.stands(node, broker.and_then(|broker| broker.rack.as_ref()));
    }

    /// Whether a broker stands in the rack of this number.
    pub(super) fn is_in_rack(&self, node: NodeId, rack: u16) -> bool {
        rack != 0 && self.racks.brokers.get(&node) == Some(&rack)
    }

    /// Who leads a partition, by the metadata, and in which epoch.
    pub(super) fn leader_of(&self, id: TopicPartition) -> Option<(NodeId, LeaderEpoch)> {
        let state = self.controller.image().partition(id)?;
        Some((state.leader?, state.leader_epoch))
    }

    /// Where a client reaches a broker that came in by the same listener as its request.
    pub(super) fn endpoint(&self, to: ReplyTo, node: NodeId) -> Option<Endpoint> {
        let broker = self.controller.image().broker(node)?;
        let address = broker.address(self.listener(to))?;
        let (host, port) = (address.host.clone(), i32::from(address.port));
        Some(Endpoint { node_id: node.0, host, port, rack: broker.rack.clone() })
    }
}
