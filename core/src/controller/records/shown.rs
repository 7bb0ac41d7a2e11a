//! A metadata record as one line, for people.

use std::fmt;

use super::{Listener, MetadataRecord, PartitionState, PeerAddress, Registration, Resource, Standing};
use crate::ids::NodeId;

/// Characters of a text that are shown: far more than names have, and fewer than a value may.
const SHOWN_CHARACTERS_MAX: usize = 256;

impl fmt::Display for MetadataRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind())?;
        match self {
            MetadataRecord::FormatLevel { level } => write!(f, " {level}"),
            MetadataRecord::RegisterBroker(registration) => write!(f, " {registration}"),
            MetadataRecord::Topic { id, name } => write!(f, " {} id {id}", Text(name)),
            MetadataRecord::Partition { partition, state } => write!(f, " {partition} {state}"),
            MetadataRecord::RemoveTopic { id } => write!(f, " id {id}"),
            MetadataRecord::Config { of, name, value } => match value {
                Some(value) => write!(f, " of {of}: {} = {}", Text(name), Text(value)),
                None => write!(f, " of {of}: {} is not set any more", Text(name)),
            },
            MetadataRecord::ProducerIds { node_id, broker_epoch, next } => {
                write!(f, " below {next} are node {node_id}'s, broker epoch {broker_epoch}")
            }
            MetadataRecord::ClusterId { id } => write!(f, " {}", Text(id)),
            MetadataRecord::FenceBroker { node_id, broker_epoch }
            | MetadataRecord::UnfenceBroker { node_id, broker_epoch }
            | MetadataRecord::BeginShutdown { node_id, broker_epoch } => {
                write!(f, " node {node_id} broker epoch {broker_epoch}")
            }
            MetadataRecord::RemoveBroker { node_id } => write!(f, " node {node_id}"),
            MetadataRecord::BrokerEpochs { last } => write!(f, " up to {last}"),
            MetadataRecord::ForgetEligible { topic: Some(topic) } => write!(f, " of topic {topic}"),
            MetadataRecord::ForgetEligible { topic: None } => f.write_str(" of all topics"),
            MetadataRecord::CreatedWith { topic, replication_factor } => {
                write!(f, " topic {topic} replication factor {replication_factor}")
            }
        }
    }
}

impl fmt::Display for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Registration { node_id, directory_id, broker_epoch, listeners, rack, process, peer_address, standing } =
            self;
        write!(f, "node {node_id} directory {directory_id} broker epoch {broker_epoch}")?;
        for Listener { name, host, port } in listeners {
            write!(f, " listener {} {}:{port}", Text(name), Text(host))?;
        }
        rack.iter().try_for_each(|rack| write!(f, " rack {}", Text(rack)))?;
        if *process != 0 {
            write!(f, " process {process:016x}")?;
        }
        if let Some(PeerAddress { host, port }) = peer_address {
            write!(f, " peer {}:{port}", Text(host))?;
        }
        f.write_str(match standing {
            Standing::Active => " active",
            Standing::Fenced => " fenced",
            Standing::ShuttingDown => " shutting down",
        })
    }
}

impl fmt::Display for PartitionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "replicas {} isr {} leader ", Nodes(&self.replicas), Nodes(&self.isr))?;
        match self.leader {
            Some(leader) => write!(f, "{leader}")?,
            None => f.write_str("none")?,
        }
        write!(f, " leader epoch {} partition epoch {}", self.leader_epoch, self.partition_epoch)?;
        for (what, nodes) in [("adding", &self.adding), ("removing", &self.removing), ("eligible", &self.eligible)] {
            if !nodes.is_empty() {
                write!(f, " {what} {}", Nodes(nodes))?;
            }
        }
        self.unclean_epoch.iter().try_for_each(|epoch| write!(f, " unclean leader epoch {epoch}"))
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resource::Cluster => f.write_str("all brokers"),
            Resource::Broker(node_id) => write!(f, "node {node_id}"),
            Resource::Topic(id) => write!(f, "topic {id}"),
        }
    }
}

/// Node ids with commas between them.
struct Nodes<'a>(&'a [NodeId]);

impl fmt::Display for Nodes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (at, node) in self.0.iter().enumerate() {
            write!(f, "{}{node}", if at == 0 { "" } else { "," })?;
        }
        f.write_str("]")
    }
}

/// A text in quotes, cut where it is long.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(SHOWN_CHARACTERS_MAX) {
            Some((end, _)) => write!(f, "{:?}... of {} bytes", &self.0[..end], self.0.len()),
            None => write!(f, "{:?}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{LeaderEpoch, ProducerId, TopicPartition, Uuid};

    #[test]
    fn a_record_is_one_line() {
        let check = |record: MetadataRecord, expect: &str| assert_eq!(record.to_string(), expect);
        let (id, uuid) = (Uuid([1; 16]), "AQEBAQEBAQEBAQEBAQEBAQ");
        check(MetadataRecord::Topic { id, name: "orders".into() }, &format!("Topic \"orders\" id {uuid}"));
        let mut state = PartitionState::new(vec![NodeId(1), NodeId(2)]);
        let partition = TopicPartition { topic: id, partition: 3 };
        check(
            MetadataRecord::Partition { partition, state: state.clone() },
            &format!("Partition {uuid}-3 replicas [1,2] isr [1,2] leader 1 leader epoch 0 partition epoch 0"),
        );
        state.leader = None;
        state.adding = vec![NodeId(2)];
        state.unclean_epoch = Some(LeaderEpoch(4));
        let text = state.to_string();
        assert!(text.contains("leader none") && text.ends_with("adding [2] unclean leader epoch 4"), "{text}");
        let config = |of, value: Option<&str>| MetadataRecord::Config {
            of,
            name: "cleanup.policy".into(),
            value: value.map(Into::into),
        };
        let expect = format!("Config of topic {uuid}: \"cleanup.policy\" = \"compact\"");
        check(config(Resource::Topic(id), Some("compact")), &expect);
        check(config(Resource::Cluster, None), "Config of all brokers: \"cleanup.policy\" is not set any more");
        check(
            config(Resource::Broker(NodeId(1)), Some(&"ü".repeat(300))),
            &format!("Config of node 1: \"cleanup.policy\" = \"{}\"... of 600 bytes", "ü".repeat(256)),
        );
        check(
            MetadataRecord::ProducerIds { node_id: NodeId(1), broker_epoch: 2, next: ProducerId(1000) },
            "ProducerIds below 1000 are node 1's, broker epoch 2",
        );
        let registration = Registration {
            node_id: NodeId(1),
            directory_id: id,
            broker_epoch: 5,
            listeners: vec![Listener { name: "a".into(), host: "b".into(), port: 9092 }],
            rack: Some("r".into()),
            process: 0xabc,
            peer_address: Some(PeerAddress { host: "p".into(), port: 9093 }),
            standing: Standing::Fenced,
        };
        check(
            MetadataRecord::RegisterBroker(registration),
            &format!(
                "RegisterBroker node 1 directory {uuid} broker epoch 5 listener \"a\" \"b\":9092 rack \"r\" \
                 process 0000000000000abc peer \"p\":9093 fenced"
            ),
        );
    }
}
