#!/usr/bin/env python3
"""Captures golden bytes: runs every suite through the recording proxy against Apache Kafka.

    capture.py [SUITE ...]

The frames go to core/tests/golden, a folder per client for its requests and one for Kafka's responses. A file that is
there stays as it is, since names, ids and times differ from run to run and would hide in a diff what is new: remove what
shall be captured anew. Kafka itself comes from the jars that the java suite uses, and lets transactions in: checks that
want them refused fail.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
# The sources' folders stay free of what Python would cache in them.
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(HERE))

import harness
import reference

GOLDEN = os.path.join(harness.ROOT, "core", "tests", "golden")
KAFKA = "apache-kafka-4.3"
# What each suite is called in the table of golden bytes.
CLIENTS = {
    "kcat": "kcat-1.7",
    "python": "kafka-python-3.0",
    "go": "franz-go-1.22",
    "node": "kafkajs-2.2",
    "java": "java-4.3",
    "rdkafka": "librdkafka-2.12",
}

LISTENERS = """
listeners=PLAINTEXT://127.0.0.1:{port},RECORDED://127.0.0.1:{recorded},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},RECORDED://127.0.0.1:{proxy}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,RECORDED:PLAINTEXT,CONTROLLER:PLAINTEXT
"""


@contextlib.contextmanager
def recorder(ports, client, out):
    addresses = ["--listen", f"127.0.0.1:{ports['proxy']}", "--upstream", f"127.0.0.1:{ports['recorded']}"]
    names = ["--client", client, "--broker", KAFKA, "--out", out]
    script = os.path.join(HERE, "record.py")
    process = subprocess.Popen([sys.executable, script, *addresses, *names])
    try:
        harness.wait_for_port(process, ports["proxy"], os.devnull)
        yield f"127.0.0.1:{ports['proxy']}"
        if process.poll() is not None:
            sys.exit(f"the recorder ended by itself with {process.returncode}: {client} is not captured to its end")
    finally:
        process.terminate()
        process.wait()


def files_of(folder):
    return set(os.listdir(folder)) if os.path.exists(folder) else set()


def keep_new(out, client):
    """Adds to the golden bytes what is in `out` and not yet among them, and tells what is there and was not met."""
    for speaker in (client, KAFKA):
        kept = files_of(os.path.join(GOLDEN, speaker))
        captured = files_of(os.path.join(out, speaker))
        os.makedirs(os.path.join(GOLDEN, speaker), exist_ok=True)
        for name in sorted(captured - kept):
            shutil.copy(os.path.join(out, speaker, name), os.path.join(GOLDEN, speaker))
            print(f"new: {speaker}/{name}")
        # Kafka's answers to the other clients are not met here.
        for name in sorted(kept - captured) if speaker == client else ():
            print(f"not met: {speaker}/{name}")


def main():
    failed = False
    for suite in sys.argv[1:] or CLIENTS:
        client = CLIENTS[suite]
        ports = {name: harness.free_port() for name in ("recorded", "proxy")}
        # Each has a Kafka of its own: one that is full of other suites' topics takes long to come back from a kill.
        with tempfile.TemporaryDirectory(prefix="golden-") as out, reference.kafka(LISTENERS, **ports):
            with recorder(ports, client, out) as bootstrap:
                script = os.path.join(os.path.dirname(HERE), "run.py")
                failed |= subprocess.run([sys.executable, script, "--bootstrap", bootstrap, suite]).returncode != 0
            keep_new(out, client)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
