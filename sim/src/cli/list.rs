//! `--list`: scenarios, claims, canaries, and what each engine can do.

use super::Ended;
use crate::scenario;
use crate::trial::{EngineName, NO_PANIC, Parts, SAME_TWICE};

/// What an engine is good for.
fn abilities(engine: EngineName) -> &'static [&'static str] {
    match engine {
        EngineName::Core => &[
            "the broker's state machine, its codec and its recovery, in an event loop of the simulator's own",
            "every fault of a plan, clusters of up to five; clocks that are wrong for one node alone; threads, --shrink, --at EVENT --print",
        ],
        EngineName::Madsim => &[
            "the production shell: connections, framing, backpressure, the node's loop and its supervision",
            "a process per run; simulated sockets, on which the plan's network faults act byte by byte, clients' and peers'",
        ],
    }
}

pub(crate) fn print(parts: &Parts) -> Result<Ended, String> {
    println!("engines");
    for engine in [EngineName::Core, EngineName::Madsim] {
        let missing = if parts.engine(engine).is_none() { " (not in this binary: it needs --cfg madsim)" } else { "" };
        println!("  {engine}{missing}");
        abilities(engine).iter().for_each(|line| println!("      {line}"));
    }

    println!("\nscenarios (--scenario NAME)");
    let folder = scenario::folder();
    for name in scenario::names(&folder)? {
        let scenario = scenario::read(&folder, &name)?;
        let engines: Vec<String> = scenario.engines.iter().map(ToString::to_string).collect();
        let found_by = scenario.found_by.map(|claim| format!(", found by {claim}")).unwrap_or_default();
        println!("  {name} [{}{found_by}]\n      {}", engines.join(", "), scenario.about);
    }

    println!("\nclaims");
    println!("  {NO_PANIC}\n      No assertion of the broker fails.");
    println!("  {SAME_TWICE}\n      A second run of a plan is the first one again, which --twice looks at.");
    for claim in (parts.claims)() {
        println!("  {}\n      {}", claim.name, claim.meaning);
    }

    println!("\ncanaries (--canary NAME)");
    for (name, about) in (parts.canaries.names)()? {
        println!("  {name}\n      {about}");
    }
    Ok(Ended::Well)
}
