//! The copy of the sources in which all canaries are planted, and its build.
//!
//! The copy lies under `target/canary/tree`. Only files whose content changed are written again, so that cargo builds
//! again no more than it must; what the sources lost, the copy loses.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::splice::{Sources, splice};
use super::{VARIABLE, all};

/// Where copy and build go, from the workspace's root.
const FOLDER: &str = "target/canary";

/// What of a workspace's root is copied besides its members. Settings of cargo are not: the copy lies below them.
const ROOT_FILES: [&str; 3] = ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml"];

/// Folders that no build needs.
const NOT_COPIED: [&str; 3] = ["target", "corpus", "artifacts"];

/// What of a manifest is of interest here.
#[derive(serde::Deserialize)]
struct Manifest {
    workspace: Members,
}

#[derive(serde::Deserialize)]
struct Members {
    members: Vec<String>,
}

/// Everything that a build of the simulator needs: all members, since cargo wants to see each of them.
///
/// # Errors
/// A sentence that names the file that cannot be read.
pub fn sources(workspace: &Path) -> Result<Sources, String> {
    let mut sources = Sources::new();
    for file in ROOT_FILES {
        let path = workspace.join(file);
        if path.is_file() {
            sources.insert(file.to_owned(), read(&path)?);
        }
    }
    let manifest = sources.get("Cargo.toml").ok_or_else(|| format!("no Cargo.toml in {}", workspace.display()))?;
    let manifest: Manifest =
        toml::from_str(&String::from_utf8_lossy(manifest)).map_err(|error| format!("Cargo.toml: {error}"))?;
    for member in manifest.workspace.members {
        gather(workspace, &member, &mut sources)?;
    }
    Ok(sources)
}

/// Reads all files below a folder, which is named from the workspace's root.
fn gather(workspace: &Path, folder: &str, sources: &mut Sources) -> Result<(), String> {
    let path = workspace.join(folder);
    for entry in fs::read_dir(&path).map_err(|error| told(&path, &error))? {
        let entry = entry.map_err(|error| told(&path, &error))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let inside = format!("{folder}/{name}");
        match entry.path().is_dir() {
            true if name.starts_with('.') || NOT_COPIED.contains(&name.as_str()) => {}
            true => gather(workspace, &inside, sources)?,
            false => _ = sources.insert(inside, read(&entry.path())?),
        }
    }
    Ok(())
}

/// Makes the folder hold these files and no others.
///
/// # Errors
/// A sentence that names the file that cannot be written.
fn write(folder: &Path, sources: &Sources) -> Result<(), String> {
    let mut stale = Vec::new();
    if folder.is_dir() {
        walk(folder, &mut stale)?;
    }
    stale.retain(|path| {
        let inside = path.strip_prefix(folder).ok().and_then(Path::to_str);
        inside.is_none_or(|inside| !sources.contains_key(inside))
    });
    for path in stale {
        fs::remove_file(&path).map_err(|error| told(&path, &error))?;
    }
    for (file, bytes) in sources {
        let path = folder.join(file);
        if fs::read(&path).is_ok_and(|there| there == *bytes) {
            continue;
        }
        let parent = path.parent().expect("it lies in the folder");
        fs::create_dir_all(parent).map_err(|error| told(parent, &error))?;
        fs::write(&path, bytes).map_err(|error| told(&path, &error))?;
    }
    Ok(())
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    for entry in fs::read_dir(folder).map_err(|error| told(folder, &error))? {
        let path = entry.map_err(|error| told(folder, &error))?.path();
        if path.is_dir() { walk(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| told(path, &error))
}

fn told(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// Plants all canaries in a copy of the sources, brings the copy up to date, and returns where it is.
///
/// # Errors
/// A sentence that says which file or canary is at fault.
pub fn plant(workspace: &Path) -> Result<PathBuf, String> {
    let canaries = all(workspace)?;
    let mut sources = sources(workspace)?;
    splice(&mut sources, &canaries)?;
    let tree = workspace.join(FOLDER).join("tree");
    write(&tree, &sources)?;
    Ok(tree)
}

/// Builds the simulator with all canaries planted and none of them singing, for the engines that this program has.
/// What cargo says goes to standard error.
///
/// # Errors
/// Where the copy cannot be made, or the compiler refuses it.
pub fn build(workspace: &Path) -> Result<PathBuf, String> {
    let tree = plant(workspace)?;
    let target = workspace.join(FOLDER).join(if cfg!(madsim) { "madsim" } else { "plain" });
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&tree).args(["build", "--quiet", "--profile", "sim", "--package", "chronik-sim", "--bin", "sim"]);
    if cfg!(madsim) {
        cargo.args(["--config", "target.'cfg(all())'.rustflags=['--cfg','madsim']"]);
    }
    // Both by name: whoever runs this may have been told of folders of his own.
    cargo.env("CARGO_TARGET_DIR", &target).env("CARGO_BUILD_BUILD_DIR", &target).env_remove(VARIABLE);
    let status = cargo.status().map_err(|error| format!("cargo cannot be run: {error}"))?;
    match status.success() {
        true => Ok(target.join("sim/sim")),
        false => Err(format!("the sources with canaries in {} do not build", tree.display())),
    }
}

/// Becomes the simulator in which this canary sings, with these arguments. Does not return but where it fails.
///
/// # Errors
/// Where there is no such canary, or no build of it.
pub fn exec(workspace: &Path, name: &str, arguments: &[OsString]) -> Result<Infallible, String> {
    let canary = super::named(workspace, name)?;
    let binary = build(workspace)?;
    let error = Command::new(&binary).args(arguments).env(VARIABLE, &canary.name).exec();
    Err(told(&binary, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("chronik-canary-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("there is room for tests");
        folder
    }

    fn files(files: &[(&str, &str)]) -> Sources {
        files.iter().map(|(path, text)| ((*path).to_owned(), (*text).into())).collect()
    }

    #[test]
    fn the_copy_follows_the_sources_and_leaves_alone_what_did_not_change() {
        let folder = empty("copy");
        write(&folder, &files(&[("a/one.rs", "1"), ("a/two.rs", "2"), ("three", "3")])).expect("written");
        let written =
            |name: &str| fs::metadata(folder.join(name)).and_then(|file| file.modified()).expect("it is there");
        let before = written("a/one.rs");
        write(&folder, &files(&[("a/one.rs", "1"), ("three", "drei")])).expect("written");
        assert_eq!(written("a/one.rs"), before);
        assert!(!folder.join("a/two.rs").exists());
        assert_eq!(fs::read(folder.join("three")).expect("it is there"), b"drei");
        fs::remove_dir_all(&folder).expect("it was made here");
    }

    #[test]
    fn the_sources_are_those_of_every_member_without_what_was_built() {
        let workspace = empty("sources");
        let paths = ["one/Cargo.toml", "one/src/lib.rs", "one/target/junk", "one/.hidden/junk", "two/inner/src/lib.rs"];
        let manifest = "[workspace]\nmembers = [\"one\", \"two/inner\"]\n";
        let there = [("Cargo.toml", manifest), ("README.md", "x")].into_iter().chain(paths.map(|path| (path, "x")));
        write(&workspace, &files(&there.collect::<Vec<_>>())).expect("written");
        let found = sources(&workspace).expect("it can be read");
        let expect = ["Cargo.toml", "one/Cargo.toml", "one/src/lib.rs", "two/inner/src/lib.rs"];
        assert!(found.keys().eq(expect), "{found:?}");
        fs::remove_dir_all(&workspace).expect("it was made here");
    }
}
