//! Planted bugs: how good the simulator is at finding them.
//!
//! The broker's sources hold no bug and no hook for one. A canary is a file of edits to them, `sim/canaries/NAME.toml`:
//! each replaces one piece of text by another that behaves as before unless `canary::is("NAME")`. All edits of all
//! canaries are made at once, in a copy of the sources ([`tree`]), which is built once; which canary sings is chosen
//! when that build is run, by [`VARIABLE`]. So thirty hunts cost one build, and a canary whose text has moved on is told
//! by a test of this module and not by a hunt that finds nothing.
//!
//! ```text
//!   sources ──► copy + edits of all canaries ──► one build ──► NAME=.. sim --seed ..     one run
//!                                                         └──► score: every canary, many seeds
//! ```
//!
//! What this module does not do: judge. A canary is found when the ordinary command finds something.

pub mod score;
pub mod splice;
pub mod tree;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use tree::{build, exec};

/// The environment variable that names the canary which the spliced build is to plant.
pub const VARIABLE: &str = "CHRONIK_CANARY";

/// A planted bug.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// The name of its file, without the ending.
    #[serde(skip)]
    pub name: String,
    /// What breaks, and when it shows.
    pub about: String,
    /// The real bugs that it stands for, by their public names.
    #[serde(default)]
    pub after: Vec<String>,
    /// The claims of which one is expected to notice.
    pub claims: Vec<String>,
    /// Which engine runs the code that it is planted in.
    #[serde(default)]
    pub engine: Engine,
    /// Of how many brokers plans are that can show it.
    #[serde(default = "one")]
    pub nodes: u32,
    /// What it changes.
    #[serde(rename = "edit")]
    pub edits: Vec<Edit>,
}

fn one() -> u32 {
    1
}

/// Which engine a canary is planted for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The broker's state machine: engine `core` finds it, and `madsim` may.
    #[default]
    Core,
    /// The production shell, which only engine `madsim` runs.
    Madsim,
}

impl Engine {
    /// The name that the command line has for it.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Core => "core",
            Engine::Madsim => "madsim",
        }
    }
}

/// One change to the sources.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// The file, from the workspace's root, or a folder in whose Rust files the text is looked for.
    pub file: String,
    /// Text that occurs there exactly once.
    pub find: String,
    /// What takes its place: the same, unless this canary is planted.
    pub replace: String,
}

/// The root of the workspace that this program was built from.
///
/// # Errors
/// Where it is not there any more: canaries are made from the sources.
pub fn workspace() -> Result<PathBuf, String> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = package.parent().filter(|root| root.join("Cargo.toml").is_file());
    root.map(Path::to_path_buf).ok_or_else(|| {
        format!("canaries are planted in the sources, and these are not at {} any more", package.display())
    })
}

/// All canaries of a workspace, by name.
///
/// # Errors
/// A sentence that names the file that cannot be read.
pub fn all(workspace: &Path) -> Result<Vec<Canary>, String> {
    let folder = workspace.join("sim/canaries");
    let unread = |what: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", what.display());
    let mut canaries = Vec::new();
    for entry in fs::read_dir(&folder).map_err(|error| unread(&folder, &error))? {
        let path = entry.map_err(|error| unread(&folder, &error))?.path();
        if path.extension() != Some(OsStr::new("toml")) {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(|error| unread(&path, &error))?;
        let canary: Canary = toml::from_str(&text).map_err(|error| unread(&path, &error))?;
        let name = path.file_stem().and_then(OsStr::to_str).ok_or_else(|| unread(&path, &"a name that is no text"))?;
        canaries.push(Canary { name: name.to_owned(), ..canary });
    }
    canaries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(canaries)
}

/// The canary of this name.
///
/// # Errors
/// Where there is none: the names that there are.
pub fn named(workspace: &Path, name: &str) -> Result<Canary, String> {
    let canaries = all(workspace)?;
    let names: Vec<String> = canaries.iter().map(|canary| canary.name.clone()).collect();
    let found = canaries.into_iter().find(|canary| canary.name == name);
    found.ok_or_else(|| format!("there is no canary {name}; there are {}", names.join(", ")))
}

/// The canary that this process has planted, for whoever prints the command that replays a run. Always `None` in an
/// ordinary build.
pub fn planted() -> Option<String> {
    let is_spliced = workspace().is_ok_and(|root| root.join(splice::MODULE).is_file());
    std::env::var(VARIABLE).ok().filter(|name| is_spliced && !name.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn here() -> PathBuf {
        workspace().expect("tests run where they were built")
    }

    #[test]
    fn every_canary_says_what_it_breaks_and_who_should_notice() {
        for Canary { name, about, claims, edits, .. } in all(&here()).expect("they can be read") {
            assert!(about.len() > 40 && about.ends_with('.'), "{name}: what it is about is a sentence");
            assert!(!claims.is_empty(), "{name} names the claims that should notice");
            assert!(!edits.is_empty(), "{name} changes something");
            let is_word = |c: char| c.is_ascii_lowercase() || c == '-';
            assert!(name.chars().all(is_word), "{name} is words joined by -");
        }
    }

    #[test]
    fn every_claim_that_should_notice_is_one_that_is_made() {
        // The last is made by whoever catches a panic of the broker's code.
        let mut known: Vec<&str> = crate::claims::claims().iter().map(|claim| claim.name).collect();
        known.push("no-panic");
        for Canary { name, claims, .. } in all(&here()).expect("they can be read") {
            for claim in claims {
                assert!(known.contains(&claim.as_str()), "{name} expects {claim}, which nobody claims");
            }
        }
    }

    #[test]
    fn every_canary_asks_whether_it_is_the_one_and_no_other() {
        for canary in all(&here()).expect("they can be read") {
            let texts = canary.edits.iter().map(|edit| edit.replace.as_str());
            let asked: Vec<&str> = texts.flat_map(|text| text.split("canary::is(\"").skip(1)).collect();
            assert!(!asked.is_empty(), "{} asks nobody", canary.name);
            for asks in asked {
                assert!(asks.starts_with(&format!("{}\")", canary.name)), "{} asks for another", canary.name);
            }
        }
    }

    #[test]
    fn there_are_enough_canaries_for_both_engines() {
        let mut counts: BTreeMap<Engine, usize> = BTreeMap::new();
        for canary in all(&here()).expect("they can be read") {
            *counts.entry(canary.engine).or_default() += 1;
        }
        assert!(counts[&Engine::Core] >= 30, "{counts:?}");
        assert!(counts[&Engine::Madsim] >= 3, "{counts:?}");
    }

    #[test]
    fn all_edits_apply_to_the_sources_of_today() {
        let mut sources = tree::sources(&here()).expect("the sources can be read");
        let canaries = all(&here()).expect("they can be read");
        splice::splice(&mut sources, &canaries).expect("every text is there once, and no two edits meet");
        for Canary { name, .. } in &canaries {
            let asks = format!("canary::is(\"{name}\")");
            let code = sources.iter().filter(|(path, _)| path.ends_with(".rs") && !path.starts_with("sim/"));
            let asked = code.filter(|(_, text)| String::from_utf8_lossy(text).contains(&asks)).count();
            assert!(asked > 0, "{name} is in the copy");
        }
        assert!(sources.contains_key(splice::MODULE));
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_there_are() {
        let error = named(&here(), "dodo").expect_err("it is extinct");
        assert!(error.contains("ack-before-sync"), "{error}");
    }
}
