//! What was set of a topic is in force, whatever went wrong meanwhile.

use std::collections::BTreeSet;

use super::facts::Facts;
use super::{Claim, Found};
use crate::history::What;

pub(super) const SETTINGS_STAY: Claim = Claim {
    name: "settings-stay",
    meaning: "A topic's config is at the end what it was created with or what it was last set to.",
};

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    if facts.plan.is_beyond_promises {
        return;
    }
    for (event, happened) in facts.events.iter().enumerate() {
        let What::Described { topic, name, value } = &happened.what else { continue };
        let Some(allowed) = allowed(facts, event, topic, name) else { continue };
        if !allowed.contains(&value.as_deref()) {
            found.add(SETTINGS_STAY, event, || {
                format!(
                    "{name} of {topic} is {value:?} at {}, where it was created or set to be one of {allowed:?}",
                    facts.when(event)
                )
            });
        }
    }
}

/// What a config may be by an event; `None` where it may be anything.
fn allowed<'a>(facts: &'a Facts<'_>, event: usize, topic: &str, name: &str) -> Option<BTreeSet<Option<&'a str>>> {
    let created = facts.plan.topics.iter().find(|planned| planned.name == topic)?.configs.get(name)?;
    let mut allowed = BTreeSet::from([Some(created.as_str())]);
    // A topic that was created again is as it was first.
    let is_fleeting =
        facts.events.iter().any(|event| matches!(&event.what, What::DeleteTopic { name, .. } if name == topic));
    for (index, happened) in facts.events[..event].iter().enumerate() {
        let What::AlterConfig { topic: of, name: altered, value } = &happened.what else { continue };
        if of != topic || altered != name {
            continue;
        }
        let key = (happened.client, happened.operation);
        let outcome = facts.events[index + 1..].iter().find_map(|later| match later.what {
            _ if (later.client, later.operation) != key => None,
            // Sent again: the last time it is asked says how it ended.
            What::AlterConfig { .. } => Some(false),
            What::Finished { is_ok, .. } => Some(is_ok),
            _ => None,
        });
        if outcome == Some(true) && !is_fleeting {
            allowed.clear();
        }
        // Back to the default, which is the broker's to know.
        value.as_ref()?;
        allowed.insert(value.as_deref());
    }
    Some(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::told::{ADMIN, Told, told};
    use crate::plan::TopicPlan;

    const NAME: &str = "segment.ms";

    fn created() -> Told {
        told().under(|plan| {
            let configs = [(NAME.to_owned(), "7".to_owned())].into();
            plan.topics =
                vec![TopicPlan { name: "orders".into(), partitions: 1, replication: 1, configs, shared_keys: None }];
        })
    }

    fn set(told: Told, operation: u32, value: &str, is_ok: bool) -> Told {
        let what = What::AlterConfig { topic: "orders".into(), name: NAME.into(), value: Some(value.into()) };
        told.client(ADMIN, operation, what).client(ADMIN, operation, What::Finished { is_ok, code: None })
    }

    fn is(told: Told, value: &str) -> Told {
        told.client(ADMIN, 9, What::Described { topic: "orders".into(), name: NAME.into(), value: Some(value.into()) })
    }

    #[test]
    fn what_was_set_last_is_in_force() {
        is(created(), "7").holds();
        is(created(), "8").breaks(SETTINGS_STAY, "segment.ms of orders is Some(\"8\")");
        is(set(created(), 0, "8", true), "8").holds();
        is(set(created(), 0, "8", true), "7").breaks(SETTINGS_STAY, "one of {Some(\"8\")}");
        // Nobody knows whether it was set.
        is(set(created(), 0, "8", false), "7").holds();
        is(set(created(), 0, "8", false), "8").holds();
    }
}
