"""A client that writes numbered records all the while, whatever happens to the nodes."""

import bisect
import contextlib
import os
import random
import re
import subprocess
import threading
import time

from cluster.nodes import HEAL_TIMEOUT_S
from harness import Failed

# Records a second.
RATE = 100
# Bytes of a record, most of them small.
SMALL, LARGE, LARGE_EVERY = 100, 20_000, 50


class Writer:
    """A kcat that writes to one partition, what it was given and when, and what it was told and when."""

    def __init__(self, bootstrap, topic, partition, folder, seed, options):
        """`seed` makes the sizes of its records, `options` are librdkafka's."""
        self.partition, self.random = partition, random.Random(f"{seed} {partition}")
        self.sent_at, self.acked_at, self.offsets, self.complaints = [], [], [], []
        self.ends = threading.Event()
        command = ["kcat", "-E", "-P", "-vv", "-b", bootstrap, "-t", topic, "-p", str(partition)]
        command += [part for name, value in options.items() for part in ("-X", f"{name}={value}")]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, bufsize=1
        )
        self.log = open(os.path.join(folder, f"writer-{partition}.log"), "w")
        self.threads = [threading.Thread(target=body, daemon=True) for body in (self.write, self.listen)]
        for thread in self.threads:
            thread.start()

    def write(self):
        """Feeds it at an even rate. It never stops for a missing acknowledgement: kcat hears of those only as it reads
        its next line."""
        next_at = time.monotonic()
        with contextlib.suppress(BrokenPipeError):
            while not self.ends.wait(max(0.0, next_at - time.monotonic())):
                next_at += 1 / RATE
                size = LARGE if self.random.randrange(LARGE_EVERY) == 0 else self.random.randrange(1, SMALL)
                line = f"{len(self.sent_at)} {'x' * size}\n"
                self.sent_at.append(time.monotonic())
                self.process.stdin.write(line)
            self.process.stdin.close()

    def listen(self):
        """Acknowledgements come in the order of the records, as idempotence has it: the first tells of the first."""
        for line in self.process.stderr:
            told = re.match(r"% Message delivered to partition (\d+) \(offset (-?\d+)\)", line)
            if told:
                self.acked_at.append(time.monotonic())
                self.offsets.append(int(told.group(2)))
            else:
                if "Delivery failed" in line:
                    self.complaints.append(line.strip())
                self.log.write(line)
                self.log.flush()

    def finish(self):
        """Waits until everything is acknowledged."""
        self.ends.set()
        code = self.process.wait(timeout=HEAL_TIMEOUT_S)
        for thread in self.threads:
            thread.join()
        if code != 0 or self.complaints or len(self.acked_at) != len(self.sent_at):
            of = f"{len(self.acked_at)} of {len(self.sent_at)} acknowledged"
            raise Failed(f"the writer of partition {self.partition} ended with {code}, {of}: {self.complaints[:3]}")

    def end(self):
        """Whatever is still to be acknowledged."""
        self.process.kill()
        self.process.wait()

    def wait_after(self, moment):
        """How long after `moment` a record was acknowledged that was written after it, in seconds."""
        index = bisect.bisect_left(self.sent_at, moment)
        return self.acked_at[index] - moment if index < len(self.acked_at) else None


def wait_until_calm(cluster, writers):
    """All is in sync, and every writer gets on: a node that was killed a moment ago may not have been missed yet."""
    cluster.wait_until_well()
    begun = time.monotonic()
    for writer in writers:
        while writer.wait_after(begun) is None:
            if time.monotonic() > begun + HEAL_TIMEOUT_S:
                raise Failed(f"partition {writer.partition} took nothing for {HEAL_TIMEOUT_S} s, and all is well")
            time.sleep(0.02)
    cluster.wait_until_well()
