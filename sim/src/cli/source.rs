//! Where a plan comes from, and the arguments that name it again.

use std::path::PathBuf;

use super::options::Options;
use crate::plan::Plan;
use crate::scenario;
use crate::trial::{EngineName, Parts};

/// Where a plan comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Drawn, for so many brokers where that is said.
    Seed { seed: u64, is_beyond: bool, nodes: Option<u32> },
    /// A named scenario.
    Scenario(String),
    /// A file.
    File(PathBuf),
}

impl Source {
    /// The one plan that the flags name, if they do.
    pub(crate) fn of(options: &Options) -> Option<Source> {
        match options {
            &Options { seed: Some(seed), beyond, nodes, .. } => Some(Source::Seed { seed, is_beyond: beyond, nodes }),
            Options { scenario: Some(name), .. } => Some(Source::Scenario(name.clone())),
            Options { plan: Some(file), .. } => Some(Source::File(file.clone())),
            _ => None,
        }
    }

    /// The plan.
    ///
    /// # Errors
    /// A sentence: there is no such file, or it is no plan.
    pub(crate) fn plan(&self, parts: &Parts) -> Result<Plan, String> {
        match self {
            &Source::Seed { seed, is_beyond, nodes } => {
                let draw = if is_beyond { parts.draw_beyond } else { parts.draw };
                Ok(draw(seed, nodes))
            }
            Source::Scenario(name) => Ok(scenario::read(&scenario::folder(), name)?.plan),
            Source::File(file) => scenario::read_plan(file),
        }
    }

    /// The arguments that name it.
    pub(crate) fn arguments(&self) -> Vec<String> {
        match self {
            Source::Seed { seed, is_beyond, nodes } => {
                let beyond = is_beyond.then(|| "--beyond".to_string());
                let nodes = nodes.map(|nodes| ["--nodes".to_string(), nodes.to_string()]);
                let seed = ["--seed".to_string(), seed.to_string()];
                seed.into_iter().chain(beyond).chain(nodes.into_iter().flatten()).collect()
            }
            Source::Scenario(name) => vec!["--scenario".to_string(), name.clone()],
            Source::File(file) => vec!["--plan".to_string(), file.display().to_string()],
        }
    }

    /// The command that runs it on one engine.
    pub(crate) fn replay(&self, engine: EngineName, planted: Option<&str>) -> String {
        let canary = planted.map(|name| format!(" --canary {name}")).unwrap_or_default();
        let arguments: Vec<String> = self.arguments().iter().map(|argument| quoted(argument)).collect();
        format!("cargo sim {} --engine {engine}{canary}", arguments.join(" "))
    }
}

/// An argument as a shell takes it.
fn quoted(argument: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
    if argument.chars().all(is_plain) { argument.to_string() } else { format!("'{}'", argument.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_replays_a_plan_names_all_that_made_it() {
        let seed = Source::Seed { seed: 42, is_beyond: true, nodes: None };
        assert_eq!(seed.replay(EngineName::Core, None), "cargo sim --seed 42 --beyond --engine core");
        let alone = Source::Seed { seed: 42, is_beyond: false, nodes: Some(1) };
        assert_eq!(alone.replay(EngineName::Core, None), "cargo sim --seed 42 --nodes 1 --engine core");
        let file = Source::File("my plans/it's.json".into());
        assert_eq!(
            file.replay(EngineName::Madsim, Some("ack-before-sync")),
            r"cargo sim --plan 'my plans/it'\''s.json' --engine madsim --canary ack-before-sync"
        );
    }
}
