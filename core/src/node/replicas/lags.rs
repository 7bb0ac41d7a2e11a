//! How far followers are behind, for metrics: the partitions that are led here are looked at some a tick, so that a scrape
//! looks at none, and nobody waits while ten thousand are counted.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use crate::ids::{NodeId, TopicPartition};
use crate::node::Node;
use crate::replication::Lane;
use crate::time::Now;

/// Partitions that one step looks at, at some 0.2 µs each.
const LOOKED_AT_ONCE: usize = 200;

/// What is known of all partitions together.
#[derive(Debug, Default)]
pub(super) struct Lags {
    /// As of the last round that has ended.
    told: BTreeMap<NodeId, Lag>,
    /// The round that is under way, and how far it has come.
    counted: BTreeMap<NodeId, Lag>,
    after: Option<TopicPartition>,
}

/// How far one follower is behind in what is led here.
#[derive(Clone, Copy, Debug, Default)]
struct Lag {
    /// Partitions whose in-sync set it is not in.
    out_of_sync: u64,
    records: u64,
    records_max: u64,
    ms_max: u64,
}

impl Node {
    /// Looks at the next partitions.
    pub(in crate::node) fn survey_lags(&mut self, now: Now) {
        let next = self.partitions_after(self.replicas.lags.after, LOOKED_AT_ONCE);
        for &(_, slot) in &next {
            let hosted = self.hosts[slot as usize].as_ref().expect("a hosted partition");
            let Some(leader) = hosted.partition.leader() else { continue };
            for (node, behind) in leader.behind(now.instant) {
                let lag = self.replicas.lags.counted.entry(node).or_default();
                lag.out_of_sync += u64::from(!leader.in_sync().contains(&node));
                lag.records += behind.records;
                lag.records_max = lag.records_max.max(behind.records);
                lag.ms_max = lag.ms_max.max(u64::try_from(behind.time.as_millis()).unwrap_or(u64::MAX));
            }
        }
        let lags = &mut self.replicas.lags;
        lags.after = next.last().map(|&(id, _)| id);
        if next.len() < LOOKED_AT_ONCE {
            lags.after = None;
            lags.told = std::mem::take(&mut lags.counted);
        }
    }

    /// Writes what leaders know of their followers.
    pub(in crate::node) fn replication_metrics(&self, text: &mut String) -> fmt::Result {
        type Told<'a> = (&'a str, &'a str, &'a dyn Fn(NodeId, &Lag) -> u64);
        let in_flight = |node| {
            let peers = &self.replicas.peers;
            [Lane::Tail, Lane::CatchUp, Lane::Slow].map(|lane| peers.in_flight(node, lane) as u64).iter().sum()
        };
        let metrics: [Told<'_>; 5] = [
            ("replication_lag_records", "Records that a follower lacks, of all that is led here.", &|_, lag| {
                lag.records
            }),
            ("replication_lag_records_max", "The same of the partition that lacks most.", &|_, lag| lag.records_max),
            (
                "replication_lag_ms_max",
                "For how long a follower has not had all that its leader had, of the partition where that is longest.",
                &|_, lag| lag.ms_max,
            ),
            ("replication_out_of_sync", "Partitions led here that a follower is not in sync in.", &|_, lag| {
                lag.out_of_sync
            }),
            ("replication_bytes_in_flight", "Bytes sent to a follower that it has not acknowledged.", &|node, _| {
                in_flight(node)
            }),
        ];
        for (name, help, value) in metrics {
            writeln!(text, "# HELP chronik_{name} {help}\n# TYPE chronik_{name} gauge")?;
            for (&node, lag) in &self.replicas.lags.told {
                writeln!(text, "chronik_{name}{{follower=\"{node}\"}} {}", value(node, lag))?;
            }
        }
        Ok(())
    }
}
