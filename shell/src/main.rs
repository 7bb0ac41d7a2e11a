//! The `chronik-server` binary: reads the command line, prepares the process, and hands over to the shell.
//!
//! What cannot be shared with a simulated network lives here: the runtime, signals, the allocator, entropy.

use std::env;
use std::fs::File;
use std::future::Future;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use chronik_core::ids::Uuid;
use chronik_server::cli::options::{CommitThread, Options};
use chronik_server::cli::{self, Invocation};
use chronik_server::cluster::{self, Errand, Fault, Outcome};
use chronik_server::data_dir::DataDir;
use chronik_server::dump::Incomplete;
use chronik_server::http::{self, Stage};
use chronik_server::logging;
use chronik_server::server::{Metrics, Server};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

#[cfg(not(madsim))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The command line, the environment or the file cannot be obeyed; or no broker answers that could be asked.
const EXIT_USAGE: u8 = 2;

/// How long an orderly stop may take. What is acknowledged is safe all the same.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// The same for a broker of a cluster, whose partitions are led by others first.
const STOP_IN_CLUSTER_TIME_MAX: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let (options, warnings) = match cli::parse(env::args_os(), env::vars_os()) {
        Ok(Invocation::Serve { options, warnings }) => (*options, warnings),
        Ok(Invocation::Dump { file }) => return told(dump(&file)),
        Ok(Invocation::Cluster(errand)) => return ask(&errand),
        Ok(Invocation::Print(text)) => return told(print(&text)),
        Err(why) => {
            eprintln!("chronik-server: {why}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    // With huge pages the allocator takes memory 2 MiB at a time: a broker at rest held twice as much, and single acks
    // took longer when pages were made huge meanwhile. Where the kernel cannot be told, it is as it was.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    logging::start(&options.log);
    logging::abort_on_panic();
    for warning in warnings {
        warn!("{warning}");
    }
    told(serve(options))
}

/// The exit code for how it went, after saying on standard error what went wrong.
fn told(outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("chronik-server: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Asks something of a cluster. What the exit code says, a script can act on.
fn ask(errand: &Errand) -> ExitCode {
    let fault = match cluster::run(errand, &mut io::stdout().lock()) {
        Ok(Outcome::Well) => return ExitCode::SUCCESS,
        Ok(Outcome::Unwell) => return ExitCode::FAILURE,
        Err(fault) => fault,
    };
    match &fault {
        // Whoever reads the lines, `head` for instance, has seen enough; whether all is well was not found out.
        Fault::Unwritable(why) if why.kind() == io::ErrorKind::BrokenPipe => {}
        fault => eprintln!("chronik-server: {fault}"),
    }
    match fault {
        Fault::Unreachable(_) => ExitCode::from(EXIT_USAGE),
        Fault::Refused(_) | Fault::Unwritable(_) => ExitCode::FAILURE,
    }
}

fn serve(options: Options) -> Result<(), String> {
    match raise_open_files() {
        Ok((before, now)) => info!(before, now, "limit of open files (RLIMIT_NOFILE)"),
        Err(why) => warn!(%why, "the limit of open files (RLIMIT_NOFILE) cannot be raised"),
    }
    let directory_id = draw_uuid()?;
    let cluster_id = match options.cluster {
        // Its first controller draws it.
        Some(_) => None,
        None => Some(draw_uuid()?),
    };
    let data_dir = DataDir::open(&options.data_dir, options.node_id, cluster_id, directory_id)
        .map_err(|unusable| unusable.to_string())?;
    let stop_time_max = if options.cluster.is_some() { STOP_IN_CLUSTER_TIME_MAX } else { STOP_TIME_MAX };
    let stop = stop_on_signal(stop_time_max).map_err(|why| format!("cannot watch for signals: {why}"))?;
    let runtime = runtime(options.commit).map_err(|why| format!("cannot start the runtime: {why}"))?;
    runtime.block_on(run(options, data_dir, draw_bytes()?, stop))
}

async fn run(options: Options, data_dir: DataDir, entropy: [u8; 32], stop: impl Future) -> Result<(), String> {
    let (stage, watched) = watch::channel(Stage::Starting);
    // Asked for from the first moment on, there once the server is.
    let metrics: Arc<OnceLock<Metrics>> = Arc::default();
    if let Some(address) = &options.metrics_addr {
        let listener = TcpListener::bind((address.host.as_str(), address.port))
            .await
            .map_err(|why| format!("cannot listen on {address}: {why}: give another --metrics-addr"))?;
        let bound = listener.local_addr().map_or_else(|_| address.to_string(), |bound| bound.to_string());
        info!(address = bound, "serving /metrics, /health and /ready");
        let metrics = metrics.clone();
        tokio::spawn(http::serve(listener, watched, Asked(metrics)));
    }
    let server = Server::start(&options, &data_dir, entropy).await.map_err(|why| why.to_string())?;
    metrics.get_or_init(|| server.metrics());
    stage.send_replace(Stage::Serving);
    let stopping = async {
        stop.await;
        stage.send_replace(Stage::Stopping);
    };
    server.run(stopping).await.map_err(|fatal| fatal.to_string())
}

/// The server, once there is one.
#[derive(Clone)]
struct Asked(Arc<OnceLock<Metrics>>);

impl http::Broker for Asked {
    async fn metrics(&self) -> String {
        match self.0.get() {
            Some(metrics) => metrics.scrape().await,
            None => String::new(),
        }
    }

    async fn is_ready(&self) -> bool {
        match self.0.get() {
            Some(metrics) => metrics.is_ready().await,
            None => false,
        }
    }
}

/// One thread serves the connections and steps the node. Where it never waits for the disk, several may serve them.
fn runtime(commit: CommitThread) -> io::Result<Runtime> {
    match commit {
        CommitThread::Auto | CommitThread::Inline => Builder::new_current_thread().enable_all().build(),
        CommitThread::Thread => Builder::new_multi_thread().enable_all().build(),
    }
}

/// Resolves at the first SIGTERM or Ctrl-C. A second one ends the process at once, as does an orderly stop that takes
/// too long.
///
/// Signals have a thread and a runtime of their own, so that they are heard while the broker's is stuck in a sync.
fn stop_on_signal(stop_time_max: Duration) -> io::Result<impl Future> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // Registered before this returns: from here on a signal finds its listener.
    let (mut terminate, mut interrupt) = {
        let _context = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let (stop, stopped) = oneshot::channel();
    let watch = async move {
        let mut next =
            async || tokio::select! { biased; _ = terminate.recv() => "SIGTERM", _ = interrupt.recv() => "SIGINT" };
        let signal = next().await;
        info!(signal, "stopping; a second signal stops at once");
        // The broker may have failed by itself in this very moment.
        stop.send(()).ok();
        tokio::select! { biased;
            _ = next() => eprintln!("chronik-server: stopped at once by a second signal"),
            () = tokio::time::sleep(stop_time_max) => eprintln!(
                "chronik-server: an orderly stop took longer than {} s and is cut short; the next start recovers",
                stop_time_max.as_secs()
            ),
        }
        std::process::exit(1);
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(watch))?;
    Ok(stopped)
}

/// Raises the limit of open files as far as it goes without privileges. Answers what it was and what it is.
fn raise_open_files() -> io::Result<(u64, u64)> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    // None stands for a limit that is not there.
    Ok((current.unwrap_or(u64::MAX), maximum.unwrap_or(u64::MAX)))
}

/// A random identifier (UUID version 4).
fn draw_uuid() -> Result<Uuid, String> {
    loop {
        let mut bytes: [u8; 16] = draw_bytes()?;
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let uuid = Uuid(bytes);
        // Kafka's tools would take one that begins with a dash for a flag.
        if !uuid.to_string().starts_with('-') {
            return Ok(uuid);
        }
    }
}

/// Random bytes, as the system draws them.
fn draw_bytes<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    let mut source = File::open("/dev/urandom").map_err(|why| format!("cannot open /dev/urandom: {why}"))?;
    source.read_exact(&mut bytes).map_err(|why| format!("cannot read /dev/urandom: {why}"))?;
    Ok(bytes)
}

fn dump(file: &Path) -> Result<(), String> {
    match chronik_server::dump::dump(file, BufWriter::new(io::stdout().lock())) {
        // Whoever reads the lines, `head` for instance, has seen enough.
        Err(Incomplete::Unwritable { why }) if why.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        shown => shown.map_err(|incomplete| incomplete.to_string()),
    }
}

/// To standard output; that whoever reads it has seen enough is no failure.
fn print(text: &str) -> Result<(), String> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(why) if why.kind() != io::ErrorKind::BrokenPipe => Err(format!("cannot write to standard output: {why}")),
        _ => Ok(()),
    }
}
