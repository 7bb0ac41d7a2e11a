//! Named plans: what was once found, or is worth running for ever, each in a file of its own.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::trial::EngineName;

/// A plan with its intent. Every claim must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in one line.
    pub about: String,
    /// The claim that did not hold when it was found; `None` where it was written by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_by: Option<String>,
    /// On which engines it is to run.
    pub engines: Vec<EngineName>,
    /// What happens.
    pub plan: Plan,
}

/// Where the scenarios are kept.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// The names of all scenarios, in order.
///
/// # Errors
/// Where the folder cannot be read.
pub fn names(folder: &Path) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let path = entry.map_err(|error| format!("{}: {error}", folder.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            names.extend(path.file_stem().and_then(|name| name.to_str()).map(str::to_string));
        }
    }
    names.sort();
    Ok(names)
}

/// Reads a scenario.
///
/// # Errors
/// A sentence: there is none of that name, or the file is no scenario.
pub fn read(folder: &Path, name: &str) -> Result<Scenario, String> {
    let path = folder.join(format!("{name}.json"));
    let text =
        fs::read_to_string(&path).map_err(|_| format!("there is no scenario `{name}`; --list names them all"))?;
    let scenario: Scenario =
        serde_json::from_str(&text).map_err(|error| format!("{} is no scenario: {error}", path.display()))?;
    // The plan's own reader knows which format it can read.
    Plan::from_json(&scenario.plan.to_json()).map_err(|why| format!("{}: {why}", path.display()))?;
    Ok(scenario)
}

/// Writes a scenario and returns its file.
///
/// # Errors
/// Where the file cannot be written.
pub fn write(folder: &Path, name: &str, scenario: &Scenario) -> Result<PathBuf, String> {
    let path = folder.join(format!("{name}.json"));
    let mut text = serde_json::to_string_pretty(scenario).expect("a scenario has no keys but strings");
    text.push('\n');
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&path, text))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

/// A plan out of a file that holds either a plan or a scenario.
///
/// # Errors
/// A sentence that says why not.
pub fn read_plan(path: &Path) -> Result<Plan, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    match serde_json::from_str::<Scenario>(&text) {
        Ok(scenario) => Ok(scenario.plan),
        Err(_) => Plan::from_json(&text).map_err(|why| format!("{}: {why}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn every_committed_scenario_can_be_read_and_says_its_intent() {
        for name in names(&folder()).expect("the folder is part of the sources") {
            let scenario = read(&folder(), &name).expect("a scenario");
            assert!(!scenario.about.is_empty() && !scenario.about.contains('\n'), "{name}: {:?}", scenario.about);
            assert!(!scenario.engines.is_empty(), "{name} runs on an engine");
        }
    }

    #[test]
    fn what_is_written_is_read_back_as_a_scenario_and_as_a_plan() {
        let folder = std::env::temp_dir().join(format!("chronik-sim-scenario-{}", std::process::id()));
        let scenario = Scenario {
            about: "A kill between two syncs.".to_string(),
            found_by: Some("acked-is-there".to_string()),
            engines: vec![EngineName::Core],
            plan: testing::plan(),
        };
        let path = write(&folder, "kill", &scenario).expect("a writable folder");
        assert_eq!(names(&folder), Ok(vec!["kill".to_string()]));
        assert_eq!(read(&folder, "kill"), Ok(scenario.clone()));
        assert_eq!(read_plan(&path), Ok(scenario.plan));
        assert!(read(&folder, "other").is_err_and(|why| why.contains("no scenario `other`")));
        fs::remove_dir_all(folder).expect("the folder is ours");
    }
}
