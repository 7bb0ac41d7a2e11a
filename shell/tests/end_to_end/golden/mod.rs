//! Data folders of earlier times, each of which every later version must open.
//!
//! `shell/tests/golden/data-folder-N.tar.gz` is a folder as a broker left it when it was killed, and
//! `data-folder-N.toml` says what is in it, in words that need no code of its time. N counts the folders, and is not the
//! `format-version` in their `meta.toml`: that one rises when an older program could not open a folder any more. When what
//! is written changes, within a format or by a new one, add a folder and never change an old one:
//!
//! ```text
//! CHRONIK_GOLDEN_FOLDER=N cargo test --package chronik-server --test end_to_end golden::
//! ```
//!
//! writes folder N anew from [`story`], and fails where there is one. Without the variable nearly the same folder is
//! written, opened and forgotten, so that the story is never behind the program.

mod check;
mod contents;
mod grown;
mod story;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use contents::Contents;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use story::Length;

use crate::support::broker::{Broker, Folder};

/// A data folder and what is in it, as two files.
struct Golden {
    archive: PathBuf,
    contents: PathBuf,
}

impl Golden {
    fn at(folder: &Path, name: &str) -> Self {
        Self { archive: folder.join(format!("{name}.tar.gz")), contents: folder.join(format!("{name}.toml")) }
    }

    /// Keeps the data folder at `data`, which no process has open.
    fn pack(&self, data: &Path, contents: &Contents) {
        let archive = File::create_new(&self.archive).expect("a golden folder is never written over");
        let mut archive = tar::Builder::new(GzEncoder::new(archive, Compression::best()));
        archive.mode(tar::HeaderMode::Deterministic);
        archive.append_dir_all(".", data).expect("the folder can be read");
        archive.into_inner().and_then(GzEncoder::finish).expect("the archive can be written");
        fs::write(&self.contents, contents.to_text()).expect("the contents can be written");
    }

    fn unpack(&self, data: &Path) {
        let archive = File::open(&self.archive).expect("the archive is there");
        tar::Archive::new(GzDecoder::new(archive)).unpack(data).expect("the archive is whole");
    }

    fn contents(&self) -> Contents {
        Contents::from_text(&fs::read_to_string(&self.contents).expect("the contents are there"))
    }

    /// The folder opens, holds all that it should, and can be used on.
    fn check(&self) {
        let contents = self.contents();
        let prepare = |data: &Path| {
            self.unpack(data);
            // A segment may have gaps after a crash, until the start that the journal's records fill them from.
            check::dumps(data, &["journal"]);
        };
        let Some(broker) = Broker::start_on(prepare) else { return };
        check::opens(broker, &contents);
    }
}

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The folder of every format.
fn every() -> Vec<Golden> {
    let mut all = Vec::new();
    for entry in fs::read_dir(committed()).expect("the golden folders are beside this test") {
        let name = entry.expect("a folder can be listed").file_name().into_string().expect("UTF-8");
        all.extend(name.strip_suffix(".tar.gz").map(|name| Golden::at(&committed(), name)));
    }
    assert!(!all.is_empty(), "there is at least the folder of the first format");
    all
}

#[test]
fn the_folder_of_every_format_opens() {
    for golden in every() {
        println!("{}", golden.archive.display());
        golden.check();
    }
}

#[test]
fn the_folder_of_every_format_is_a_cluster_of_one_that_grows_to_three() {
    for golden in every() {
        println!("{}", golden.archive.display());
        grown::check(&golden);
    }
}

#[test]
fn a_folder_written_today_opens_as_the_golden_ones_do() {
    let temporary = Folder::new();
    let (golden, length) = match std::env::var("CHRONIK_GOLDEN_FOLDER") {
        Ok(number) => (Golden::at(&committed(), &format!("data-folder-{number}")), Length::Full),
        Err(_) => (Golden::at(temporary.path(), "today"), Length::Short),
    };
    let Some((broker, contents)) = story::tell(length) else { return };
    golden.pack(&broker.data_dir(), &contents);
    golden.check();
}
