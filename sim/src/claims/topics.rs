//! A topic is its id: what is deleted stays deleted, and a topic of the same name is another one (KIP-516).

use chronik_core::ids::{TopicId, TopicPartition};
use chronik_core::wire::ErrorCode;

use super::facts::Facts;
use super::{Claim, Found};
use crate::history::{ClientId, What};

pub(super) const TOPICS_NEVER_MIX: Claim = Claim {
    name: "topics-never-mix",
    meaning: "No record is read in a topic that it was not sent to, nor in one that was deleted before it was sent.",
};

pub(super) const DELETED_TOPICS_STAY_DELETED: Claim = Claim {
    name: "deleted-topics-stay-deleted",
    meaning: "Once a deletion was answered, nothing serves that topic id and nobody finds it under its name.",
};

pub(super) const TOPICS_STAY: Claim = Claim {
    name: "topics-stay",
    meaning: "A topic that was created, and that nobody asked to delete, is served at the end.",
};

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    for (event, happened) in facts.events.iter().enumerate() {
        match happened.what {
            What::Fetched { partition, asked_at, code: ErrorCode::None, .. } if facts.is_by_id(event) => {
                let Some(deleted) = facts.topics.deleted_at(partition.topic) else { continue };
                if facts.events[deleted].at < asked_at && facts.topics.is_heard_of(asked_at) {
                    found.add(DELETED_TOPICS_STAY_DELETED, event, || {
                        format!(
                            "{}: {} is served at {}, though {} was told at {} that the topic is deleted",
                            facts.name(partition),
                            facts.who(event),
                            facts.when(event),
                            facts.who(deleted),
                            facts.when(deleted),
                        )
                    });
                }
            }
            // The auditor asks when all has healed, so nothing that it is told is from before.
            What::TopicCreated { id, ref name, .. } if happened.client == ClientId::AUDITOR => {
                let deleted = facts.topics.deleted_at(id).filter(|_| facts.healed.is_some());
                let healed = facts.healed.unwrap_or_default();
                if let Some(deleted) = deleted.filter(|&deleted| facts.events[deleted].at < healed) {
                    found.add(DELETED_TOPICS_STAY_DELETED, event, || {
                        format!(
                            "topic {name} (id {id}) is found at the end, though {} was told at {} that it is deleted",
                            facts.who(deleted),
                            facts.when(deleted),
                        )
                    });
                }
            }
            What::TopicCreated { id, ref name, partitions } if facts.is_audited => {
                stays(facts, event, id, name, partitions, found);
            }
            _ => {}
        }
    }
}

fn stays(facts: &Facts<'_>, event: usize, id: TopicId, name: &str, partitions: i32, found: &mut Found) {
    if facts.topics.may_be_deleted(id) || partitions <= 0 || facts.faults.is_down_by_damage() {
        return;
    }
    for partition in 0..partitions {
        let id = TopicPartition { topic: id, partition };
        let place = facts.partitions.binary_search_by_key(&id, |known| known.id).ok();
        let known = place.map(|place| &facts.partitions[place]);
        let is_excused = known.is_some_and(|known| {
            known.audit.served.is_some() && known.audit.refused.is_none()
                || facts.may_refuse(known)
                || facts.is_loss_reported(known)
                // Told of there, with what is missing.
                || !known.acks.is_empty()
        });
        if !is_excused {
            let answer = known.and_then(|known| known.audit.refused.map(|refused| (refused, known.audit.code)));
            return found.add(TOPICS_STAY, answer.map_or(facts.events.len() - 1, |(refused, _)| refused), || {
                let answer = answer.map_or("is not there".into(), |(_, code)| format!("answers {}", code.name()));
                format!(
                    "{name}-{partition} {answer} at the end, though {} was told at {} that it was created and nobody \
                     asked to delete it",
                    facts.who(event),
                    facts.when(event),
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::told::{READER, READER_BY_NAME, Told, records, told};
    use crate::testing::cluster_plan;

    /// The topic with id 1 is deleted and the one with id 2 is created.
    fn created_again() -> Told {
        told().appends(0, 0, 1, 0).asks_to_delete(0).deleted(0).created(2)
    }

    #[test]
    fn topics_of_one_name_do_not_mix() {
        created_again().appends(0, 1, 1, 0).audits(&[(0, 1, 1)]).holds();
        created_again().reads(READER, 0, &[(0, 0, 1)]).breaks(TOPICS_NEVER_MIX, "which was sent to orders-0 (id AQEB");
        // By name whoever has it is meant, but nobody who was gone.
        let by_name = told().by_name().sends(0, 0, 1).asks_to_delete(0).deleted(0).created(2);
        by_name.reads(READER, 0, &[(0, 0, 1)]).holds();
        let asked_at = told().now;
        let read = |told: Told| {
            let records = records(0, &[(0, 5, 1)]);
            told.sends(0, 5, 1).on(1).fetches_as_of(asked_at, ClientId(READER), 0, records, (0, 1))
        };
        let again = || told().asks_to_delete(0).deleted(0).created(2);
        let (claim, to) = (TOPICS_NEVER_MIX, "which was sent to orders-0 (id AgIC");
        read(again().by_name()).breaks(claim, to);
        // Of several brokers one may not have heard of it yet, and to that one the name means who is gone elsewhere.
        let in_a_cluster = || again().under(|plan| plan.cluster = cluster_plan(3).cluster);
        read(in_a_cluster().by_name()).holds();
        read(in_a_cluster()).breaks(claim, to);
        // Which of them a reader by name meets is not known.
        created_again().on(1).reads(READER_BY_NAME, 0, &[(0, 0, 1)]).holds();
    }

    #[test]
    fn what_is_deleted_stays_deleted() {
        let code = ErrorCode::UnknownTopicId;
        created_again().on(1).fails_to_fetch(ClientId(READER), 0, code).holds();
        created_again().on(1).reads(READER, 0, &[(0, 0, 1)]).breaks(DELETED_TOPICS_STAY_DELETED, "client 4 was told");
        let deleted = told().asks_to_delete(0).deleted(0);
        let found = What::TopicCreated { name: "orders".into(), id: deleted.on.topic, partitions: 1 };
        let audited = deleted.created(2).heals().says(ClientId::AUDITOR, None, found).audits(&[]);
        audited.breaks(DELETED_TOPICS_STAY_DELETED, "is found at the end");
    }

    #[test]
    fn a_topic_stays_unless_somebody_asked_to_delete_it() {
        told().audits(&[]).holds();
        told().audit_is_over().breaks(TOPICS_STAY, "orders-0 is not there");
        told().asks_to_delete(0).audit_is_over().holds();
        let refused = told().fails_to_fetch(ClientId::AUDITOR, 0, ErrorCode::UnknownTopicId);
        refused.audit_is_over().breaks(TOPICS_STAY, "answers UNKNOWN_TOPIC_ID");
    }

    #[test]
    fn a_deletion_that_is_over_says_nothing_of_the_next_topic() {
        created_again().audit_is_over().breaks(TOPICS_STAY, "orders-0 is not there");
        // Its connection broke: bytes of it may have come late, and met the next topic.
        let broken = told().asks_to_delete(0).says(ClientId(4), None, What::Disconnected { unanswered: 1 });
        broken.deleted(0).created(2).audit_is_over().holds();
    }
}
