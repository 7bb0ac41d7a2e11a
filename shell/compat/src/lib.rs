//! A `chronik-server` for librdkafka to talk to.
//!
//! The tests are in `tests/`; the clients of other languages beside them are run by `run.py`.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};
use std::{env, process, thread};

/// How long a debug build may take to open its port on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

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
        let port = free_port();
        let log = File::create(folder.join("log")).expect("the system's temporary folder is writable");
        let child = Command::new(binary())
            .args(["--bind", "127.0.0.1", "--kafka-port", &port.to_string(), "--data-dir"])
            .arg(folder.join("data"))
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("the binary can be run");
        let mut broker = Broker { address: format!("127.0.0.1:{port}"), own: Some((child, folder)) };
        broker.wait_for_port();
        broker
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
