"""librdkafka in its current version, through the Rust crate of that name: the tests of the package chronik-compat."""

import os
import re
import signal
import subprocess
import threading
import time

from harness import PROGRAM_TIMEOUT_S, ROOT, must

COMMAND = ["cargo", "test", "--quiet", "--package", "chronik-compat", "--test"]
# The tests, and what their rows in the table are called.
TESTS = {"librdkafka": "librdkafka", "groups": "librdkafka groups"}


def prepare():
    for test in TESTS:
        must([*COMMAND, test, "--no-run"], cwd=ROOT)


def check_all(table, bootstrap, run_id):
    for test, client in TESTS.items():
        check(table, bootstrap, test, client)


def check(table, bootstrap, test, client, only=""):
    """`only` is a part of the names of the tests that are run."""
    environment = {**os.environ, "CHRONIK_TEST_BOOTSTRAP": bootstrap, "RUST_BACKTRACE": "0"}
    # One after another, so that the time between two lines is that of one test.
    arguments = [part for part in COMMAND if part != "--quiet"] + [test, only, "--", "--test-threads", "1"]
    # In a session of its own, so that one signal ends cargo and the tests.
    with subprocess.Popen(
        arguments, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as tests:
        late = threading.Timer(PROGRAM_TIMEOUT_S, os.killpg, [tests.pid, signal.SIGKILL])
        late.start()
        begun, failed, rest = time.monotonic(), [], []
        try:
            for line in tests.stdout:
                rest.append(line)
                finished = re.match(r"test (\w+) \.\.\. (ok|FAILED)", line)
                if not finished:
                    if line.startswith("running"):
                        begun = time.monotonic()
                    continue
                claim, seconds = finished.group(1).replace("_", " "), time.monotonic() - begun
                begun = time.monotonic()
                if finished.group(2) == "ok":
                    table.add(client, claim, seconds)
                else:
                    failed.append((claim, seconds))
        except KeyboardInterrupt:
            os.killpg(tests.pid, signal.SIGKILL)
            raise
        finally:
            late.cancel()
    details = "".join(rest)
    for claim, seconds in failed:
        stdout = re.search(rf"---- {claim.replace(' ', '_')} stdout ----\n(.*?)(\n\n|$)", details, re.S)
        table.add(client, claim, seconds, stdout.group(1) if stdout else "failed")
    if tests.returncode != 0 and not failed:
        # The test that was killed for taking too long is the last one named.
        table.add(client, "runs to its end", 0.0, f"exit {tests.returncode}\n{details[-4000:]}")
