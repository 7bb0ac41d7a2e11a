//! The data folder: whose it is, and that only one process has it open.
//!
//! What the broker keeps inside is not decided here. A folder is ours when it holds `meta.toml`, which is written whole or
//! not at all, before anything else; once more when the journal is made, and for a node of a cluster when it has learned
//! which cluster that is. A folder that holds other people's files is never touched.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use chronik_core::ids::{NodeId, Uuid};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::Deserialize;

/// The number of this layout of the folder. A folder of a higher one was written by a later version.
pub const FORMAT_VERSION: u32 = 1;

/// Says whose folder it is.
const IDENTITY: &str = "meta.toml";
/// The identity while it is being written; left over where that was interrupted.
const IDENTITY_DRAFT: &str = "meta.toml.new";
/// Locked by the process that has the folder open; holds its pid, for people.
const LOCK: &str = "lock";
/// What Apache Kafka writes into each of its log folders.
const KAFKA_IDENTITY: &str = "meta.properties";
/// What a fresh ext4 volume holds.
const FILESYSTEM_FOLDER: &str = "lost+found";

/// What a data folder says about itself, drawn when it was made and the same for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster whose data it holds; none where its broker is to be part of one that it has not met yet.
    pub cluster_id: Option<Uuid>,
    /// The broker whose data it holds.
    pub node_id: NodeId,
    /// This folder, as told from another that the same broker once had: a wiped disk is a new replica.
    pub directory_id: Uuid,
    /// The layout of the folder.
    pub format_version: u32,
    /// Whether a node has started here: one that finds no journal then has lost it, and must not begin anew.
    pub has_journal: bool,
}

/// A data folder that this process alone has open, until this value is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    identity: Identity,
    /// Whether the folder was made by this start.
    is_new: bool,
    /// The kernel holds the lock for this descriptor, and lets go of it however the process ends.
    _lock: File,
}

/// Why a data folder cannot be used. Each is one line that says what to do.
#[derive(Debug)]
pub enum Unusable {
    /// Another process has it open.
    InUse {
        /// The folder.
        path: PathBuf,
        /// The process, where it could be read.
        pid: Option<u32>,
    },
    /// There is something else at the path, or above it.
    NotAFolder {
        /// What is no folder.
        path: PathBuf,
    },
    /// It holds files that we have not written.
    Foreign {
        /// The folder.
        path: PathBuf,
        /// One of those files.
        holds: String,
    },
    /// It is a log folder of Apache Kafka.
    Kafka {
        /// The folder.
        path: PathBuf,
    },
    /// It may not be written.
    Unwritable {
        /// What could not be made or opened.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// It is another broker's.
    OtherNode {
        /// The folder.
        path: PathBuf,
        /// The broker that it belongs to.
        belongs_to: NodeId,
        /// The broker that was to use it.
        wanted: NodeId,
    },
    /// It is of another cluster.
    OtherCluster {
        /// The folder.
        path: PathBuf,
        /// The cluster that it belongs to.
        belongs_to: Uuid,
        /// The cluster that its broker was to be part of.
        wanted: String,
    },
    /// It was written by a later version.
    Newer {
        /// The folder.
        path: PathBuf,
        /// Its layout's number.
        format_version: u32,
    },
    /// Its identity cannot be read.
    Damaged {
        /// The identity's file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system failed at something that ought to work.
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::InUse { path, pid } => {
                write!(f, "data folder {} is in use by ", path.display())?;
                match pid {
                    Some(pid) => write!(f, "process {pid}")?,
                    None => f.write_str("another process")?,
                }
                f.write_str(": stop that one, or give this one its own --data-dir")
            }
            Unusable::NotAFolder { path } => {
                write!(f, "{} is not a folder: give another --data-dir", path.display())
            }
            Unusable::Foreign { path, holds } => write!(
                f,
                "folder {} is not a data folder of ours and not empty (it holds `{holds}`): give another --data-dir",
                path.display()
            ),
            Unusable::Kafka { path } => write!(
                f,
                "folder {} belongs to Apache Kafka, whose files cannot be opened: give another --data-dir",
                path.display()
            ),
            Unusable::Unwritable { path, why } => write!(
                f,
                "cannot write {} ({why}): let the user that runs the broker own it, or give another --data-dir",
                path.display()
            ),
            Unusable::OtherNode { path, belongs_to, wanted } => write!(
                f,
                "data folder {} belongs to node {belongs_to}, not {wanted}: give --node-id {belongs_to}, or another \
                 --data-dir",
                path.display()
            ),
            Unusable::OtherCluster { path, belongs_to, wanted } => write!(
                f,
                "data folder {} belongs to cluster {belongs_to}, not {wanted}: give the --peers of its own cluster, or \
                 another --data-dir",
                path.display()
            ),
            Unusable::Newer { path, format_version } => write!(
                f,
                "data folder {} has format {format_version}, and this version knows formats up to {FORMAT_VERSION}: \
                 run the version that wrote it, or a later one",
                path.display()
            ),
            Unusable::Damaged { path, why } => write!(
                f,
                "{} is damaged ({why}): restore it from a copy; it is needed to know whose data this is",
                path.display()
            ),
            Unusable::Io { doing, path, why } => write!(
                f,
                "cannot use the data folder: {doing} {} failed ({why}): see that its disk is mounted, sound and has room, \
                 or give another --data-dir",
                path.display()
            ),
        }
    }
}

impl std::error::Error for Unusable {}

impl DataDir {
    /// Opens the folder at `path` for `node`, and makes it where there is none: then it is given `directory_id`, which
    /// the caller has drawn at random, and `cluster_id` likewise, unless the broker is to be part of a cluster that
    /// others may have made.
    ///
    /// # Errors
    /// See [`Unusable`]. What is in the folder already is left as it was.
    pub fn open(path: &Path, node: NodeId, cluster_id: Option<Uuid>, directory_id: Uuid) -> Result<DataDir, Unusable> {
        create_folder(path)?;
        // Looked at before the lock, lest we leave a file in somebody else's folder.
        inspect(path)?;
        let lock = lock(path)?;
        let (identity, is_new) = match read_identity(path)? {
            Some(identity) if identity.cluster_id.is_none() && cluster_id.is_some() => {
                // It never met the cluster that it was to be part of.
                let identity = Identity { cluster_id, ..identity };
                write_identity(path, &identity)?;
                (identity, false)
            }
            Some(identity) => (identity, false),
            None => {
                let format_version = FORMAT_VERSION;
                let identity = Identity { cluster_id, node_id: node, directory_id, format_version, has_journal: false };
                write_identity(path, &identity)?;
                (identity, true)
            }
        };
        if identity.node_id != node {
            return Err(Unusable::OtherNode { path: path.to_owned(), belongs_to: identity.node_id, wanted: node });
        }
        Ok(DataDir { path: path.to_owned(), identity, is_new, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether it was made by this start.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The file that says whose it is, for what is learned later. The folder stays open for as long as
    /// this value lives, not that one.
    pub fn identity_file(&self) -> IdentityFile {
        IdentityFile { folder: self.path.clone(), identity: self.identity }
    }
}

/// What an open data folder says about itself, to be completed.
#[derive(Debug)]
pub struct IdentityFile {
    folder: PathBuf,
    identity: Identity,
}

impl IdentityFile {
    /// Whether a node has started here before.
    pub fn has_journal(&self) -> bool {
        self.identity.has_journal
    }

    /// Writes down that the folder has a journal from now on, durably.
    ///
    /// # Errors
    /// Where that cannot be written.
    pub fn journal_is_made(&mut self) -> Result<(), Unusable> {
        if !self.identity.has_journal {
            let identity = Identity { has_journal: true, ..self.identity };
            write_identity(&self.folder, &identity)?;
            self.identity = identity;
        }
        Ok(())
    }

    /// Writes down which cluster it is that the folder belongs to, durably, where that was not known.
    ///
    /// # Errors
    /// Where that cannot be written, or was known to be another.
    pub fn learn_cluster(&mut self, cluster_id: &str) -> Result<(), Unusable> {
        let path = || self.folder.clone();
        match self.identity.cluster_id {
            Some(known) if known.to_string() == cluster_id => Ok(()),
            Some(belongs_to) => Err(Unusable::OtherCluster { path: path(), belongs_to, wanted: cluster_id.to_owned() }),
            None => {
                let why = |why| format!("the cluster's id `{cluster_id}` is {why}");
                let parsed = cluster_id.parse().map_err(|error| Unusable::Damaged { path: path(), why: why(error) })?;
                // Who learns it has started here.
                let identity = Identity { cluster_id: Some(parsed), has_journal: true, ..self.identity };
                write_identity(&self.folder, &identity)?;
                self.identity = identity;
                Ok(())
            }
        }
    }
}

/// Makes `path` and the folders above it where they are missing, and makes each durable in the one above.
fn create_folder(path: &Path) -> Result<(), Unusable> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => return Err(Unusable::NotAFolder { path: path.to_owned() }),
        Err(why) if why.kind() == io::ErrorKind::NotFound => {}
        Err(why) => return Err(refused(path, "opening", why)),
    }
    let above = match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    create_folder(above)?;
    // Records are their producers' business: nobody else on the machine gets to read them.
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        // Made by another process in this very moment.
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
        Err(why) => return Err(refused(path, "creating", why)),
    }
    sync_folder(above)
}

/// Refuses a folder that holds anything, and not our identity.
fn inspect(path: &Path) -> Result<(), Unusable> {
    let entries = fs::read_dir(path).map_err(|why| refused(path, "listing", why))?;
    let mut foreign = None;
    for entry in entries {
        let name = entry.map_err(|why| refused(path, "listing", why))?.file_name();
        match name.to_str() {
            Some(IDENTITY) => return Ok(()),
            Some(KAFKA_IDENTITY) => return Err(Unusable::Kafka { path: path.to_owned() }),
            Some(IDENTITY_DRAFT | LOCK | FILESYSTEM_FOLDER) => {}
            _ => foreign = Some(name.to_string_lossy().into_owned()),
        }
    }
    match foreign {
        Some(holds) => Err(Unusable::Foreign { path: path.to_owned(), holds }),
        None => Ok(()),
    }
}

fn lock(path: &Path) -> Result<File, Unusable> {
    let path_of_lock = path.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path_of_lock)
        .map_err(|why| refused(&path_of_lock, "opening", why))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            let pid = file.read_to_string(&mut holder).ok().and_then(|_| holder.trim().parse().ok());
            return Err(Unusable::InUse { path: path.to_owned(), pid });
        }
        Err(why) => return Err(Unusable::Io { doing: "locking", path: path_of_lock, why: why.into() }),
    }
    // For people only, so not synced: the lock itself is the kernel's.
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|why| refused(&path_of_lock, "writing", why))?;
    Ok(file)
}

/// The identity's file. Unknown keys are left for later versions that do not change the format.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Written {
    format_version: u32,
    cluster_id: Option<String>,
    directory_id: String,
    node_id: i32,
    #[serde(default)]
    has_journal: bool,
}

/// Read before the rest, which a later format may spell otherwise.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct WrittenFormat {
    format_version: u32,
}

fn read_identity(path: &Path) -> Result<Option<Identity>, Unusable> {
    let file = path.join(IDENTITY);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(why) if why.kind() == io::ErrorKind::InvalidData => {
            return Err(Unusable::Damaged { path: file, why: "not text".to_owned() });
        }
        Err(why) => return Err(refused(&file, "reading", why)),
    };
    let damaged = |why: String| Unusable::Damaged { path: file.clone(), why };
    let malformed = |why: toml::de::Error| damaged(why.message().lines().collect::<Vec<_>>().join(" "));
    let WrittenFormat { format_version } = toml::from_str(&text).map_err(malformed)?;
    if format_version > FORMAT_VERSION {
        return Err(Unusable::Newer { path: path.to_owned(), format_version });
    }
    let Written { format_version, cluster_id, directory_id, node_id, has_journal } =
        toml::from_str(&text).map_err(malformed)?;
    let uuid = |text: &str| text.parse::<Uuid>().map_err(|why| damaged(format!("`{text}` is {why}")));
    Ok(Some(Identity {
        cluster_id: cluster_id.as_deref().map(uuid).transpose()?,
        node_id: NodeId(node_id),
        directory_id: uuid(&directory_id)?,
        format_version,
        has_journal,
    }))
}

/// Under a draft's name first: a crash leaves the whole identity or none.
fn write_identity(path: &Path, identity: &Identity) -> Result<(), Unusable> {
    let Identity { cluster_id, node_id, directory_id, format_version, has_journal } = identity;
    let cluster_id = cluster_id.map_or(String::new(), |id| format!("cluster-id = \"{id}\"\n"));
    let has_journal = if *has_journal { "has-journal = true\n" } else { "" };
    let text = format!(
        "# Whose data this is; not to be edited.\n\
         format-version = {format_version}\n\
         {cluster_id}\
         directory-id = \"{directory_id}\"\n\
         node-id = {node_id}\n\
         {has_journal}"
    );
    let draft = path.join(IDENTITY_DRAFT);
    File::create(&draft)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(|why| refused(&draft, "writing", why))?;
    let file = path.join(IDENTITY);
    fs::rename(&draft, &file).map_err(|why| refused(&file, "writing", why))?;
    sync_folder(path)
}

fn sync_folder(path: &Path) -> Result<(), Unusable> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|why| refused(path, "syncing", why))
}

/// Tells apart what the operator can mend.
fn refused(path: &Path, doing: &'static str, why: io::Error) -> Unusable {
    let path = path.to_owned();
    match why.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Unusable::Unwritable { path, why },
        io::ErrorKind::NotADirectory => Unusable::NotAFolder { path },
        _ => Unusable::Io { doing, path, why },
    }
}

#[cfg(all(test, not(madsim)))]
mod tests;
