//! What the node tells of its groups (Prometheus text).
//!
//! To count groups and their lags all of them are looked at. As many as fit a step are counted when somebody asks; more
//! are surveyed in slices, and whoever asks is told of the last survey that has ended.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::{NEXT_STEP, Node, Reason, Seat, State};
use crate::group::record::{Record, Value};
use crate::group::{Seen, Stop};
use crate::ids::TopicPartition;
use crate::time::Now;

/// The lag of so many partitions is told at most, that of all groups together: a scrape is bounded, whatever there is.
const LAGS_MAX: usize = 10_000;

/// And so many bytes of text about them, but for the last: names may be long.
const LAG_BYTES_MAX: usize = 4 << 20;

/// The states that a group may be in, of both protocols.
const STATES: [&str; 7] =
    ["Empty", "PreparingRebalance", "CompletingRebalance", "Stable", "Dead", "Assigning", "Reconciling"];

/// How many groups and offsets a survey looks at in one step, at somewhat less than a microsecond each with their text.
const SURVEYED_AT_ONCE: usize = 100;

/// What is known of all groups together.
#[derive(Debug, Default)]
pub(super) struct Surveys {
    /// The last survey that took more than one step, unless a later one did not.
    told: Option<Survey>,
    /// One that has not ended.
    active: Option<Survey>,
}

/// A look at all groups.
#[derive(Debug, Default)]
struct Survey {
    by_state: BTreeMap<&'static str, u64>,
    members: usize,
    /// Lines of text.
    lags: String,
    lags_told: usize,
    lags_untold: u64,
    /// Where it goes on: the partition of `__consumer_offsets`, and the place in it.
    place: Option<(i32, Option<Stop>)>,
}

impl super::Groups {
    /// How many bytes of text the last survey has found, about.
    pub(in crate::node) fn metrics_bytes(&self) -> usize {
        self.surveys.told.as_ref().map_or(0, |survey| survey.lags.len())
    }
}

impl Node {
    /// Counts what coordinators decide.
    pub(super) fn count_decided(&mut self, records: &[Record]) {
        for record in records {
            match &record.value {
                Some(Value::OffsetCommit(_)) => self.counters.offsets_committed += 1,
                // A group that has become empty is written as well, and nobody is assigned anything.
                Some(Value::Group(value)) if !value.members.is_empty() => self.counters.rebalances += 1,
                Some(Value::TargetAssignment(_)) => self.counters.rebalances += 1,
                _ => {}
            }
        }
    }

    /// Looks at all groups for their metrics, a slice in each step, if that takes longer than one. What is found is told
    /// from then on, until the next survey has ended.
    pub fn survey_groups(&mut self, now: Now) {
        if self.groups.surveys.active.is_none() {
            let mut survey = Survey::default();
            if self.survey_some(&mut survey) {
                // What takes no longer than this is told as it is.
                self.groups.surveys.told = None;
                return;
            }
            self.groups.surveys.active = Some(survey);
            self.deadlines.insert((now.instant + NEXT_STEP, Reason::Survey));
        }
    }

    /// Goes on with the survey, for one step.
    pub(in crate::node) fn survey_on(&mut self, now: Now) {
        let Some(mut survey) = self.groups.surveys.active.take() else { return };
        if self.survey_some(&mut survey) {
            self.groups.surveys.told = Some(survey);
        } else {
            self.groups.surveys.active = Some(survey);
            self.deadlines.insert((now.instant + NEXT_STEP, Reason::Survey));
        }
    }

    /// Looks at the next groups. Returns whether those were the last.
    fn survey_some(&self, survey: &mut Survey) -> bool {
        let mut budget = SURVEYED_AT_ONCE;
        let (first, mut from) = survey.place.take().unwrap_or_default();
        for (&partition, seat) in self.groups.seats.range(first..) {
            let State::Serving(coordinator) = &seat.state else { continue };
            let from = from.take().filter(|_| partition == first);
            let stop = coordinator.survey(from, &mut budget, &mut |seen| self.take_down(survey, seen));
            if budget == 0 {
                let is_over = stop.is_none();
                survey.place = Some((partition + i32::from(is_over), stop));
                return false;
            }
        }
        true
    }

    fn take_down(&self, survey: &mut Survey, seen: Seen<'_>) {
        match seen {
            Seen::Group { state, members } => {
                *survey.by_state.entry(state).or_default() += 1;
                survey.members += members;
            }
            Seen::Offset { group, topic, partition, offset } => {
                let image = self.controller.image();
                let id = image.topic_named::<str>(topic).map(|topic| TopicPartition { topic: topic.id, partition });
                // Of what is gone there is nothing to tell.
                let Some(id) = id.filter(|id| image.partition(*id).is_some()) else { return };
                let hosted = self.by_id.get(&id).and_then(|&slot| self.hosts[slot as usize].as_ref());
                let has_room = survey.lags_told < LAGS_MAX && survey.lags.len() < LAG_BYTES_MAX;
                // Where a partition ends only those know who have it.
                let Some(hosted) = hosted.filter(|_| has_room) else {
                    survey.lags_untold += 1;
                    return;
                };
                survey.lags_told += 1;
                let lag = hosted.partition.advanced().high_watermark.0.saturating_sub(offset).max(0);
                let (group, topic) = (Label(group), Label(topic));
                let labels = format_args!("group=\"{group}\",topic=\"{topic}\",partition=\"{partition}\"");
                writeln!(survey.lags, "chronik_group_lag{{{labels}}} {lag}").expect("writing to a string cannot fail");
            }
        }
    }

    /// Writes the metrics of groups.
    pub(in crate::node) fn group_metrics(&self, text: &mut String) {
        let mut few = Survey::default();
        // What one slice finds is told as it is now; of more, what the last survey found, or what there is of the first.
        let survey = match &self.groups.surveys {
            Surveys { told: Some(told), .. } => told,
            _ => {
                self.survey_some(&mut few);
                &few
            }
        };
        self.write_group_metrics(survey, text).expect("writing to a string cannot fail");
    }

    fn write_group_metrics(&self, survey: &Survey, text: &mut String) -> fmt::Result {
        writeln!(text, "# HELP chronik_groups Groups that this broker coordinates.\n# TYPE chronik_groups gauge")?;
        for state in STATES {
            let count = survey.by_state.get(state).copied().unwrap_or_default();
            writeln!(text, "chronik_groups{{state=\"{state}\"}} {count}")?;
        }
        writeln!(text, "# HELP chronik_group_members Members of all groups.\n# TYPE chronik_group_members gauge")?;
        writeln!(text, "chronik_group_members {}", survey.members)?;
        let is_loading = |seat: &&Seat| !matches!(seat.state, State::Serving(_) | State::Failed);
        let loading = self.groups.seats.values().filter(is_loading).count();
        let help = "Partitions of __consumer_offsets that are being loaded.";
        writeln!(text, "# HELP chronik_coordinators_loading {help}\n# TYPE chronik_coordinators_loading gauge")?;
        writeln!(text, "chronik_coordinators_loading {loading}")?;
        let help = "Records between a group's committed offset and the partition's end.";
        writeln!(text, "# HELP chronik_group_lag {help}\n# TYPE chronik_group_lag gauge")?;
        text.push_str(&survey.lags);
        let help = "Partitions whose lag is not told, since there are too many, or none of their replicas is here.";
        writeln!(text, "# HELP chronik_group_lags_untold {help}\n# TYPE chronik_group_lags_untold gauge")?;
        writeln!(text, "chronik_group_lags_untold {}", survey.lags_untold)
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
