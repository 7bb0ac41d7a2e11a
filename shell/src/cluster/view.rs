//! The cluster as one broker knows it: gathered by a handful of requests.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use chronik_core::wire::describe_cluster::DescribeClusterRequest;
use chronik_core::wire::describe_quorum::{
    DescribeQuorumPartition, DescribeQuorumRequest, DescribeQuorumTopic, DescribedQuorumPartition,
};
use chronik_core::wire::list_partition_reassignments::{ListPartitionReassignmentsRequest, OngoingTopicReassignment};
use chronik_core::wire::metadata::{MetadataRequest, MetadataResponsePartition};
use chronik_core::wire::{ApiKey, Response};

use super::Fault;
use super::link::{Link, check};
use crate::cli::options::Address;

/// What Kafka calls the metadata log, as a topic.
const METADATA_TOPIC: &str = "__cluster_metadata";
/// How often the partitions are asked for at most while moves come to their end.
const LOOKS_MAX: usize = 3;
/// Between two looks at a cluster in which nobody decides.
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) cluster_id: String,
    pub(super) controller: Option<i32>,
    pub(super) nodes: BTreeMap<i32, Node>,
    /// By topic and index.
    pub(super) partitions: BTreeMap<(String, i32), Partition>,
    /// None where the broker cannot be asked for it, or nobody decides.
    pub(super) quorum: Option<DescribedQuorumPartition>,
    /// Why the controller, which there is said to be, does not tell of the quorum.
    pub(super) silence: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) address: Address,
    pub(super) rack: Option<String>,
    pub(super) is_fenced: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Partition {
    pub(super) leader: Option<i32>,
    pub(super) epoch: i32,
    /// The preferred leader first.
    pub(super) replicas: Vec<i32>,
    pub(super) in_sync: Vec<i32>,
    /// Those of the replicas that are on their way here.
    pub(super) adding: Vec<i32>,
    /// Those that are to go.
    pub(super) removing: Vec<i32>,
}

impl Partition {
    /// Whether it is on its way from some nodes to others.
    pub(super) fn is_moving(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// The replicas that it has when it has arrived, also where they were told before it was on its way.
    pub(super) fn settled(&self) -> Vec<i32> {
        let untold = self.adding.iter().filter(|node| !self.replicas.contains(node));
        self.replicas.iter().chain(untold).copied().filter(|node| !self.removing.contains(node)).collect()
    }

    /// Whether it arrives with more or fewer replicas than it had.
    pub(super) fn is_resized(&self) -> bool {
        self.adding.len() != self.removing.len()
    }

    /// Whether a replica that is not just being made lags behind.
    pub(super) fn is_under_replicated(&self) -> bool {
        self.replicas.iter().any(|node| !self.in_sync.contains(node) && !self.adding.contains(node))
    }
}

impl View {
    pub(super) fn of(link: &mut Link) -> Result<View, Fault> {
        let mut view = View::default();
        view.ask_for_nodes(link)?;
        // Asked before and after: of a move that ends or begins in between the partitions may tell either way, and one
        // that is taken for settled with the replicas of both ends would be given as many. Of one that is over, what is
        // left does not say whether it arrived or was cancelled: it is asked again, and where others are over each time,
        // they are taken for arrived.
        let mut moving = moves(link)?;
        for _ in 0..LOOKS_MAX {
            view.ask_for_partitions(link)?;
            let before = std::mem::replace(&mut moving, moves(link)?);
            let over: BTreeMap<_, _> = before.into_iter().filter(|(name, _)| !moving.contains_key(name)).collect();
            view.take(over.iter().chain(&moving));
            if over.is_empty() {
                break;
            }
        }
        // Nobody else can tell of it, and a broker would wait for one as long as it may.
        if view.controller.is_some() {
            // Last, so that the rest can be told whatever comes of it: a broker learns a moment later than we that its
            // controller is gone.
            view.silence = view.ask_for_quorum(link).err().map(|why| why.to_string());
        }
        Ok(view)
    }

    /// The same for who wants to change something: a controller is waited for, as long as an answer may take.
    pub(super) fn of_decided(link: &mut Link) -> Result<View, Fault> {
        let deadline = Instant::now() + link.timeout();
        loop {
            let view = View::of(link)?;
            if view.controller.is_some() && view.silence.is_none() {
                return Ok(view);
            }
            if Instant::now() >= deadline {
                let why = view.silence.unwrap_or_else(|| "there is no controller".to_owned());
                return Err(Fault::Refused(format!(
                    "nothing can be changed while nobody decides ({why}): a majority of the voters must run \
                     (`chronik-server cluster status`)"
                )));
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Whether a node does not serve, or is none of the cluster.
    pub(super) fn is_down(&self, node: i32) -> bool {
        is_down(&self.nodes, node)
    }

    /// Whether there is one node alone, who then is the one that answers. A node that is not registered answers as well, and
    /// is told of by the quorum.
    pub(super) fn is_of_one(&self) -> bool {
        let members = self.quorum.iter().flat_map(|quorum| quorum.current_voters.iter().chain(&quorum.observers));
        let is_other = |node: i32| !self.nodes.contains_key(&node);
        self.nodes.len() == 1 && !members.map(|member| member.replica_id).any(is_other)
    }

    fn ask_for_nodes(&mut self, link: &mut Link) -> Result<(), Fault> {
        let request = DescribeClusterRequest {
            endpoint_type: 1,
            include_fenced_brokers: true,
            ..DescribeClusterRequest::default()
        };
        let Response::DescribeCluster(response) = link.ask(request)? else { return Err(unasked()) };
        check("asking for the nodes", response.error_code, response.error_message.as_deref())?;
        self.cluster_id = response.cluster_id.to_string();
        self.controller = Some(response.controller_id).filter(|id| *id >= 0);
        let nodes = response.brokers.into_iter().map(|broker| {
            let port = u16::try_from(broker.port).unwrap_or_default();
            let address = Address { host: broker.host.to_string(), port };
            let rack = broker.rack.map(|rack| rack.to_string());
            (broker.broker_id, Node { address, rack, is_fenced: broker.is_fenced })
        });
        self.nodes = nodes.collect();
        Ok(())
    }

    fn ask_for_partitions(&mut self, link: &mut Link) -> Result<(), Fault> {
        let request = MetadataRequest { topics: None, allow_auto_topic_creation: false, ..MetadataRequest::default() };
        let Response::Metadata(response) = link.ask(request)? else { return Err(unasked()) };
        check("asking for the partitions", response.error_code, None)?;
        for topic in response.topics {
            let name = topic.name.map_or(String::new(), |name| name.to_string());
            for partition in topic.partitions {
                let MetadataResponsePartition { partition_index, leader_id, leader_epoch, .. } = partition;
                let partition = Partition {
                    leader: Some(leader_id).filter(|id| *id >= 0),
                    epoch: leader_epoch,
                    replicas: partition.replica_nodes,
                    in_sync: partition.isr_nodes,
                    ..Partition::default()
                };
                self.partitions.insert((name.clone(), partition_index), partition);
            }
        }
        Ok(())
    }

    /// Takes over what is told of partitions that are being moved, all of it from one answer.
    fn take<'a>(&mut self, moving: impl Iterator<Item = (&'a (String, i32), &'a Moving)>) {
        for (name, Moving { replicas, adding, removing }) in moving {
            if let Some(partition) = self.partitions.get_mut(name) {
                (partition.replicas, partition.adding, partition.removing) =
                    (replicas.clone(), adding.clone(), removing.clone());
            }
        }
    }

    fn ask_for_quorum(&mut self, link: &mut Link) -> Result<(), Fault> {
        if !link.knows(ApiKey::DescribeQuorum) {
            return Ok(());
        }
        let partitions = vec![DescribeQuorumPartition { partition_index: 0 }];
        let topic = DescribeQuorumTopic { topic_name: METADATA_TOPIC.into(), partitions };
        let request = DescribeQuorumRequest { topics: vec![topic] };
        let Response::DescribeQuorum(response) = link.ask(request)? else { return Err(unasked()) };
        check("asking for the quorum", response.error_code, response.error_message.as_deref())?;
        let described = response.topics.into_iter().flat_map(|topic| topic.partitions).next();
        if let Some(described) = &described {
            check("asking for the quorum", described.error_code, described.error_message.as_deref())?;
        }
        self.quorum = described;
        Ok(())
    }
}

/// Whether a node does not serve, or is none of these.
pub(super) fn is_down(nodes: &BTreeMap<i32, Node>, node: i32) -> bool {
    nodes.get(&node).is_none_or(|node| node.is_fenced)
}

/// The replicas of a partition that is being moved, and which of them come and go.
struct Moving {
    replicas: Vec<i32>,
    adding: Vec<i32>,
    removing: Vec<i32>,
}

/// Which partitions are being moved.
fn moves(link: &mut Link) -> Result<BTreeMap<(String, i32), Moving>, Fault> {
    if !link.knows(ApiKey::ListPartitionReassignments) {
        return Ok(BTreeMap::new());
    }
    let timeout_ms = link.timeout().as_millis().try_into().unwrap_or(i32::MAX);
    let request = ListPartitionReassignmentsRequest { timeout_ms, topics: None };
    let Response::ListPartitionReassignments(response) = link.ask(request)? else { return Err(unasked()) };
    check("asking what is being moved", response.error_code, response.error_message.as_deref())?;
    let of_topic = |topic: OngoingTopicReassignment| {
        let name = topic.name.to_string();
        topic.partitions.into_iter().map(move |moving| {
            let (adding, removing) = (moving.adding_replicas, moving.removing_replicas);
            ((name.clone(), moving.partition_index), Moving { replicas: moving.replicas, adding, removing })
        })
    };
    Ok(response.topics.into_iter().flat_map(of_topic).collect())
}

/// An answer to another request than the one that was sent; the correlation id says otherwise, so no broker does it.
pub(super) fn unasked() -> Fault {
    Fault::Unreachable("the broker answered another request".to_owned())
}
