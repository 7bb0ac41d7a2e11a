//! When all has healed, every client gets done what it was to do, within a bound.

use std::collections::BTreeSet;
use std::time::Duration;

use super::facts::{Facts, time};
use super::{Claim, Found};
use crate::history::{ClientId, Event, What};
use crate::plan::HEAL_MS;

pub(super) const PROGRESS_AFTER_HEALING: Claim = Claim {
    name: "progress-after-healing",
    meaning: "Every client is done, with no operation open, within 30 s of when everything has healed, and the auditor \
              reads every partition up to its high watermark.",
};

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    // A run that was cut short says nothing, and one whose broker rightly refuses to start gets nothing done.
    let Some(healed) = facts.healed.filter(|_| !facts.faults.is_down_by_damage()) else { return };
    let until = healed + Duration::from_millis(HEAL_MS);
    let last = facts.events.len() - 1;
    let is_set_up = |event: &Event| event.client == ClientId::SETUP && event.what == What::Done;
    // A single broker cannot but create topics, or is found out by those who wait for it.
    if facts.has_several() && facts.events[last].at > until && !facts.events.iter().any(is_set_up) {
        found.add(PROGRESS_AFTER_HEALING, last, || "the plan's topics were never created".into());
    }
    let mut done = vec![None; facts.plan.clients.len()];
    // Of each client the operations that sent something and are not over.
    let mut open = vec![BTreeSet::new(); facts.plan.clients.len()];
    for (index, event) in facts.events.iter().enumerate() {
        let client = event.client.0 as usize;
        let Some(open) = open.get_mut(client) else { continue };
        match (&event.what, event.operation) {
            (What::Done, _) => done[client] = Some(index),
            (What::Produce { .. }, Some(operation)) => _ = open.insert(operation),
            (What::Finished { .. }, Some(operation)) => _ = open.remove(&operation),
            _ => {}
        }
    }
    let mut all_done = true;
    for ((client, done), open) in (0..).map(ClientId).zip(done).zip(open) {
        let late = match done {
            Some(index) if facts.events[index].at <= until => {
                is_closed(client, index, &open, found);
                continue;
            }
            Some(index) => format!("is done only at {}", facts.when(index)),
            None => "is never done".into(),
        };
        all_done = false;
        found.add(PROGRESS_AFTER_HEALING, done.unwrap_or(last), || {
            let doing = facts.events.iter().rev().find(|event| event.client == client && event.operation.is_some());
            let doing = doing.map_or("it began nothing".into(), describe);
            format!("client {} {late}, and everything had healed at {}; at last {doing}", client.0, time(healed))
        });
    }
    if all_done && !facts.is_audited {
        found.add(PROGRESS_AFTER_HEALING, last, || "the auditor did not come to an end".into());
    }
    for partition in facts.partitions.iter().filter(|_| facts.is_audited) {
        let audit = &partition.audit;
        let Some(served) = audit.served.filter(|_| audit.refused.is_none() && audit.end < audit.high_watermark) else {
            continue;
        };
        found.add(PROGRESS_AFTER_HEALING, served, || {
            let (end, high_watermark) = (audit.end, audit.high_watermark);
            let name = facts.name(partition.id);
            format!("{name}: the auditor reads up to {end} only, with high watermark {high_watermark}")
        });
    }
}

/// A client that is done has left nothing open.
fn is_closed(client: ClientId, done: usize, open: &BTreeSet<u32>, found: &mut Found) {
    if let Some(first) = open.first() {
        found.add(PROGRESS_AFTER_HEALING, done, || {
            let count = open.len();
            format!("client {} is done, and {count} of its sends are open: the first is operation {first}", client.0)
        });
    }
}

/// What an operation was last seen doing.
fn describe(event: &Event) -> String {
    let what = match &event.what {
        What::Produce { attempt, .. } => format!("sent attempt {}", attempt.number),
        What::ProduceUnknown { attempt, .. } => format!("had no answer to attempt {}", attempt.number),
        What::ProduceRefused { code, .. } => format!("was declined with {}", code.name()),
        What::Produced { .. } => "was acknowledged".into(),
        What::Fetched { code, .. } => format!("fetched ({})", code.name()),
        What::Listed { code, .. } => format!("listed offsets ({})", code.name()),
        What::CreateTopic { name } => format!("was creating topic {name}"),
        What::DeleteTopic { name, .. } => format!("was deleting topic {name}"),
        What::DeleteRecords { before, .. } => format!("was deleting records below {before}"),
        What::AlterConfig { topic, name, .. } => format!("was setting {name} of topic {topic}"),
        What::Finished { is_ok, code } => {
            let code = code.map_or("no answer", |code| code.name());
            format!("was over ({})", if *is_ok { "well" } else { code })
        }
        _ => "went on".into(),
    };
    let operation = event.operation.unwrap_or_default();
    format!("operation {operation} {what} at {}", time(event.at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::told::{records, told};

    #[test]
    fn everybody_is_done_in_time() {
        told().heals().audits(&[]).holds();
        // A run that was cut short says nothing.
        told().sends(0, 0, 1).holds();
        let late = (0..4).fold(told().sends(4, 3, 1).engine(What::Healed), |told, client| {
            told.says(ClientId(client), None, What::Done)
        });
        let over = |told: crate::claims::told::Told| {
            let finished = What::Finished { is_ok: true, code: None };
            told.client(4, 3, finished).says(ClientId(4), None, What::Done).audits(&[])
        };
        over(late).holds();
        let late = (0..4).fold(told().sends(4, 3, 1).engine(What::Healed), |told, client| {
            told.says(ClientId(client), None, What::Done)
        });
        over(late.wait(HEAL_MS)).breaks(PROGRESS_AFTER_HEALING, "client 4 is done only at");
        let never = told().sends(0, 2, 1).engine(What::Healed).audits(&[]);
        never.breaks(PROGRESS_AFTER_HEALING, "client 0 is never done");
    }

    #[test]
    fn a_cluster_creates_the_topics() {
        let over = |set_up: bool| {
            let several = told().under(|plan| plan.cluster = crate::testing::cluster_plan(3).cluster);
            let several = if set_up { several.says(ClientId::SETUP, None, What::Done) } else { several };
            several.heals().wait(HEAL_MS + 1_000).audits(&[])
        };
        over(true).holds();
        over(false).breaks(PROGRESS_AFTER_HEALING, "never created");
    }

    #[test]
    fn no_send_is_left_open() {
        let sent = || told().appends(0, 0, 1, 0);
        let finished = What::Finished { is_ok: true, code: None };
        sent().client(0, 0, finished).heals().audits(&[(0, 0, 1)]).holds();
        sent().heals().audits(&[(0, 0, 1)]).breaks(PROGRESS_AFTER_HEALING, "the first is operation 0");
    }

    #[test]
    fn the_auditor_reads_to_the_end() {
        told().heals().breaks(PROGRESS_AFTER_HEALING, "the auditor did not come to an end");
        let sent = told().sends(0, 0, 2).client(0, 0, What::Finished { is_ok: false, code: None }).heals();
        let short = sent.fetches(ClientId::AUDITOR, 0, records(0, &[(0, 0, 1)]), (0, 2)).audit_is_over();
        short.breaks(PROGRESS_AFTER_HEALING, "reads up to 1 only");
    }
}
