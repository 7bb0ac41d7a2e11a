//! Every request gets exactly one well-formed response, in order. Clients see it as it happens; here it is only told.

use super::facts::{Facts, client};
use super::{Claim, Found};
use crate::history::What;

pub(super) const PROTOCOL_KEPT: Claim = Claim {
    name: "protocol-kept",
    meaning: "Every request gets exactly one well-formed response, in order, and every byte of a record is as it was sent.",
};

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    for (event, happened) in facts.events.iter().enumerate() {
        if let What::Broken { what } = &happened.what {
            found.add(PROTOCOL_KEPT, event, || {
                let operation = happened.operation.map_or(String::new(), |index| format!(", operation {index}"));
                format!("{}{operation}, at {}: {what}", client(happened.client), facts.when(event))
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::told::told;

    #[test]
    fn whatever_a_client_saw_broken_is_told() {
        told().holds();
        let broken = What::Broken { what: "the answer to request 7 came before that to 6".into() };
        told().client(1, 5, broken).breaks(PROTOCOL_KEPT, "client 1, operation 5");
    }
}
