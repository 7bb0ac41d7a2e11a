//! `cargo sim`: see the crate's documentation.

use std::env;
use std::process::ExitCode;

use chronik_sim::trial::{Canaries, Parts};
use chronik_sim::{claims, cli, engine, plan};

/// What this binary is made of.
const PARTS: Parts = Parts {
    draw: plan::draw::draw,
    draw_beyond: plan::draw::draw,
    core: engine::core::run,
    madsim: None,
    judge: claims::judge,
    claims: claims::claims,
    counters: &engine::COUNTERS,
    canaries: Canaries {
        names: || Ok(Vec::new()),
        become_planted: |name, _| format!("there is no canary {name}"),
        planted: || None,
        score: || Err("there are no canaries".to_string()),
    },
};

fn main() -> ExitCode {
    cli::run(&PARTS, env::args_os())
}
