//! A `chronik-server` for librdkafka to talk to.
//!
//! The tests are in `tests/`; the clients of other languages beside them are run by `run.py`.

pub mod client;

use std::fs::{self, File};
use std::io::Read as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};
use std::{env, process, thread};

/// How long a broker may take to open its port, after a crash and on a busy machine.
const PATIENCE: Duration = Duration::from_secs(70);

/// Sessions and delays short enough for tests that wait for what they are about; `run.py` gives its broker the same.
const SETTINGS: [&str; 6] = [
    "group.initial.rebalance.delay.ms=0",
    "group.min.session.timeout.ms=1000",
    "group.consumer.min.session.timeout.ms=1000",
    "group.consumer.session.timeout.ms=8000",
    "group.consumer.min.heartbeat.interval.ms=100",
    "group.consumer.heartbeat.interval.ms=200",
];

/// A running broker; one that was started here ends with this value, and its data with it.
#[derive(Debug)]
pub struct Broker {
    address: String,
    own: Option<(Child, PathBuf)>,
}

impl Broker {
    /// The broker at `CHRONIK_TEST_BOOTSTRAP` where that is set, else a new one from the binary `CHRONIK_SERVER`, else
    /// one from the debug build of this workspace, brought up to date first.
    pub fn start() -> Broker {
        if let Ok(address) = env::var("CHRONIK_TEST_BOOTSTRAP") {
            return Broker { address, own: None };
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("chronik-librdkafka-{}-{number}", process::id()));
        fs::create_dir_all(&folder).expect("the system's temporary folder is writable");
        let mut broker = Broker { address: format!("127.0.0.1:{}", free_port()), own: None };
        broker.spawn(folder);
        broker
    }

    /// Kills the broker, without a signal that it could catch, and returns once its next process listens. Where it is
    /// somebody else's, the address in `CHRONIK_COMPAT_KILL` is asked to; without one it lives on and this is `false`.
    pub fn kill_and_restart(&mut self) -> bool {
        if let Some((mut child, folder)) = self.own.take() {
            child.kill().expect("a child of ours can be killed");
            child.wait().expect("a child of ours can be waited for");
            self.spawn(folder);
            return true;
        }
        let Ok(switch) = env::var("CHRONIK_COMPAT_KILL") else { return false };
        let mut connection = TcpStream::connect(switch).expect("who started the broker listens");
        connection.set_read_timeout(Some(PATIENCE)).expect("a timeout is not zero");
        // It says nothing: it closes the connection when the broker is back.
        connection.read_to_end(&mut Vec::new()).expect("who started the broker lives");
        true
    }

    fn spawn(&mut self, folder: PathBuf) {
        let (_, port) = self.address.split_once(':').expect("an address of ours has a port");
        let log = File::options().append(true).create(true).open(folder.join("log"));
        let log = log.expect("the system's temporary folder is writable");
        let child = Command::new(binary())
            .args(["--bind", "127.0.0.1", "--kafka-port", port, "--set", &SETTINGS.join(";"), "--data-dir"])
            .arg(folder.join("data"))
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("the binary can be run");
        self.own = Some((child, folder));
        self.wait_for_port();
    }

    /// `host:port`, for `bootstrap.servers`.
    pub fn address(&self) -> &str {
        &self.address
    }

    fn wait_for_port(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(&self.address).is_err() {
            let (child, folder) = self.own.as_mut().expect("only a broker of our own is waited for");
            let ended = child.try_wait().expect("a child can be asked for its status");
            assert!(ended.is_none(), "the broker ended with {ended:?}:\n{}", printed(folder));
            assert!(Instant::now() < deadline, "the port did not open:\n{}", printed(folder));
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some((child, folder)) = &mut self.own {
            let _ = child.kill();
            let _ = child.wait();
            if thread::panicking() {
                eprintln!("the broker printed:\n{}", printed(folder));
            }
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// A topic name that no other test, and no earlier run against the same broker, uses.
pub fn fresh_name(purpose: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("the clock is past 1970").as_millis();
    format!("librdkafka-{purpose}-{number}-{now}")
}

fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(binary) = env::var_os("CHRONIK_SERVER") {
            return binary.into();
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut cargo = Command::new(env!("CARGO"));
        let built = cargo.args(["build", "--quiet", "--package", "chronik-server"]).current_dir(&root).status();
        assert!(built.expect("cargo can be run").success(), "chronik-server does not build");
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        target.join("debug/chronik-server")
    })
}

/// A port below those for outgoing connections that nothing listens on. Tried by connecting: a listener lives on in a
/// process that is started at that moment, until it executes its own program.
fn free_port() -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(131).wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed));
        let port = 15_000 + (number % 17_000) as u16;
        if TcpStream::connect(("127.0.0.1", port)).is_err() {
            return port;
        }
    }
}

fn printed(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}
