#!/usr/bin/env python3
"""Captures golden bytes: runs every suite through the recording proxy against Apache Kafka.

    capture.py [SUITE ...]

The frames go to core/tests/golden, a folder per client for its requests and one for Kafka's responses; folders of the
suites that run are made anew. Kafka itself comes from the jars that the java suite uses.
"""

import contextlib
import os
import shutil
import subprocess
import sys

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
def recorder(ports, client):
    shutil.rmtree(os.path.join(GOLDEN, client), ignore_errors=True)
    addresses = ["--listen", f"127.0.0.1:{ports['proxy']}", "--upstream", f"127.0.0.1:{ports['recorded']}"]
    names = ["--client", client, "--broker", KAFKA, "--out", GOLDEN]
    script = os.path.join(HERE, "record.py")
    process = subprocess.Popen([sys.executable, script, *addresses, *names])
    try:
        harness.wait_for_port(process, ports["proxy"], os.devnull)
        yield f"127.0.0.1:{ports['proxy']}"
    finally:
        process.terminate()
        process.wait()


def main():
    suites = sys.argv[1:] or list(CLIENTS)
    ports = {name: harness.free_port() for name in ("recorded", "proxy")}
    if set(suites) == set(CLIENTS):
        shutil.rmtree(GOLDEN, ignore_errors=True)
    failed = False
    with reference.kafka(LISTENERS, **ports):
        for suite in suites:
            with recorder(ports, CLIENTS[suite]) as bootstrap:
                command = [sys.executable, os.path.join(os.path.dirname(HERE), "run.py"), "--bootstrap", bootstrap, suite]
                failed |= subprocess.run(command).returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
