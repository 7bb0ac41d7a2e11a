#!/usr/bin/env python3
"""How long a client waits when the node is gone that led its partition: three nodes and a kcat, both with their defaults.

A hundred records a second go to one partition with three replicas. Its leader gets SIGKILL, or SIGTERM with --stop; what
is measured is the time from then until everything that was written before and one record that was written after it are
acknowledged. The node is started again, and when all is in sync and written to, the next leader follows. Printed are
each wait, and of all of them median, least and worst.
"""

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time

# The sources' folders stay free of what Python would cache in them.
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import harness
from cluster.nodes import HEAL_TIMEOUT_S, Cluster
from cluster.writer import Writer, wait_until_calm
from harness import Failed

TOPIC = "failover"


def wait_without_leader(cluster, writer, number):
    """Ends the leader of the writer's partition by a signal, and gives it and the wait in seconds."""
    victim = cluster.leaders(TOPIC)[writer.partition]
    begun = time.monotonic()
    cluster.signal(victim, number)
    while (wait := writer.wait_after(begun)) is None:
        if time.monotonic() > begun + HEAL_TIMEOUT_S:
            raise Failed(f"nothing was acknowledged for {HEAL_TIMEOUT_S} s")
        time.sleep(0.005)
    cluster.nodes[victim].process.wait(timeout=cluster.nodes[victim].stop_timeout_s)
    return victim, wait


def measure(cluster, options, folder):
    cluster.make_topic(TOPIC, 1)
    writer = Writer(cluster.bootstrap, TOPIC, 0, folder, options.seed, {})
    kind = "stopped" if options.stop else "killed"
    waits = []
    try:
        for number in range(options.count):
            wait_until_calm(cluster, [writer])
            victim, wait = wait_without_leader(cluster, writer, signal.SIGTERM if options.stop else signal.SIGKILL)
            print(f"{number + 1:>4}  node {victim} {kind}: {wait:.2f} s", flush=True)
            waits.append(wait)
            cluster.nodes[victim].start()
        wait_until_calm(cluster, [writer])
        writer.finish()
    finally:
        writer.end()
    median, least, worst = statistics.median(waits), min(waits), max(waits)
    print(f"leader {kind}, {len(waits)} times: median {median:.2f} s, least {least:.2f} s, worst {worst:.2f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", metavar="COUNT", type=int, help="how often")
    parser.add_argument("--stop", action="store_true", help="SIGTERM: the leader is stopped in order")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="of the records' sizes")
    parser.add_argument("--server", metavar="FILE", help="the chronik-server to start; default: the debug build")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="a setting of every node")
    options = parser.parse_args()
    if not shutil.which("kcat"):
        sys.exit("not installed: kcat")
    folder = os.path.join(harness.CACHE, f"failover-{os.getpid()}")
    os.makedirs(folder)
    settings = dict(setting.split("=", 1) for setting in options.set)
    try:
        with Cluster(options.server or harness.default_binary(), folder, settings).running() as cluster:
            measure(cluster, options, folder)
    except (Failed, subprocess.TimeoutExpired) as failure:
        sys.exit(f"FAILED: {failure}\ndata and logs: {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
