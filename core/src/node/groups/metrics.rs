//! What the node tells of its groups (Prometheus text).

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::{Groups, Node, State};
use crate::group::record::{Key, Record};
use crate::ids::TopicPartition;
use crate::wire::list_groups::ListGroupsRequest;

/// The lag of so many partitions is told at most, that of all groups together: a scrape is bounded, whatever there is.
const LAGS_MAX: usize = 10_000;

/// The states that a group may be in, of both protocols.
const STATES: [&str; 7] =
    ["Empty", "PreparingRebalance", "CompletingRebalance", "Stable", "Dead", "Assigning", "Reconciling"];

impl Node {
    /// Counts what coordinators decide.
    pub(super) fn count_decided(&mut self, records: &[Record]) {
        for record in records.iter().filter(|record| record.value.is_some()) {
            match record.key {
                Key::OffsetCommit { .. } => self.counters.offsets_committed += 1,
                Key::Group { .. } | Key::TargetAssignment { .. } => self.counters.rebalances += 1,
                _ => {}
            }
        }
    }

    /// Writes the metrics of groups.
    pub(in crate::node) fn group_metrics(&self, text: &mut String) {
        self.write_group_metrics(text).expect("writing to a string cannot fail");
    }

    fn write_group_metrics(&self, text: &mut String) -> fmt::Result {
        let Groups { seats, .. } = &self.groups;
        let mut by_state: BTreeMap<String, u64> = STATES.iter().map(|state| ((*state).to_owned(), 0)).collect();
        let mut loading = 0;
        let coordinators = || {
            seats.values().filter_map(|seat| match &seat.state {
                State::Serving(coordinator) => Some(coordinator),
                _ => None,
            })
        };
        for group in coordinators().flat_map(|coordinator| coordinator.list(&ListGroupsRequest::default())) {
            *by_state.entry(group.group_state.to_string()).or_default() += 1;
        }
        for seat in seats.values() {
            loading += u64::from(matches!(seat.state, State::Waiting | State::Loading(_)));
        }
        writeln!(text, "# HELP chronik_groups Groups that this broker coordinates.\n# TYPE chronik_groups gauge")?;
        for (state, count) in &by_state {
            writeln!(text, "chronik_groups{{state=\"{state}\"}} {count}")?;
        }
        let members: usize = coordinators().map(|coordinator| coordinator.members()).sum();
        writeln!(text, "# HELP chronik_group_members Members of all groups.\n# TYPE chronik_group_members gauge")?;
        writeln!(text, "chronik_group_members {members}")?;
        let help = "Partitions of __consumer_offsets that are being loaded.";
        writeln!(text, "# HELP chronik_coordinators_loading {help}\n# TYPE chronik_coordinators_loading gauge")?;
        writeln!(text, "chronik_coordinators_loading {loading}")?;
        let help = "Records between a group's committed offset and the partition's end.";
        writeln!(text, "# HELP chronik_group_lag {help}\n# TYPE chronik_group_lag gauge")?;
        let mut untold = 0;
        let committed = coordinators().flat_map(|coordinator| coordinator.committed());
        let lags = committed.filter_map(|(group, topic, partition, offset)| {
            let id = self.controller.image().topic_named::<str>(topic)?.id;
            let slot = self.by_id.get(&TopicPartition { topic: id, partition })?;
            let end = self.hosts[*slot as usize].as_ref()?.partition.advanced().high_watermark;
            Some((group, topic, partition, end.0.saturating_sub(offset).max(0)))
        });
        for (told, (group, topic, partition, lag)) in lags.enumerate() {
            if told >= LAGS_MAX {
                untold += 1;
                continue;
            }
            let (group, topic) = (Label(group), Label(topic));
            writeln!(text, "chronik_group_lag{{group=\"{group}\",topic=\"{topic}\",partition=\"{partition}\"}} {lag}")?;
        }
        let help = "Partitions whose lag is not told, since there are too many.";
        writeln!(text, "# HELP chronik_group_lags_untold {help}\n# TYPE chronik_group_lags_untold gauge")?;
        writeln!(text, "chronik_group_lags_untold {untold}")
    }
}

/// A text as the value of a label.
struct Label<'a>(&'a str);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_group_is_called_its_label_stays_within_its_quotes() {
        assert_eq!(Label("plain").to_string(), "plain");
        assert_eq!(Label("a\"} 1\n\\").to_string(), "a\\\"} 1\\n\\\\");
    }
}
