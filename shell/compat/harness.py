"""What the suites share: the broker under test, the results table, and the installs that are kept between runs."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CACHE = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "compat")

# A single check that takes longer than this hangs; the slowest one that works takes a few seconds.
CHECK_TIMEOUT_S = 60
# A whole program of checks, its start included.
PROGRAM_TIMEOUT_S = 300
# A broker's start: Apache Kafka's after a crash, with all that a run has left behind, on a busy machine.
START_TIMEOUT_S = 60
# Every broker under test has these, so that a check of groups waits for what it is about and not for an interval. A
# consumer whose session the broker sets (KIP-848) is dead after those 8 s; classic ones bring a timeout of their own.
SETTINGS = {
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "8000",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "200",
    "log.cleaner.backoff.ms": "200",
    "log.retention.check.interval.ms": "500",
}


class Failed(Exception):
    """A check whose client did not do what it should."""


class Table:
    """The results, one row per client and check, printed as they come and summed up at the end."""

    def __init__(self):
        self.rows = []

    def add(self, client, check, seconds, why=""):
        self.rows.append((client, check, seconds, why))
        verdict = "FAILED" if why else "passed"
        lines = [f"{client:<18} {check:<60} {verdict:<7} {seconds:7.2f} s"]
        lines += [f"{'':<18}   {line}" for line in why.strip().splitlines()[-12:]]
        # In one piece: other suites print as well.
        print("\n".join(lines) + "\n", end="", flush=True)

    @property
    def failed(self):
        return [row for row in self.rows if row[3]]

    def summary(self):
        clients = {}
        for client, _, seconds, why in self.rows:
            passed, failed, total = clients.get(client, (0, 0, 0.0))
            clients[client] = (passed + (not why), failed + bool(why), total + seconds)
        lines = [f"{'client':<18} {'passed':>6} {'failed':>6} {'time':>9}"]
        lines += [f"{name:<18} {p:>6} {f:>6} {t:>7.1f} s" for name, (p, f, t) in clients.items()]
        return "\n".join(lines)


class Suite:
    """The checks of one client against one broker."""

    def __init__(self, table, client, bootstrap):
        self.table, self.client, self.bootstrap = table, client, bootstrap

    def check(self, name, body):
        """Runs `body`, which raises where its claim does not hold."""
        begun = time.monotonic()
        why = ""
        try:
            body()
        except Failed as error:
            why = str(error)
        except Exception:  # A tool that prints what nobody expects is a failed check, and the next one still runs.
            why = traceback.format_exc(limit=-3)
        self.table.add(self.client, name, time.monotonic() - begun, why)

    def program(self, command, **options):
        """Runs a program that checks by itself and prints one JSON object per check on its standard output."""
        begun = time.monotonic()
        done = run(command, timeout=PROGRAM_TIMEOUT_S, **options)
        results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"check"')]
        for result in results:
            self.table.add(self.client, result["check"], result["seconds"], result["why"])
        # A program that fails for another reason than a failed check has not done all that it should.
        explained = any(result["why"] for result in results)
        if not results or (done.returncode != 0 and not explained):
            tail = (done.stdout + done.stderr)[-4000:]
            self.table.add(self.client, "runs to its end", time.monotonic() - begun, f"exit {done.returncode}\n{tail}")


def run(command, stdin="", timeout=CHECK_TIMEOUT_S, **options):
    """The finished process; a timeout becomes exit code 124 with what was printed until then."""
    try:
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, **options)
    except subprocess.TimeoutExpired as late:
        text = lambda raw: raw.decode(errors="replace") if isinstance(raw, bytes) else raw or ""
        return subprocess.CompletedProcess(command, 124, text(late.stdout), text(late.stderr) + f"\ntimed out: {timeout} s")


def output(command, **options):
    """What a command prints on its standard output; an exit code other than 0 fails the check."""
    done = run(command, **options)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)[-300:]}\nexit {done.returncode}\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
    return done.stdout


def expect(found, wanted, what):
    """Fails the check unless both are equal."""
    if found != wanted:
        raise Failed(f"{what}: expected {str(wanted)[:600]}, found {str(found)[:600]}")


def expect_in(part, whole, what):
    """Fails the check unless `part` occurs in `whole`."""
    if part not in whole:
        raise Failed(f"{what}: no {part!r} in {whole[:1500]!r}")


def install(name, key, make):
    """The folder CACHE/`name`, made by `make(folder)` once for each `key`, which names the versions inside."""
    folder = os.path.join(CACHE, name)
    mark = os.path.join(folder, ".installed")
    if os.path.exists(mark) and open(mark).read() == key:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    begun = time.monotonic()
    make(folder)
    with open(mark, "w") as file:
        file.write(key)
    print(f"installed {name} in {time.monotonic() - begun:.1f} s", file=sys.stderr, flush=True)
    return folder


def must(command, **options):
    """Runs a step that prepares a suite; its output is shown only where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nexit {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done.stdout


def default_binary():
    """The `chronik-server` of the debug build, built first."""
    must(["cargo", "build", "--quiet", "--package", "chronik-server"], cwd=ROOT)
    return os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "debug", "chronik-server")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def lasting_port():
    """A free port that stays ours while nobody listens on it: below those that outgoing connections are given (32,768
    and above on Linux). None is given twice: nobody listens yet on those that were."""
    while True:
        port = random.randrange(15_000, 32_000)
        if port in given_ports:
            continue
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            continue
        given_ports.add(port)
        return port


given_ports = set()


class Broker:
    """A broker of our own: a command, the port it opens, and a data folder that outlives its process."""

    def __init__(self, command, port, log_path, stop_timeout_s=20):
        self.command, self.port, self.log_path, self.stop_timeout_s = command, port, log_path, stop_timeout_s
        self.address = f"127.0.0.1:{port}"
        self.process = None

    def start(self):
        with open(self.log_path, "a") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        wait_for_port(self.process, self.port, self.log_path)

    def kill_and_restart(self):
        """What a crash leaves behind is what the next process finds: no signal that could be caught comes first."""
        self.process.kill()
        self.process.wait()
        self.start()

    def kill(self):
        """Ends it at once, if it runs."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=self.stop_timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @contextlib.contextmanager
    def running(self):
        """Started, and stopped at the end; a broker that has ended by itself until then ends the run."""
        os.makedirs(CACHE, exist_ok=True)
        open(self.log_path, "w").close()
        try:
            self.start()
            with kill_switch(self.kill_and_restart):
                yield self
            if self.process.poll() is not None:
                sys.exit(f"the broker ended by itself with {self.process.returncode}; see {self.log_path}")
        finally:
            if self.process:
                self.stop()


@contextlib.contextmanager
def kill_switch(crash):
    """Lets any client of any language crash a broker: it connects to the address in CHRONIK_COMPAT_KILL, and the
    connection is closed once `crash` is done, which kills it and sees to it that it comes back."""

    def serve():
        while True:
            try:
                connection, _ = switch.accept()
            except OSError:
                return
            with connection:
                try:
                    crash()
                except (Exception, SystemExit) as failure:
                    # Nobody may wait for a broker that does not come back: whoever asks next is refused.
                    print(failure, file=sys.stderr, flush=True)
                    switch.close()
                    return

    with socket.create_server(("127.0.0.1", 0)) as switch:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        os.environ["CHRONIK_COMPAT_KILL"] = f"127.0.0.1:{switch.getsockname()[1]}"
        try:
            yield
        finally:
            del os.environ["CHRONIK_COMPAT_KILL"]
            with contextlib.suppress(OSError):
                switch.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextlib.contextmanager
def chronik(binary, log_name):
    """A running `chronik-server` on a free loopback port with a data folder of its own. It logs to CACHE/`log_name`."""
    port = lasting_port()
    with tempfile.TemporaryDirectory(prefix="chronik-compat-", ignore_cleanup_errors=True) as data:
        listen = ["--kafka-port", str(port), "--bind", "127.0.0.1", "--advertised-addr", f"127.0.0.1:{port}"]
        settings = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
        command = [binary, *listen, "--data-dir", data, *settings]
        with Broker(command, port, os.path.join(CACHE, log_name)).running() as broker:
            yield broker


def wait_for_port(process, port, log_path):
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"the broker did not start:\n{open(log_path).read()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    sys.exit(f"the broker's port {port} did not open within {START_TIMEOUT_S} s; see {log_path}")
