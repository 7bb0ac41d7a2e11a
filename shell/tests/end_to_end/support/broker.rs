//! The process under test: `chronik-server` on a free port with a data folder that disappears with it.

use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::client::Client;

/// How long a broker may take to start or to stop, in a debug build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder under cargo's own, removed when the test ends.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("broker-{}-{number}", std::process::id()));
        // A process of this id may have left one behind when it was killed.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a temporary folder can be made");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A broker to test.
pub(crate) struct Broker {
    address: String,
    own: Option<Process>,
}

struct Process {
    child: Child,
    folder: Folder,
    port: u16,
    flags: Vec<String>,
}

impl Broker {
    /// The broker that `CHRONIK_TEST_BOOTSTRAP` names, or else a new one.
    pub(crate) fn start() -> Self {
        match std::env::var("CHRONIK_TEST_BOOTSTRAP") {
            Ok(address) => Self { address, own: None },
            Err(_) => Self::launch(&[]),
        }
    }

    /// A new broker with these flags, or none if the tests run against another's: what is claimed about our own
    /// process, files and limits has no meaning there.
    pub(crate) fn start_own(flags: &[&str]) -> Option<Self> {
        std::env::var_os("CHRONIK_TEST_BOOTSTRAP").is_none().then(|| Self::launch(flags))
    }

    /// A new broker on the data folder that `prepare` makes at a path, or none if the tests run against another's.
    pub(crate) fn start_on(prepare: impl FnOnce(&Path)) -> Option<Self> {
        std::env::var_os("CHRONIK_TEST_BOOTSTRAP").is_none().then(|| {
            let folder = Folder::new();
            prepare(&folder.path().join("data"));
            Self::launch_in(folder, &[])
        })
    }

    fn launch(flags: &[&str]) -> Self {
        Self::launch_in(Folder::new(), flags)
    }

    /// A new broker in an empty folder, or one that holds its data already.
    pub(super) fn launch_in(folder: Folder, flags: &[&str]) -> Self {
        let flags: Vec<String> = flags.iter().map(|flag| flag.to_string()).collect();
        let port = free_port();
        let child = spawn(port, &folder, &flags);
        let mut broker =
            Self { address: format!("127.0.0.1:{port}"), own: Some(Process { child, folder, port, flags }) };
        broker.wait_for_port();
        broker
    }

    pub(crate) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Where the broker keeps its data.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.process().folder.path().join("data")
    }

    /// A connection to the broker.
    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.address)
    }

    /// `kill -9`: what the process held in memory is gone.
    pub(crate) fn kill(&mut self) {
        let child = &mut self.process_mut().child;
        child.kill().expect("the broker still runs");
        child.wait().expect("a killed child can be waited for");
    }

    /// SIGTERM, and the exit status that follows.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        let child = &mut self.process_mut().child;
        kill_process(pid(child), Signal::TERM).expect("the broker still runs");
        wait_for_exit(child)
    }

    /// SIGSTOP: the process keeps all it has, its connections too, and does nothing.
    pub(crate) fn freeze(&self) {
        kill_process(pid(&self.process().child), Signal::STOP).expect("the broker still runs");
    }

    /// SIGCONT: it goes on where it was frozen.
    pub(crate) fn thaw(&self) {
        kill_process(pid(&self.process().child), Signal::CONT).expect("the broker still runs");
    }

    /// Starts the process again on the same port and data folder.
    pub(crate) fn restart(&mut self) {
        let process = self.process_mut();
        process.child = spawn(process.port, &process.folder, &process.flags);
        self.wait_for_port();
    }

    /// Starts the process again with these flags instead.
    pub(crate) fn restart_with(&mut self, flags: &[&str]) {
        self.process_mut().flags = flags.iter().map(|flag| flag.to_string()).collect();
        self.restart();
    }

    /// Starts the process, which must not run, and waits until it ends by itself.
    pub(crate) fn restart_to_end(&self) -> Ended {
        let process = self.process();
        let arguments = arguments(process.port, &process.folder, &process.flags);
        run_to_end(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Starts the process, which must not run, and kills it `after` so long, whatever it is doing by then.
    pub(crate) fn start_and_kill(&mut self, after: Duration) {
        let process = self.process_mut();
        process.child = spawn(process.port, &process.folder, &process.flags);
        // Nothing is waited for: the moment of death is what the test chooses.
        thread::sleep(after);
        self.kill();
    }

    fn process(&self) -> &Process {
        self.own.as_ref().expect("the broker is our own")
    }

    fn process_mut(&mut self) -> &mut Process {
        self.own.as_mut().expect("the broker is our own")
    }

    fn wait_for_port(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let process = self.own.as_mut().expect("the broker is our own");
        while TcpStream::connect(("127.0.0.1", process.port)).is_err() {
            let ended = process.child.try_wait().expect("a child can be asked for its status");
            let printed = printed(&process.folder);
            assert!(ended.is_none(), "the broker ended with {ended:?} before its port opened:\n{printed}");
            assert!(Instant::now() < deadline, "the port did not open within {PATIENCE:?}:\n{printed}");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(process) = &mut self.own {
            let _ = process.child.kill();
            let _ = process.child.wait();
            if thread::panicking() {
                eprintln!("the broker printed:\n{}", printed(&process.folder));
            }
        }
    }
}

/// What a run of the binary that should end by itself printed, and how it ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the binary with `arguments` to its end.
pub(crate) fn run_to_end(arguments: &[&str]) -> Ended {
    let folder = Folder::new();
    let (stdout, stderr) = (folder.path().join("stdout"), folder.path().join("stderr"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_chronik-server"))
        .args(arguments)
        .stdout(File::create(&stdout).expect("a temporary file can be made"))
        .stderr(File::create(&stderr).expect("a temporary file can be made"))
        .spawn()
        .expect("the binary can be run");
    let status = wait_for_exit(&mut child);
    let read = |path| fs::read_to_string(path).expect("the binary prints UTF-8");
    Ended { status, stdout: read(&stdout), stderr: read(&stderr) }
}

/// A port that nothing listens on, and that nobody takes while a broker on it is restarted.
///
/// Not one that the system proposes: from those it also takes the near ends of outgoing connections, so that between
/// the end of a broker and its next start another test's client, or a connection that waits for the broker and meets
/// itself, would sit on it.
///
/// Tried by connecting, not by listening: a process that another test starts in that moment holds a copy of every open
/// socket until it executes its own program, so a listener that was closed here would go on accepting connections in
/// the broker's name, and reset them.
pub(crate) fn free_port() -> u16 {
    /// Below the ports for outgoing connections (32,768 and above on Linux), above those that services have.
    const PORTS: std::ops::Range<u16> = 15_000..32_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        // Each process of tests begins elsewhere, and each test in it goes on from there.
        let number = std::process::id().wrapping_mul(131).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + (number % PORTS.len() as u32) as u16;
        if TcpStream::connect(("127.0.0.1", port)).is_err() {
            return port;
        }
    }
}

/// The command line of a broker in `folder`.
fn arguments(port: u16, folder: &Folder, flags: &[String]) -> Vec<String> {
    let data_dir = folder.path().join("data");
    let data_dir = data_dir.to_str().expect("cargo's folders have names in UTF-8");
    let own = ["--bind", "127.0.0.1", "--kafka-port", &port.to_string(), "--data-dir", data_dir].map(str::to_owned);
    own.into_iter().chain(flags.iter().cloned()).collect()
}

fn spawn(port: u16, folder: &Folder, flags: &[String]) -> Child {
    let log = File::options().create(true).append(true).open(folder.path().join("log"));
    let log = log.expect("a temporary file can be made");
    Command::new(env!("CARGO_BIN_EXE_chronik-server"))
        .args(arguments(port, folder, flags))
        .stdout(log.try_clone().expect("a file can be shared"))
        .stderr(log)
        .spawn()
        .expect("the binary can be run")
}

fn printed(folder: &Folder) -> String {
    fs::read_to_string(folder.path().join("log")).unwrap_or_default()
}

fn pid(child: &Child) -> Pid {
    let raw = i32::try_from(child.id()).expect("process ids are positive i32");
    Pid::from_raw(raw).expect("a child is never process 0")
}

fn wait_for_exit(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("a child can be asked for its status") {
            assert!(status.signal().is_none() || status.code().is_none(), "either a signal or a code: {status}");
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("the broker did not end within {PATIENCE:?}");
        }
        thread::sleep(Duration::from_millis(2));
    }
}
