//! What a broker of a cluster tells of the cluster (Prometheus text): the quorum, the partitions, the other brokers.
//!
//! What is about the whole cluster every broker tells as its metadata have it, so that one that is asked is enough; what
//! one of them has counted, only that one.

use std::fmt::{self, Write};

use super::super::Node;
use crate::raft::Role;

impl Node {
    /// Writes the metrics that only a broker of a cluster has.
    pub(in crate::node) fn cluster_metrics(&self, text: &mut String) {
        if self.metadata.is_clustered() {
            self.write_cluster_metrics(text).expect("writing to a string cannot fail");
            self.replication_metrics(text).expect("writing to a string cannot fail");
        }
    }

    fn write_cluster_metrics(&self, text: &mut String) -> fmt::Result {
        let quorum = self.metadata.quorum();
        let figures = self.controller.figures();
        let duties = self.controller.image().partition_index().duties(self.node_id());
        let counters = self.counters;
        let (voters, applied) = (quorum.membership().voters().len(), self.controller.image().index());
        let mut metric = |kind: &str, name: &str, help: &str, value: u64| {
            writeln!(text, "# HELP chronik_{name} {help}\n# TYPE chronik_{name} {kind}\nchronik_{name} {value}")
        };
        let decides = u64::from(self.metadata.leading.is_some());
        metric("gauge", "active_controller", "1 while this broker is the controller.", decides)?;
        let help = "How often this broker has seen another controller.";
        metric("counter", "controller_changes_total", help, counters.controller_changes)?;
        metric("gauge", "raft_term", "Term of the metadata log.", quorum.term())?;
        let help = "Entry up to which the metadata log has committed, as far as this broker knows.";
        metric("gauge", "raft_committed_index", help, quorum.committed())?;
        metric("gauge", "raft_applied_index", "Entry up to which it is applied here.", applied)?;
        metric("gauge", "raft_voters", "Voters of the metadata log.", voters as u64)?;
        metric("gauge", "brokers_active", "Brokers that may lead.", figures.active_brokers as u64)?;
        let help = "Brokers that are registered, and may not lead.";
        metric("gauge", "brokers_fenced", help, figures.fenced_brokers as u64)?;
        metric("gauge", "cluster_topics", "Topics of the cluster.", figures.topics as u64)?;
        metric("gauge", "cluster_partitions", "Partitions of the cluster.", figures.partitions as u64)?;
        let help = "Partitions of the cluster that nobody leads.";
        metric("gauge", "cluster_partitions_offline", help, figures.offline as u64)?;
        let help = "Partitions of the cluster with fewer in-sync replicas than replicas.";
        metric("gauge", "cluster_partitions_under_replicated", help, figures.under_replicated as u64)?;
        let help = "Partitions of the cluster with fewer in-sync replicas than min.insync.replicas.";
        metric("gauge", "cluster_partitions_under_min_isr", help, figures.under_min_isr as u64)?;
        let help = "Under-replicated partitions of the cluster with just as many as min.insync.replicas.";
        metric("gauge", "cluster_partitions_at_min_isr", help, figures.at_min_isr as u64)?;
        let help = "Partitions of the cluster on their way to other brokers.";
        metric("gauge", "cluster_partitions_reassigning", help, figures.reassigning as u64)?;
        let help = "Partitions of the cluster that their first replica does not lead.";
        let unpreferred = figures.preferred_leader_imbalance;
        metric("gauge", "cluster_partitions_not_led_by_first_replica", help, unpreferred as u64)?;
        metric("gauge", "partitions_led", "Partitions that this broker leads.", duties.leads.len() as u64)?;
        let help = "Leaders that this broker has elected as controller.";
        metric("counter", "leader_elections_total", help, counters.leader_elections)?;
        let help = "Those of them that may have cost records.";
        metric("counter", "unclean_leader_elections_total", help, counters.unclean_leader_elections)?;
        let help = "In-sync sets of partitions led here that lost a replica.";
        metric("counter", "in_sync_shrinks_total", help, counters.in_sync_shrinks)?;
        let help = "In-sync sets of partitions led here that got a replica.";
        metric("counter", "in_sync_expands_total", help, counters.in_sync_expands)?;
        let help = "Bytes of batches sent to followers.";
        metric("counter", "replication_sent_bytes_total", help, counters.bytes_sent_to_followers)?;
        let is = |role: bool| u8::from(role);
        let role = quorum.role();
        writeln!(
            text,
            "# HELP chronik_raft_state What this broker is in the quorum.\n# TYPE chronik_raft_state gauge"
        )?;
        writeln!(text, "chronik_raft_state{{state=\"leader\"}} {}", is(role == Role::Leader))?;
        writeln!(text, "chronik_raft_state{{state=\"follower\"}} {}", is(matches!(role, Role::Follower { .. })))?;
        writeln!(text, "chronik_raft_state{{state=\"candidate\"}} {}", is(role == Role::Candidate))
    }
}
