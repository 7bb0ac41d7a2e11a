//! Claims about each state that a data folder may be found in.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A folder of its own for each test, gone when the test is.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("chronik-data-dir-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("the temporary folder is writable");
        Scratch(path)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).expect("the test's folder is writable");
    }

    fn open(&self) -> Result<DataDir, Unusable> {
        open(&self.0, 1)
    }

    fn check_error(&self, expect: &str) {
        let why = self.open().expect_err("an unusable folder was opened").to_string();
        assert_eq!(why.replace(self.0.to_str().expect("a temporary path in UTF-8"), "DIR"), expect);
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

const CLUSTER: Uuid = Uuid([0xfb; 16]);
const DIRECTORY: Uuid = Uuid([0x01; 16]);

fn open(path: &Path, node: i32) -> Result<DataDir, Unusable> {
    DataDir::open(path, NodeId(node), Some(CLUSTER), DIRECTORY)
}

#[test]
fn a_missing_folder_is_made_and_keeps_its_identity() {
    let scratch = Scratch::new();
    let path = scratch.0.join("some/where/below");
    let first = open(&path, 1).expect("a folder that can be made");
    assert!(first.is_new());
    let identity = first.identity();
    let (cluster_id, node_id, format_version) = (Some(CLUSTER), NodeId(1), FORMAT_VERSION);
    let directory_id = DIRECTORY;
    assert_eq!(identity, Identity { cluster_id, node_id, directory_id, format_version, has_journal: false });
    drop(first);
    let again = DataDir::open(&path, NodeId(1), Some(Uuid([9; 16])), Uuid([9; 16])).expect("our own folder");
    assert!(!again.is_new());
    assert_eq!(again.identity(), identity, "identifiers drawn later count for nothing");
}

#[test]
fn a_folder_in_use_is_refused_by_the_process_that_uses_it() {
    let scratch = Scratch::new();
    let held = scratch.open().expect("an empty folder");
    let pid = std::process::id();
    scratch.check_error(&format!(
        "data folder DIR is in use by process {pid}: stop that one, or give this one its own --data-dir"
    ));
    drop(held);
    scratch.open().expect("a folder that nobody uses any more");
}

#[test]
fn an_interrupted_first_start_is_begun_again() {
    let scratch = Scratch::new();
    scratch.write(LOCK, "1\n");
    scratch.write(IDENTITY_DRAFT, "format-ver");
    fs::create_dir(scratch.0.join(FILESYSTEM_FOLDER)).expect("the test's folder is writable");
    assert!(scratch.open().expect("a folder without an identity yet").is_new());
}

#[test]
fn somebody_elses_folder_is_refused_and_left_as_it_was() {
    let scratch = Scratch::new();
    scratch.write("thesis.txt", "years of work");
    scratch.check_error(
        "folder DIR is not a data folder of ours and not empty (it holds `thesis.txt`): give another --data-dir",
    );
    scratch.write(KAFKA_IDENTITY, "version=1");
    scratch.check_error("folder DIR belongs to Apache Kafka, whose files cannot be opened: give another --data-dir");
    assert!(!scratch.0.join(LOCK).exists());
}

#[test]
fn a_file_in_the_way_is_named() {
    let scratch = Scratch::new();
    scratch.write("file", "");
    for path in ["file", "file/below"] {
        let why = open(&scratch.0.join(path), 1).expect_err("a file was opened as a folder");
        assert!(matches!(why, Unusable::NotAFolder { .. }), "{why}");
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_told_with_the_remedy() {
    let scratch = Scratch::new();
    let path = scratch.0.join("x".repeat(300));
    let why = open(&path, 1).expect_err("no file system has such names").to_string();
    let expect = format!("cannot use the data folder: opening {} failed (", path.display());
    assert!(why.starts_with(&expect) && why.ends_with("or give another --data-dir"), "{why}");
}

#[test]
fn another_nodes_folder_is_refused() {
    let scratch = Scratch::new();
    drop(open(&scratch.0, 7).expect("an empty folder"));
    scratch.check_error("data folder DIR belongs to node 7, not 1: give --node-id 7, or another --data-dir");
}

#[test]
fn a_later_format_is_refused_whatever_else_it_says() {
    let scratch = Scratch::new();
    scratch.write(IDENTITY, "format-version = 2\nname = 'new'");
    scratch.check_error(
        "data folder DIR has format 2, and this version knows formats up to 1: run the version that wrote it, or a \
         later one",
    );
}

#[test]
fn a_damaged_identity_is_refused() {
    let scratch = Scratch::new();
    scratch.write(IDENTITY, "");
    scratch.check_error(
        "DIR/meta.toml is damaged (missing field `format-version`): restore it from a copy; it is needed to know \
         whose data this is",
    );
    scratch.write(IDENTITY, "format-version = 1\ncluster-id = 'x'\ndirectory-id = 'y'\nnode-id = 1");
    scratch.check_error(
        "DIR/meta.toml is damaged (`x` is no identifier): restore it from a copy; it is needed to know whose data \
         this is",
    );
}

#[test]
fn a_node_of_a_cluster_learns_once_which_one_that_is() {
    let scratch = Scratch::new();
    let join = || DataDir::open(&scratch.0, NodeId(1), None, DIRECTORY).expect("our own folder");
    let folder = join();
    assert_eq!(folder.identity().cluster_id, None);
    drop(folder);
    let folder = join();
    assert_eq!(folder.identity().directory_id, DIRECTORY, "the rest is known from the start");
    folder.identity_file().learn_cluster(&CLUSTER.to_string()).expect("it was not known");
    drop(folder);

    let folder = join();
    assert_eq!((folder.identity().cluster_id, folder.identity().has_journal), (Some(CLUSTER), true));
    folder.identity_file().learn_cluster(&CLUSTER.to_string()).expect("it is the same");
    let other = Uuid([9; 16]).to_string();
    let why = folder.identity_file().learn_cluster(&other).expect_err("it is another").to_string();
    assert!(why.contains(&format!("belongs to cluster {CLUSTER}, not {other}: give the --peers")), "{why}");
}

#[test]
fn a_folder_in_which_a_node_has_started_says_so() {
    let scratch = Scratch::new();
    let folder = scratch.open().expect("an empty folder");
    let mut file = folder.identity_file();
    for _ in 0..2 {
        file.journal_is_made().expect("the test's folder is writable");
    }
    let before = Identity { has_journal: true, ..folder.identity() };
    drop(folder);
    assert_eq!(scratch.open().expect("our own folder").identity(), before);
}

#[test]
fn the_folder_of_a_standalone_broker_opens_as_one_of_a_cluster() {
    let scratch = Scratch::new();
    let identity = scratch.open().expect("an empty folder").identity();
    assert_eq!(DataDir::open(&scratch.0, NodeId(1), None, Uuid([9; 16])).expect("our own folder").identity(), identity);
}
