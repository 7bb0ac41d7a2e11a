//! Every request gets exactly one well-formed response, in order. Clients see it as it happens; here it is only told.

use super::facts::{Facts, client};
use super::{Claim, Found};
use crate::history::What;

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
            What::OutOfSequence { to, is_by_id, what }
                if *is_by_id || facts.topics.name_is_certain(to.topic, event) =>
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::told::{Told, told};

    #[test]
    fn whatever_a_client_saw_broken_is_told() {
        told().holds();
        let broken = What::Broken { what: "the answer to request 7 came before that to 6".into() };
        told().client(1, 5, broken).breaks(PROTOCOL_KEPT, "client 1, operation 5");
    }

    #[test]
    fn sequences_are_those_of_one_topic() {
        let gap = |told: Told, is_by_id| {
            let what = What::OutOfSequence { to: told.on, is_by_id, what: "a batch is taken".into() };
            told.client(0, 1, what)
        };
        gap(told(), false).breaks(PROTOCOL_KEPT, "client 0, operation 1");
        let deleted = || told().asks_to_delete(0).deleted(0).created(2);
        gap(deleted(), false).holds();
        gap(deleted(), true).breaks(PROTOCOL_KEPT, "client 0, operation 1");
    }
}
