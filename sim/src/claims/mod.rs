//! What must hold, each claim under a name of its own, judged by the history alone.
//!
//! A history is put in order once (`facts`): topics by id, what was sent, what was acknowledged, and for each
//! partition which record was seen at which offset, the auditor having the last word. Then each family of claims goes
//! over that, in a module of its own. A claim is judged by what some client was told, never by what an engine knows of
//! the broker's inside, so the same claims judge one broker, a cluster, and a broker on real files and sockets. Four
//! families (`replicas`, `held`, `members`, `parted`) are about what brokers of a cluster believe, where an engine could
//! note it.
//!
//! What a claim excuses, and why, is written where it does so; what a fault excuses is all in `facts::Faults`.

mod acked;
mod answers;
mod commits;
mod compaction;
mod epochs;
mod facts;
mod fencing;
mod generations;
mod held;
mod idempotence;
mod listed;
mod members;
mod offsets;
mod operator;
mod order;
mod owned;
mod parted;
mod progress;
mod protocol;
mod reads;
mod replicas;
mod serving;
mod settings;
mod settling;
#[cfg(test)]
mod told;
mod topics;

use crate::history::History;
use crate::plan::Plan;
use facts::Facts;

/// A claim that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The claim's name, in words joined by `-`.
    pub claim: &'static str,
    /// The index in the history of the event that shows it.
    pub event: usize,
    /// What was claimed and what is, in Kafka's terms.
    pub text: String,
}

/// A claim that every run is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its name, in words joined by `-`.
    pub name: &'static str,
    /// What holds, in one sentence.
    pub meaning: &'static str,
}

/// All claims, those about data first.
pub fn claims() -> &'static [Claim] {
    &[
        acked::ACKED_IS_THERE,
        acked::LOSES_ONLY_ITS_END,
        acked::ACKED_ONCE,
        acked::REFUSED_IS_NOT_THERE,
        reads::ONLY_SENT,
        reads::WHOLE_BATCHES,
        reads::NO_DUPLICATES,
        reads::ONE_RECORD_PER_OFFSET,
        reads::READS_WITHOUT_GAP,
        reads::NEVER_ABOVE_HIGH_WATERMARK,
        reads::APPEND_TIME_IS_ONE,
        offsets::WATERMARK_COVERS_THE_PAST,
        offsets::ACKED_IS_VISIBLE,
        offsets::WATERMARKS_NEVER_GO_BACK,
        offsets::LOG_START_HAS_A_CAUSE,
        offsets::IN_RANGE_IS_SERVED,
        offsets::DELETED_RECORDS_STAY_DELETED,
        listed::LISTED_IS_TRUE,
        compaction::COMPACTION_KEEPS_THE_NEWEST,
        compaction::DELETED_KEYS_STAY_DELETED,
        epochs::LEADER_EPOCHS_RISE,
        epochs::EPOCHS_END_AT_THE_NEXT,
        order::APPENDS_IN_ORDER,
        idempotence::SEQUENCES_WITHOUT_GAP,
        topics::TOPICS_NEVER_MIX,
        topics::DELETED_TOPICS_STAY_DELETED,
        topics::TOPICS_STAY,
        settings::SETTINGS_STAY,
        owned::OWNED_ONCE,
        generations::GENERATIONS_RISE,
        commits::COMMITTED_IS_TOLD,
        commits::COMMITS_AS_SENT,
        commits::DELETED_OFFSETS_STAY_DELETED,
        fencing::COMMITS_ARE_FENCED,
        fencing::LIVE_GROUPS_STAY,
        operator::QUIET_OPERATOR_LOG,
        operator::ENDS_ONLY_WHEN_TOLD,
        operator::MEMORY_WITHIN_BOUNDS,
        protocol::PROTOCOL_KEPT,
        answers::ANSWERED_IN_TIME,
        answers::STORAGE_ERRORS_HAVE_A_CAUSE,
        serving::DATA_IS_SERVED,
        serving::SESSIONS_FORGET_NOBODY,
        settling::GROUPS_SETTLE,
        replicas::ONE_LEADER_PER_EPOCH,
        replicas::ONE_CONTROLLER_PER_TERM,
        replicas::EPOCHS_NEVER_GO_BACK,
        replicas::IN_SYNC_SETS_ARE_SOUND,
        replicas::WATERMARK_WAITS_FOR_ENOUGH,
        held::WATERMARK_IS_ON_ITS_DISKS,
        held::WATERMARK_IS_IN_THE_LOG,
        replicas::REPLICAS_AGREE,
        replicas::SETS_ARE_FULL_AFTER_HEALING,
        members::METADATA_IS_ON_A_MAJORITY,
        members::OUTSIDERS_LEAD_NOTHING,
        members::MEMBERS_ARE_AS_ACKNOWLEDGED,
        parted::ISOLATED_CONTROLLERS_RESIGN,
        progress::PROGRESS_AFTER_HEALING,
    ]
}

/// Judges a whole run, and returns what does not hold in the order of the events that show it. Of each claim it returns
/// the first few violations of each family's pass: one bug may show in every later read.
pub fn judge(plan: &Plan, history: &History) -> Vec<Violation> {
    let facts = Facts::gather(plan, history);
    let mut found = Found::default();
    for family in [
        acked::judge,
        reads::judge,
        offsets::judge,
        listed::judge,
        compaction::judge,
        order::judge,
        idempotence::judge,
        topics::judge,
        settings::judge,
        epochs::judge,
        owned::judge,
        generations::judge,
        commits::judge,
        fencing::judge,
        settling::judge,
        answers::judge,
        serving::judge,
        operator::judge,
        protocol::judge,
        progress::judge,
        replicas::judge,
        held::judge,
        members::judge,
        parted::judge,
    ] {
        family(&facts, &mut found);
    }
    found.violations.sort_by_key(|violation| violation.event);
    found.violations
}

/// How many violations of one claim are told.
const TOLD_MAX: usize = 5;

/// What was found so far.
#[derive(Debug, Default)]
struct Found {
    violations: Vec<Violation>,
}

impl Found {
    /// Adds a violation, unless enough of its claim are known.
    fn add(&mut self, claim: Claim, event: usize, text: impl FnOnce() -> String) {
        let told = self.violations.iter().filter(|violation| violation.claim == claim.name).count();
        if told < TOLD_MAX {
            self.violations.push(Violation { claim: claim.name, event, text: text() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_have_names_of_their_own_and_a_sentence() {
        for (index, claim) in claims().iter().enumerate() {
            assert!(claim.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", claim.name);
            assert!(claim.meaning.ends_with('.'), "{}", claim.meaning);
            assert!(claims()[..index].iter().all(|other| other.name != claim.name), "{}", claim.name);
        }
    }
}
