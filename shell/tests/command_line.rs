//! The binary as a person or a supervisor meets it: exit codes, one-line faults, signals.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};

/// A folder of its own for each test, gone when the test is.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("chronik-command-line-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("the temporary folder is writable");
        Scratch(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chronik-server"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("CHRONIK_") {
            command.env_remove(variable);
        }
    }
    command
}

fn output(args: &[&str]) -> Output {
    command(args).output().expect("the binary can be run")
}

/// Runs to the end and expects one line of fault that has all of `words` in it.
fn check_fault(args: &[&str], code: i32, words: &[&str]) {
    let Output { status, stdout, stderr } = output(args);
    let stderr = String::from_utf8(stderr).expect("text");
    assert_eq!(status.code(), Some(code), "{args:?} said {stderr}");
    assert_eq!(stdout, b"", "faults are for standard error");
    let faults: Vec<&str> = stderr.lines().filter(|line| line.starts_with("chronik-server: ")).collect();
    let [fault] = faults.as_slice() else { panic!("not one line of fault: {stderr}") };
    for word in words {
        assert!(fault.contains(word), "{word:?} is missing from {fault:?}");
    }
}

/// A broker on free ports that is killed with the test.
struct Broker {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Broker {
    fn start(data_dir: &Path) -> Broker {
        let mut child = command(&["--bind", "127.0.0.1", "--kafka-port", "0", "--metrics-addr", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(data_dir)
            .args(["--log-format", "json"])
            .spawn()
            .expect("the binary can be run");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        Broker { child, stderr }
    }

    /// Reads the log up to the line with `words`, and answers that line.
    fn wait_for(&mut self, words: &str) -> String {
        let mut log = String::new();
        loop {
            let mut line = String::new();
            let count = self.stderr.read_line(&mut line).expect("a log in text");
            assert_ne!(count, 0, "the log ended without {words:?}:\n{log}");
            if line.contains(words) {
                return line;
            }
            log.push_str(&line);
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("a child can be signalled");
    }

    /// The exit code, once it is there.
    fn end(&mut self) -> Option<i32> {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).expect("a log in text");
        self.child.wait().expect("a child can be waited for").code()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The text between `before` and the next quote.
fn quoted_after<'a>(line: &'a str, before: &str) -> &'a str {
    let (_, after) = line.split_once(before).unwrap_or_else(|| panic!("{before:?} is missing from {line:?}"));
    after.split('"').next().expect("a split has a first part")
}

#[test]
fn usage_faults_are_one_line_and_exit_2() {
    check_fault(&["--kafka-prt", "9092"], 2, &["--kafka-prt", "--kafka-port"]);
    check_fault(&["--durability", "never"], 2, &["never", "--durability", "sync, os"]);
    check_fault(&["standalone", "--config", "/nowhere.toml"], 2, &["/nowhere.toml", "No such file"]);
    check_fault(&["raft-cluster", "--node-id", "2"], 2, &["raft-cluster", "--raft-addr HOST:PORT"]);
    check_fault(&["--peers", "2@two:9192"], 2, &["--peers", "CHRONIK_PEERS", "raft-cluster"]);
}

#[test]
fn the_exit_code_tells_how_a_cluster_is() {
    let scratch = Scratch::new();
    let mut broker = Broker::start(&scratch.join("data"));
    let line = broker.wait_for("\"listening\"");
    let address = quoted_after(&line, "default ").split(' ').next().expect("a split has a first part").to_owned();
    let Output { status, stdout, .. } = output(&["cluster", "status", "--bootstrap-servers", &address]);
    let told = String::from_utf8(stdout).expect("text");
    assert_eq!(status.code(), Some(0), "{told}");
    assert!(told.contains("controller node 1") && told.ends_with("healthy\n"), "{told}");
    check_fault(&["cluster", "drain", "7", "--bootstrap-servers", &address], 1, &["no node 7"]);
    broker.signal(Signal::TERM);
    assert_eq!(broker.end(), Some(0));
    check_fault(&["cluster", "status", "--bootstrap-servers", &address], 2, &[&address, "refused"]);
}

#[test]
fn a_data_folder_that_lost_its_journal_is_not_begun_anew() {
    let scratch = Scratch::new();
    let data = scratch.join("data");
    let mut broker = Broker::start(&data);
    broker.wait_for("\"listening\"");
    broker.signal(Signal::TERM);
    assert_eq!(broker.end(), Some(0));
    for file in fs::read_dir(data.join("journal")).expect("it has started there") {
        fs::remove_file(file.expect("listed").path()).expect("the test's folder is writable");
    }
    let folder = data.to_str().expect("a temporary path in UTF-8");
    let args = ["--data-dir", folder, "--bind", "127.0.0.1", "--kafka-port", "0"];
    let told = [folder, "had a journal", "journal/0000.journal is missing or empty", "restore the whole folder"];
    check_fault(&args, 1, &told);
    assert_eq!(fs::read_dir(data.join("journal")).expect("it is left").count(), 0, "nothing was made");
    fs::write(data.join("journal/0000.journal"), [0; 1 << 16]).expect("the test's folder is writable");
    check_fault(&args, 1, &told);
}

#[test]
fn a_taken_raft_address_exits_1() {
    let scratch = Scratch::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let data = scratch.join("data");
    let data = data.to_str().expect("a temporary path in UTF-8");
    let args =
        ["raft-cluster", "--data-dir", data, "--bind", "127.0.0.1", "--kafka-port", "0", "--raft-addr", &address];
    check_fault(&args, 1, &[&address, "in use"]);
}

#[test]
fn a_bad_file_is_named_with_its_line_and_exits_2() {
    let scratch = Scratch::new();
    let file = scratch.join("chronik.toml");
    fs::write(&file, "[server]\nkafka-port = 0\ndurabilty = 'os'\n").expect("the test's folder is writable");
    let file = file.to_str().expect("a temporary path in UTF-8");
    check_fault(&["--config", file], 2, &[file, "line 3", "durabilty"]);
}

#[test]
fn a_bad_kafka_setting_is_named_with_its_line_and_exits_2() {
    let scratch = Scratch::new();
    let file = scratch.join("chronik.toml");
    fs::write(&file, "[kafka]\nnum.partitions = 3\nsasl.enabled.mechanisms = 'PLAIN'\n")
        .expect("the folder is writable");
    let file = file.to_str().expect("a temporary path in UTF-8");
    check_fault(&["--config", file], 2, &[file, "line 3", "sasl.enabled.mechanisms", "not served"]);
}

#[test]
fn a_folder_that_cannot_be_recovered_is_named_with_the_file_and_the_remedy() {
    let scratch = Scratch::new();
    let data = scratch.join("data");
    let mut broker = Broker::start(&data);
    broker.wait_for("\"listening\"");
    broker.signal(Signal::TERM);
    assert_eq!(broker.end(), Some(0));
    for number in 0..2 {
        let checkpoint = data.join(format!("journal/{number}.checkpoint"));
        let bytes = fs::metadata(&checkpoint).map_or(0, |found| found.len()).max(4096);
        fs::write(&checkpoint, vec![0xff; usize::try_from(bytes).expect("a small file")])
            .expect("the folder is writable");
    }
    let path = data.to_str().expect("a temporary path in UTF-8");
    check_fault(
        &["--data-dir", path, "--bind", "127.0.0.1", "--kafka-port", "0"],
        1,
        &[path, "journal/0.checkpoint", "restore the whole folder from a copy", "cluster"],
    );
}

#[test]
fn a_bad_variable_is_named_and_exits_2() {
    let Output { status, stderr, .. } =
        command(&[]).env("CHRONIK_NODE_ID", "one").output().expect("the binary can be run");
    assert_eq!(status.code(), Some(2));
    let stderr = String::from_utf8(stderr).expect("text");
    assert!(stderr.contains("CHRONIK_NODE_ID") && stderr.lines().count() == 1, "{stderr}");
}

#[test]
fn a_folder_that_is_not_ours_exits_1() {
    let scratch = Scratch::new();
    fs::write(scratch.join("thesis.txt"), "years of work").expect("the test's folder is writable");
    let path = scratch.0.to_str().expect("a temporary path in UTF-8");
    check_fault(
        &["--data-dir", path, "--bind", "127.0.0.1", "--kafka-port", "0"],
        1,
        &[path, "thesis.txt", "--data-dir"],
    );
}

#[test]
fn help_and_version_go_to_standard_output() {
    for (args, word) in [(["--help"], "CHRONIK_KAFKA_PORT"), (["version"], env!("CARGO_PKG_VERSION"))] {
        let Output { status, stdout, stderr } = output(&args);
        assert_eq!((status.code(), stderr.as_slice()), (Some(0), &b""[..]));
        assert!(String::from_utf8(stdout).expect("text").contains(word), "{word} is missing");
    }
}

#[test]
fn sigterm_and_ctrl_c_stop_in_order_and_exit_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let scratch = Scratch::new();
        let mut broker = Broker::start(&scratch.join("data"));
        broker.wait_for("serving /metrics");
        broker.signal(signal);
        assert_eq!(broker.end(), Some(0), "after {signal:?}");
    }
}

#[test]
fn a_folder_in_use_exits_1_and_names_its_process() {
    let scratch = Scratch::new();
    let data = scratch.join("data");
    let mut broker = Broker::start(&data);
    broker.wait_for("serving /metrics");
    let path = data.to_str().expect("a temporary path in UTF-8");
    let pid = format!("process {}", broker.child.id());
    check_fault(&["--data-dir", path, "--bind", "127.0.0.1", "--kafka-port", "0"], 1, &[path, &pid]);
}

#[test]
fn the_metrics_address_answers_and_a_taken_one_exits_1() {
    let scratch = Scratch::new();
    let mut broker = Broker::start(&scratch.join("data"));
    let line = broker.wait_for("serving /metrics");
    let address = quoted_after(&line, "\"address\":\"");
    let mut client = TcpStream::connect(address).expect("the metrics address listens");
    client.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").expect("the page reads");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer to its end");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");

    let other = scratch.join("other");
    let other = other.to_str().expect("a temporary path in UTF-8");
    let args = ["--data-dir", other, "--bind", "127.0.0.1", "--kafka-port", "0", "--metrics-addr", address];
    check_fault(&args, 1, &[address, "--metrics-addr", "in use"]);
}

#[test]
fn dump_shows_a_file_and_exits_1_where_it_cannot() {
    let scratch = Scratch::new();
    let file = scratch.join("0000.journal");
    fs::write(&file, [0; 4096]).expect("the test's folder is writable");
    let Output { status, stdout, .. } = output(&["dump", file.to_str().expect("a temporary path in UTF-8")]);
    assert_eq!(status.code(), Some(0));
    assert_eq!(String::from_utf8(stdout).expect("text").trim(), "0 4096 zeros");
    check_fault(&["dump", "/nowhere/0.log"], 1, &["/nowhere/0.log", "No such file"]);
    check_fault(&["dump", "notes.txt"], 1, &["notes.txt", ".journal"]);
}
