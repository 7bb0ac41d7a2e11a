//! What the node counts, and how it tells (Prometheus text).

use std::fmt::Write;

use super::Node;

/// What happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests taken.
    pub requests: u64,
    /// Batches appended.
    pub batches_in: u64,
    /// Records appended.
    pub records_in: u64,
    /// Bytes of batches appended.
    pub bytes_in: u64,
    /// Batches appended as leaders sent them.
    pub batches_replicated: u64,
    /// Bytes of these.
    pub bytes_replicated: u64,
    /// Bytes of batches sent to followers.
    pub bytes_sent_to_followers: u64,
    /// In-sync sets of partitions led here that lost a replica.
    pub in_sync_shrinks: u64,
    /// Those that got one.
    pub in_sync_expands: u64,
    /// Leaders elected while this broker decided.
    pub leader_elections: u64,
    /// Those of them that may have cost records.
    pub unclean_leader_elections: u64,
    /// How often another controller was found.
    pub controller_changes: u64,
    /// Bytes of batches sent to consumers.
    pub bytes_out: u64,
    /// Connections cut since they left an answer unread while others waited.
    pub connections_cut: u64,
    /// Batches that were recognised as sent before.
    pub duplicates: u64,
    /// Commits of the journal.
    pub commits: u64,
    /// Bytes of commits.
    pub commit_bytes: u64,
    /// Checkpoints completed.
    pub checkpoints: u64,
    /// Reads from segments that failed.
    pub read_errors: u64,
    /// Indexes of segments that were damaged, and were made again.
    pub indexes_mended: u64,
    /// Their entries that were.
    pub index_entries_mended: u64,
    /// Bytes of closed segments that the scrub found to be what was written.
    pub scrubbed_bytes: u64,
    /// Reads of the scrub that failed; [`Counters::read_errors`] counts them too.
    pub scrub_errors: u64,
    /// Offsets of groups committed, one for each partition.
    pub offsets_committed: u64,
    /// Assignments of groups made.
    pub rebalances: u64,
    /// Coordinators loaded.
    pub coordinator_loads: u64,
    /// Records that they were loaded from.
    pub coordinator_records_loaded: u64,
    /// Passes of compaction that went to their end.
    pub compactions: u64,
    /// Passes of compaction that were given up, because something changed or failed.
    pub compactions_given_up: u64,
    /// Bytes of segments that compaction read.
    pub compaction_bytes_read: u64,
    /// Bytes of segments that compaction wrote.
    pub compaction_bytes_written: u64,
    /// Records that compaction removed.
    pub compaction_records_removed: u64,
}

/// What the metrics take without those of groups, in bytes, and somewhat more.
const TEXT_BYTES: usize = 16 << 10;

impl Node {
    /// What the node has counted since its start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Its metrics as Prometheus text (version 0.0.4).
    pub fn metrics(&self) -> String {
        let counters = self.counters;
        // Room for all, so that what there is of groups, up to some megabytes, is copied once.
        let mut text = String::with_capacity(TEXT_BYTES + self.groups.metrics_bytes());
        let mut metric = |kind: &str, name: &str, help: &str, value: u64| {
            write!(text, "# HELP chronik_{name} {help}\n# TYPE chronik_{name} {kind}\nchronik_{name} {value}\n")
                .expect("writing to a string cannot fail");
        };
        metric("counter", "requests_total", "Requests taken.", counters.requests);
        metric("counter", "batches_appended_total", "Record batches appended.", counters.batches_in);
        metric("counter", "records_appended_total", "Records appended.", counters.records_in);
        metric("counter", "appended_bytes_total", "Bytes of record batches appended.", counters.bytes_in);
        metric(
            "counter",
            "replicated_batches_total",
            "Batches appended as leaders sent them.",
            counters.batches_replicated,
        );
        metric(
            "counter",
            "replicated_bytes_total",
            "Bytes of batches appended as leaders sent them.",
            counters.bytes_replicated,
        );
        metric("counter", "fetched_bytes_total", "Bytes of record batches sent to consumers.", counters.bytes_out);
        metric("counter", "duplicate_batches_total", "Batches recognised as sent before.", counters.duplicates);
        metric("counter", "journal_commits_total", "Commits of the journal.", counters.commits);
        metric("counter", "journal_commit_bytes_total", "Bytes of journal commits.", counters.commit_bytes);
        metric("counter", "checkpoints_total", "Checkpoints completed.", counters.checkpoints);
        metric("counter", "read_errors_total", "Reads from segments that failed.", counters.read_errors);
        metric("counter", "indexes_mended_total", "Damaged indexes that were made again.", counters.indexes_mended);
        metric(
            "counter",
            "index_entries_mended_total",
            "Entries of damaged indexes that were made again.",
            counters.index_entries_mended,
        );
        metric("counter", "scrubbed_bytes_total", "Bytes that the scrub found sound.", counters.scrubbed_bytes);
        metric("counter", "scrub_errors_total", "Reads of the scrub that failed.", counters.scrub_errors);
        metric("counter", "compactions_total", "Passes of log compaction that ended.", counters.compactions);
        metric(
            "counter",
            "compactions_given_up_total",
            "Passes of log compaction that were given up.",
            counters.compactions_given_up,
        );
        metric(
            "counter",
            "compaction_read_bytes_total",
            "Bytes of segments that compaction read.",
            counters.compaction_bytes_read,
        );
        metric(
            "counter",
            "compaction_written_bytes_total",
            "Bytes of segments that compaction wrote.",
            counters.compaction_bytes_written,
        );
        metric(
            "counter",
            "compaction_removed_records_total",
            "Records that compaction removed.",
            counters.compaction_records_removed,
        );
        metric(
            "gauge",
            "compaction_dirty_percent_max",
            "How much of the dirtiest partition's closed segments is not compacted.",
            self.compaction.dirty_percent_max(),
        );
        metric(
            "gauge",
            "compaction_partitions_left_alone",
            "Partitions that could not be compacted and are left alone for a while.",
            self.compaction.aside(),
        );
        metric("gauge", "partitions", "Partitions on this broker.", self.by_id.len() as u64);
        metric(
            "gauge",
            "partitions_damaged",
            "Partitions that do not serve since their data is damaged.",
            self.damaged.len() as u64,
        );
        metric("gauge", "journal_used_bytes", "Bytes of the journal that a restart needs.", self.journal.used_bytes());
        metric("gauge", "journal_free_bytes", "Bytes of the journal that can be written.", self.journal.free_bytes());
        if let Some(volume) = self.volume {
            metric("gauge", "volume_total_bytes", "Size of the data folder's volume.", volume.total_bytes);
            metric("gauge", "volume_usable_bytes", "Bytes of the volume that can still be used.", volume.usable_bytes);
        }
        metric("gauge", "tail_bytes", "Bytes of newest batches held in memory.", self.tails.bytes());
        metric("gauge", "fetches_waiting", "Fetch requests that wait for data.", self.fetches.len() as u64);
        metric("gauge", "fetches_queued", "Fetch requests that wait for memory.", self.turns.waiting());
        metric(
            "gauge",
            "fetch_bytes_in_flight",
            "Bytes of fetched records that are read or not sent yet, and what is kept free for them.",
            self.turns.bytes(),
        );
        metric(
            "counter",
            "connections_cut_total",
            "Connections closed since they left a fetch unread while others waited for the memory.",
            counters.connections_cut,
        );
        metric("gauge", "produces_waiting", "Produce requests that wait for the disk.", self.produces.len() as u64);
        metric("gauge", "produces_stalled", "Produce requests that wait for room.", self.stalled.len() as u64);
        metric("gauge", "fetch_sessions", "Fetch sessions.", self.sessions.count() as u64);
        metric(
            "gauge",
            "out_of_space",
            "1 while appends are refused for want of space.",
            u64::from(self.no_space.is_some()),
        );
        metric("counter", "offsets_committed_total", "Offsets of groups committed.", counters.offsets_committed);
        metric("counter", "group_rebalances_total", "Assignments of groups made.", counters.rebalances);
        metric("counter", "coordinator_loads_total", "Coordinators of groups loaded.", counters.coordinator_loads);
        let help = "Records that coordinators of groups were loaded from.";
        metric("counter", "coordinator_loaded_records_total", help, counters.coordinator_records_loaded);
        self.group_metrics(&mut text);
        self.cluster_metrics(&mut text);
        text
    }
}
