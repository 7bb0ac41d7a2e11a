//! Every request gets exactly one well-formed response, in order. Clients see it as it happens; here it is only told.

use std::collections::BTreeSet;

use chronik_core::ids::{Offset, TopicPartition};

use super::facts::{Facts, client};
use super::{Claim, Found};
use crate::history::{Event, Role, What};

pub(super) const PROTOCOL_KEPT: Claim = Claim {
    name: "protocol-kept",
    meaning: "Every request gets exactly one well-formed response, in order, and every byte of a record is as it was \
              sent; an idempotent producer's batch is taken behind those before it and not without them.",
};

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    for (event, happened) in facts.events.iter().enumerate() {
        let what = match &happened.what {
            What::Broken { what } => what,
            // Who goes by name cannot see that the topic is another, which has never heard of it.
            What::OutOfSequence { to, is_by_id, is_again, what }
                if (*is_by_id || facts.topics.name_is_certain(to.topic, event))
                    && !(*is_again && may_have_copied_less(facts, event, *to))
                    && !has_deposed_leader(facts, event, *to) =>
            {
                what
            }
            _ => continue,
        };
        found.add(PROTOCOL_KEPT, event, || {
            let operation = happened.operation.map_or(String::new(), |index| format!(", operation {index}"));
            format!("{}{operation}, at {}: {what}", client(happened.client), facts.when(event))
        });
    }
}

/// Whether a replica may know less of a producer than the leader did that it copied: where that had compacted its log
/// before, only the producer's newest batch is left, and where it had let go of its log's beginning, those behind. Of the
/// ones before, whether they were there cannot be said then, by Kafka's brokers neither.
fn may_have_copied_less(facts: &Facts<'_>, event: usize, partition: TopicPartition) -> bool {
    let has_let_go = |happened: &Event| matches!(&happened.what, What::Stands(standing) if standing.partition == partition && standing.start > Offset(0));
    facts.has_several() && (facts.compacts_shared_keys(partition) || facts.events[..event].iter().any(has_let_go))
}

/// Whether a broker goes on leading a partition by then that another one leads already: it may be asked by who has not
/// heard of that either, and misses what the other has taken meanwhile.
fn has_deposed_leader(facts: &Facts<'_>, event: usize, partition: TopicPartition) -> bool {
    let mut seen = BTreeSet::new();
    let mut leaders = 0;
    for happened in facts.events[..event].iter().rev().filter(|_| facts.has_several()) {
        let leads = match &happened.what {
            What::Stands(standing) if standing.partition == partition => standing.role == Role::Leads,
            What::Left { partition: left } if *left == partition => false,
            What::Ended { .. } | What::Started { .. } => false,
            _ => continue,
        };
        leaders += usize::from(seen.insert(happened.node) && leads);
        if leaders > 1 {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::claims::told::{Told, standing, told};
    use crate::history::Standing;
    use crate::plan::TopicPlan;
    use crate::testing::cluster_plan;
    use crate::value::SharedKeys;

    #[test]
    fn whatever_a_client_saw_broken_is_told() {
        told().holds();
        let broken = What::Broken { what: "the answer to request 7 came before that to 6".into() };
        told().client(1, 5, broken).breaks(PROTOCOL_KEPT, "client 1, operation 5");
    }

    #[test]
    fn sequences_are_those_of_one_topic() {
        let gap = |told: Told, is_by_id| {
            let what = What::OutOfSequence { to: told.on, is_by_id, is_again: false, what: "a batch is taken".into() };
            told.client(0, 1, what)
        };
        gap(told(), false).breaks(PROTOCOL_KEPT, "client 0, operation 1");
        let deleted = || told().asks_to_delete(0).deleted(0).created(2);
        gap(deleted(), false).holds();
        gap(deleted(), true).breaks(PROTOCOL_KEPT, "client 0, operation 1");
    }

    #[test]
    fn a_leader_that_was_deposed_lacks_what_the_next_one_took() {
        let leads = |told: Told, node: u32, role: Role, leader_epoch: i32| {
            let standing = Standing { role, leader_epoch, partition_epoch: leader_epoch, ..standing(&told, 0) };
            told.of_node(node, What::Stands(Box::new(standing)))
        };
        let refuses = |told: Told| {
            let what = "a batch is refused".into();
            let what = What::OutOfSequence { to: told.on, is_by_id: true, is_again: false, what };
            told.client(0, 1, what)
        };
        let two = || {
            let told = told().under(|plan| plan.cluster = cluster_plan(3).cluster);
            leads(leads(told, 1, Role::Leads, 1), 2, Role::Leads, 2)
        };
        refuses(two()).holds();
        refuses(leads(two(), 1, Role::Follows, 2)).breaks(PROTOCOL_KEPT, "a batch is refused");
    }

    #[test]
    fn who_copied_a_compacted_log_knows_the_newest_batch_of_a_producer() {
        let shared_keys = Some(SharedKeys { count: 3, tombstones_permille: 0 });
        let configs = BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
        let topic = TopicPlan { name: "orders".into(), partitions: 1, replication: 3, configs, shared_keys };
        let compacted = || told().under(|plan| plan.topics = vec![topic.clone()]);
        let in_a_cluster = |told: Told| told.under(|plan| plan.cluster = cluster_plan(3).cluster);
        let refuses = |told: Told, is_again| {
            let what = What::OutOfSequence { to: told.on, is_by_id: true, is_again, what: "a batch is refused".into() };
            told.client(0, 1, what)
        };
        refuses(in_a_cluster(compacted()), true).holds();
        // What was never sent before follows the newest.
        refuses(in_a_cluster(compacted()), false).breaks(PROTOCOL_KEPT, "a batch is refused");
        refuses(in_a_cluster(told()), true).breaks(PROTOCOL_KEPT, "a batch is refused");
        refuses(compacted(), true).breaks(PROTOCOL_KEPT, "a batch is refused");
    }

    #[test]
    fn who_copied_a_log_without_its_beginning_knows_what_is_left_of_a_producer() {
        let begins_at = |start| {
            let told = told().under(|plan| plan.cluster = cluster_plan(3).cluster);
            let standing = standing(&told, start);
            told.of_node(1, What::Stands(Box::new(standing)))
        };
        let refuses = |told: Told, is_again| {
            let what = What::OutOfSequence { to: told.on, is_by_id: true, is_again, what: "a batch is refused".into() };
            told.client(0, 1, what)
        };
        refuses(begins_at(7), true).holds();
        refuses(begins_at(7), false).breaks(PROTOCOL_KEPT, "a batch is refused");
        refuses(begins_at(0), true).breaks(PROTOCOL_KEPT, "a batch is refused");
    }
}
