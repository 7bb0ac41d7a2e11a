//! What a broker that hears nothing of the others may still believe of itself.
//!
//! Judged by what the engine noted of it ([`What::Votes`]); with a single broker nothing is.

use std::time::Duration;

use chronik_core::time::Instant;

use super::facts::{Facts, time};
use super::{Claim, Found};
use crate::history::What;
use crate::plan::{FaultKind, Way};

pub(super) const ISOLATED_CONTROLLERS_RESIGN: Claim = Claim {
    name: "isolated-controllers-resign",
    meaning: "Who has heard nothing of all other brokers for 5 s does not believe any more that it leads the metadata quorum.",
};

/// An election timeout is a second to two, and who leads looks once in each whether it was answered. The rest is for what
/// was on its way.
const RESIGNS_WITHIN: Duration = Duration::from_secs(5);

/// For so long after its machine was slow or stood still nothing is asked of a broker: it may have been without room for
/// the next tick.
const AFTER_ITS_OWN_TROUBLE: Duration = Duration::from_secs(15);

/// What is known of one broker.
#[derive(Clone, Debug, Default)]
struct Known {
    /// From when to when nothing of the others arrives there.
    deaf: Option<(Instant, Instant)>,
    /// Until when its machine may be late.
    late_until: Instant,
}

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    if facts.plan.nodes() < 2 {
        return;
    }
    let mut brokers = vec![Known::default(); facts.plan.nodes() as usize];
    // When what parts brokers ends: what heals, heals, so that any of them may end another.
    let mut ends: Vec<Instant> = Vec::new();
    for (event, happened) in facts.events.iter().enumerate() {
        let at = happened.at;
        let Some(known) = (happened.node as usize).checked_sub(1).and_then(|index| brokers.get_mut(index)) else {
            continue;
        };
        match &happened.what {
            What::Fault(FaultKind::Isolated { for_ms, way }) => {
                let end = at + Duration::from_millis(*for_ms);
                if matches!(way, Way::Both | Way::In) {
                    known.deaf = Some((at, end));
                }
                ends.push(end);
            }
            What::Fault(FaultKind::LinkMuted { for_ms, .. }) => ends.push(at + Duration::from_millis(*for_ms)),
            What::Fault(
                FaultKind::Pause { for_ms }
                | FaultKind::DiskFull { for_ms }
                | FaultKind::DiskStall { for_ms }
                | FaultKind::DiskSlow { for_ms, .. },
            ) => known.late_until = at + Duration::from_millis(*for_ms) + AFTER_ITS_OWN_TROUBLE,
            // A process begins without having heard anything; what is noted of it is its own.
            What::Started { .. } => {
                known.deaf = known.deaf.map(|(since, until)| (since.max(at), first_end(&ends, since, until)));
            }
            What::Healed => return,
            What::Votes { term, leads: true, .. } => {
                let Some((since, until)) = known.deaf else { continue };
                let until = first_end(&ends, since, until);
                if at < until && at >= since + RESIGNS_WITHIN && at >= known.late_until {
                    found.add(ISOLATED_CONTROLLERS_RESIGN, event, || {
                        format!(
                            "broker {} leads the quorum in term {term} at {}, and has heard nothing since {}",
                            happened.node,
                            facts.when(event),
                            time(since),
                        )
                    });
                }
            }
            _ => {}
        }
    }
}

/// When what began at `since` and was to last until `until` ended: with the first that ended meanwhile.
fn first_end(ends: &[Instant], since: Instant, until: Instant) -> Instant {
    ends.iter().copied().filter(|end| *end > since).fold(until, Instant::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::told::{Told, told};
    use crate::testing;

    fn in_a_cluster() -> Told {
        told().under(|plan| plan.cluster = testing::cluster_plan(3).cluster)
    }

    fn isolated(told: Told, way: Way) -> Told {
        told.of_node(2, What::Fault(FaultKind::Isolated { for_ms: 12_000, way }))
    }

    fn leads(told: Told) -> Told {
        told.of_node(2, What::Votes { term: 3, leads: true, committed: 5 })
    }

    #[test]
    fn a_controller_that_hears_nobody_resigns() {
        let claim = ISOLATED_CONTROLLERS_RESIGN;
        leads(isolated(in_a_cluster(), Way::Both).wait(2_000)).holds();
        leads(isolated(in_a_cluster(), Way::Both).wait(6_000)).breaks(claim, "broker 2 leads the quorum in term 3");
        leads(isolated(in_a_cluster(), Way::In).wait(6_000)).breaks(claim, "has heard nothing");
        leads(isolated(in_a_cluster(), Way::Out).wait(6_000)).holds();
        leads(isolated(in_a_cluster(), Way::Both).wait(13_000)).holds();
    }

    #[test]
    fn who_may_have_been_heard_or_stood_still_is_excused() {
        let muted = FaultKind::LinkMuted { to: 1, for_ms: 3_000 };
        let muted = isolated(in_a_cluster().of_node(3, What::Fault(muted)), Way::Both);
        leads(muted.wait(6_000)).holds();
        // It begins again after it may have been heard.
        let begins = || What::Started { notes: Vec::new() };
        let muted = FaultKind::LinkMuted { to: 1, for_ms: 500 };
        let muted = isolated(in_a_cluster().of_node(3, What::Fault(muted)), Way::Both);
        leads(muted.wait(1_000).of_node(2, begins()).wait(6_000)).holds();
        leads(isolated(in_a_cluster(), Way::Both).of_node(2, begins()).wait(6_000))
            .breaks(ISOLATED_CONTROLLERS_RESIGN, "broker 2");
        let paused = in_a_cluster().of_node(2, What::Fault(FaultKind::Pause { for_ms: 500 }));
        leads(isolated(paused, Way::Both).wait(6_000)).holds();
    }
}
