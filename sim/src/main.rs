//! `cargo sim`: see the crate's documentation.

use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use chronik_sim::canary::score::{Hunts, score};
use chronik_sim::trial::{Canaries, Engine, Named, Parts};
use chronik_sim::{canary, claims, cli, engine, plan};

/// What this binary is made of.
const PARTS: Parts = Parts {
    draw: plan::draw::draw_for,
    draw_beyond: plan::draw::draw_beyond_for,
    core: engine::core::run,
    madsim: MADSIM,
    judge: claims::judge,
    claims: claims::claims,
    counters: &engine::COUNTERS,
    canaries: Canaries {
        names: canaries,
        become_planted: |name, arguments| match become_planted(name, arguments) {
            Ok(never) => match never {},
            Err(why) => why,
        },
        planted: canary::planted,
        score: score_canaries,
    },
};

/// The production shell on simulated sockets.
#[cfg(madsim)]
const MADSIM: Option<Engine> = Some(engine::madsim::run);
#[cfg(not(madsim))]
const MADSIM: Option<Engine> = None;

fn main() -> ExitCode {
    cli::run(&PARTS, env::args_os())
}

fn canaries() -> Result<Vec<Named>, String> {
    let canaries = canary::all(&canary::workspace()?)?;
    Ok(canaries.into_iter().map(|canary| (canary.name, canary.about)).collect())
}

fn become_planted(name: &str, arguments: &[OsString]) -> Result<Infallible, String> {
    let workspace = canary::workspace()?;
    let nodes = canary::named(&workspace, name)?.nodes;
    let has = |flag: &str| arguments.iter().any(|argument| argument.to_string_lossy().starts_with(flag));
    let mut arguments = arguments.to_vec();
    if !["--nodes", "--plan", "--scenario"].into_iter().any(has) {
        arguments.extend([OsString::from("--nodes"), nodes.to_string().into()]);
    }
    canary::exec(&workspace, name, &arguments)
}

fn score_canaries() -> Result<(), String> {
    let workspace = canary::workspace()?;
    let binary = canary::build(&workspace)?;
    let canaries = canary::all(&workspace)?;
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    score(&binary, &canaries, &Hunts::default(), jobs, &mut io::stdout())
        .map(drop)
        .map_err(|error| format!("the count of the canaries stopped: {error}"))
}
