//! The brokers of a comparison as child processes: how each is started, when it is up, and that it goes away.

use crate::failure::Failure;
use crate::usage::ProcessUsage;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a broker may take to listen: the null broker first writes a gigabyte, a Java one loads its classes.
const UP_WITHIN: Duration = Duration::from_secs(120);
/// How often to look whether it listens: well below the times that are to be told apart.
const LOOK_EVERY: Duration = Duration::from_micros(500);
/// A broker is quiet when it uses less than this part of a processor, for as long as this.
const QUIET_PROCESSORS: f64 = 0.05;
const QUIET_FOR: Duration = Duration::from_millis(300);
/// How long to wait for that: a broker that is never quiet is measured as it is.
const QUIET_WITHIN: Duration = Duration::from_secs(15);
/// Where the folders of brokers that have had their turn wait for the end of the comparison, below the work folder.
const EMPTIED: &str = "emptied";
/// What a broker says, in its folder.
const LOG: &str = "output.log";
/// The arguments of chronik-server where none are given.
const CHRONIK_ARGS: &str =
    "standalone --kafka-port {port} --bind 127.0.0.1 --data-dir {dir} --durability sync --log-level warn";

/// The magic number of tmpfs in statfs(2).
const TMPFS: u64 = 0x0102_1994;

/// How long a broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// Through the whole comparison: the null broker, which keeps nothing that could slow it down.
    Comparison,
    /// For all turns at one row, after one that is not counted: for brokers that get faster as they run, such as
    /// those on a Java machine.
    Row,
    /// For one turn, on an empty folder, so that no turn pays for the last one's data.
    Turn,
}

/// What a broker is in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The null broker, which is what the others are compared with.
    Floor,
    /// The null broker that reads what it sends: the same for rows that read from files.
    Reader,
    /// What this is about.
    Chronik,
    Other,
}

/// A broker that can be started.
pub(super) struct Contender {
    pub(super) name: String,
    /// The program and its arguments, with `{port}` and `{dir}` to be filled in.
    command: Vec<String>,
    pub(super) role: Role,
    pub(super) binary_bytes: Option<u64>,
}

impl Contender {
    /// The null broker, with as many partitions as the loads use.
    pub(super) fn floor(binary: &Path, mode: &str, partitions: i32) -> Result<Contender, Failure> {
        let binary = absolute(binary, "--floor names the null broker; build it with `just floor`")?;
        let command = vec![binary, "{port}".to_owned(), mode.to_owned(), partitions.to_string()];
        Ok(Contender { name: format!("null broker, {mode}"), command, role: Role::Floor, binary_bytes: None })
    }

    /// The null broker with a file of so many MiB, in batches of 1,000 records of 1 KiB.
    pub(super) fn reader(binary: &Path, partitions: i32, mib: u64) -> Result<Contender, Failure> {
        let mut reader = Contender::floor(binary, "read", partitions)?;
        reader.command.extend(["1024".to_owned(), "1000".to_owned(), mib.to_string()]);
        Ok(Contender { role: Role::Reader, ..reader })
    }

    pub(super) fn chronik(binary: &Path, args: Option<&str>) -> Result<Contender, Failure> {
        let binary_bytes = fs::metadata(binary).map(|metadata| metadata.len()).ok();
        let mut command = vec![absolute(binary, "--server-bin names the broker; build it with --release")?];
        command.extend(args.unwrap_or(CHRONIK_ARGS).split_whitespace().map(str::to_owned));
        Ok(Contender { name: "chronik".to_owned(), command, role: Role::Chronik, binary_bytes })
    }

    pub(super) fn other(name: &str, command: &str) -> Result<Contender, Failure> {
        let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        if command.is_empty() {
            return Err(Failure::Usage(format!("--beside {name} has no command")));
        }
        Ok(Contender { name: name.to_owned(), command, role: Role::Other, binary_bytes: None })
    }

    pub(super) fn lifetime(&self) -> Lifetime {
        match self.role {
            Role::Floor | Role::Reader => Lifetime::Comparison,
            Role::Chronik => Lifetime::Turn,
            Role::Other => Lifetime::Row,
        }
    }

    /// Starts it on a free port and an empty folder below `work_dir`; returns as soon as it accepts connections.
    pub(super) fn start(&self, work_dir: &Path) -> Result<Running, Failure> {
        let port = free_port().map_err(self.local("find a port"))?;
        let dir = work_dir.join(port.to_string());
        fs::create_dir_all(&dir).map_err(self.local("make a folder"))?;
        let mut running = Running { child: self.spawn(port, &dir)?, port, dir };
        self.wait_until_up(&mut running)?;
        Ok(running)
    }

    /// Starts it again where it was killed, with the data that it left.
    pub(super) fn start_again(&self, killed: &mut Running) -> Result<(), Failure> {
        killed.child = self.spawn(killed.port, &killed.dir)?;
        self.wait_until_up(killed)
    }

    fn spawn(&self, port: u16, dir: &Path) -> Result<Child, Failure> {
        let log = File::create(dir.join(LOG)).map_err(self.local("make a log"))?;
        let fill = |argument: &String| {
            argument.replace("{port}", &port.to_string()).replace("{dir}", &dir.join("data").to_string_lossy())
        };
        Command::new(fill(&self.command[0]))
            .args(self.command[1..].iter().map(fill))
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(self.local("share a log"))?)
            .stderr(log)
            .spawn()
            .map_err(self.local("start the process"))
    }

    fn wait_until_up(&self, running: &mut Running) -> Result<(), Failure> {
        let began = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, running.port)).is_err() {
            let ended = running.child.try_wait().map_err(self.local("watch the process"))?;
            let why = match ended {
                Some(status) => format!("it ended with {status}"),
                None if began.elapsed() > UP_WITHIN => format!("it does not listen on port {}", running.port),
                None => {
                    std::thread::sleep(LOOK_EVERY);
                    continue;
                }
            };
            let said = last_lines(&running.dir.join(LOG));
            return Err(Failure::NotStarted { broker: self.name.clone(), why: format!("{why}; it said:\n{said}") });
        }
        Ok(())
    }

    fn local(&self, what: &str) -> impl FnOnce(io::Error) -> Failure + use<> {
        let what = format!("cannot {what} for {}", self.name);
        move |why| Failure::Local { what, why }
    }
}

/// A broker that runs; it is killed, and its files emptied, when this goes out of scope.
pub(super) struct Running {
    child: Child,
    port: u16,
    dir: PathBuf,
}

/// The folder below which brokers keep their data.
pub(super) struct WorkDir(PathBuf);

impl Drop for WorkDir {
    fn drop(&mut self) {
        // What cannot be removed is left for a person to see.
        let _ = fs::remove_dir_all(self.0.join(EMPTIED));
    }
}

impl Running {
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as `kill -9` does.
    pub(super) fn kill(&mut self) {
        // What cannot be ended has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Has the operating system forget what it holds of this broker's files, so that they are read from the disk.
    pub(super) fn forget_cached(&self) -> Result<(), Failure> {
        let what = || format!("cannot have the files in {} forgotten", self.dir.display());
        forget(&self.dir).map_err(|why| Failure::Local { what: what(), why })
    }

    /// Waits until the broker has next to nothing to do.
    pub(super) fn wait_until_quiet(&self) -> Result<(), Failure> {
        let began = Instant::now();
        let mut last = ProcessUsage::of(self.pid())?.cpu;
        while began.elapsed() < QUIET_WITHIN {
            std::thread::sleep(QUIET_FOR);
            let now = ProcessUsage::of(self.pid())?.cpu;
            if (now.saturating_sub(last)).as_secs_f64() < QUIET_PROCESSORS * QUIET_FOR.as_secs_f64() {
                break;
            }
            last = now;
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        // What cannot be put away is left for a person to see.
        let _ = put_away(&self.dir);
    }
}

/// Empties the files of a broker, which gives their space back, and keeps them until the comparison ends: for minutes
/// after files were removed, ext4 looks at each of them when it makes a new one, and making 1,000 partitions takes the
/// next broker a second of processor time in place of 0.03.
fn put_away(dir: &Path) -> io::Result<()> {
    empty(dir)?;
    let emptied = dir.with_file_name(EMPTIED);
    fs::create_dir_all(&emptied)?;
    let name = dir.file_name().expect("a folder that was made for a broker").to_string_lossy();
    // The same port may have been free twice.
    let free = (0..).map(|at| emptied.join(format!("{name}-{at}"))).find(|path| !path.exists());
    fs::rename(dir, free.expect("one of so many"))
}

fn empty(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { empty(&path)? } else { File::options().write(true).truncate(true).open(&path).map(drop)? }
    }
    Ok(())
}

/// Makes the folder below which brokers keep their data, and warns where that is memory. Gives its absolute path,
/// since every broker runs in a folder of its own, and what cleans it up in the end.
pub(super) fn prepare(work_dir: &Path) -> Result<(PathBuf, WorkDir), Failure> {
    let failed = |why: io::Error| Failure::Local { what: format!("cannot use {}", work_dir.display()), why };
    fs::create_dir_all(work_dir).map_err(failed)?;
    let kind = rustix::fs::statfs(work_dir).map_err(|why| failed(why.into()))?;
    if kind.f_type as u64 == TMPFS {
        eprintln!(
            "chronik-bench: {} is in memory, where syncs cost nothing; name a folder on a disk with --work-dir",
            work_dir.display()
        );
    }
    let work_dir = work_dir.canonicalize().map_err(failed)?;
    Ok((work_dir.clone(), WorkDir(work_dir)))
}

/// Writes what is dirty in the files below `dir`, since only clean pages can be dropped, and drops them.
fn forget(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            forget(&path)?;
        } else {
            let opened = match File::open(&path) {
                // A broker that runs may remove its files.
                Err(why) if why.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            opened.sync_all()?;
            rustix::fs::fadvise(&opened, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}

fn absolute(path: &Path, remedy: &str) -> Result<String, Failure> {
    match path.canonicalize() {
        Ok(path) => Ok(path.to_string_lossy().into_owned()),
        Err(why) => Err(Failure::Usage(format!("{}: {why}; {remedy}", path.display()))),
    }
}

/// A port that nobody listens on at this moment.
fn free_port() -> io::Result<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr().map(|address| address.port())
}

fn last_lines(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_ends_at_once_is_quoted() {
        let work_dir = std::env::temp_dir().join(format!("chronik-bench-{}", std::process::id()));
        let (work_dir, cleaner) = prepare(&work_dir).expect("a folder");
        let contender = Contender::other("list", "ls {dir}/nowhere").expect("a command");
        let failure = contender.start(&work_dir).err().expect("it is no broker").to_string();
        let left = |dir: &Path| fs::read_dir(dir).map(Iterator::count).unwrap_or(0);
        assert_eq!((left(&work_dir), left(&work_dir.join(EMPTIED))), (1, 1), "its folder is put away");
        drop(cleaner);
        assert_eq!(left(&work_dir), 0);
        fs::remove_dir_all(&work_dir).expect("only what this test made");
        assert!(failure.contains("list did not start") && failure.contains("nowhere"), "{failure}");
    }

    #[test]
    fn what_is_not_there_is_named_with_the_remedy() {
        let failure = Contender::floor(Path::new("/no/such/nullbroker"), "null", 1).err().expect("absent");
        assert!(failure.to_string().contains("just floor"), "{failure}");
    }
}
