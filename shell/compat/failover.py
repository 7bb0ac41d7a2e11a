#!/usr/bin/env python3
"""How long a client waits when the node is gone that led its partition: three nodes and a kcat, both with their defaults.

A hundred records a second go to one partition with three replicas. Each node in turn is made its leader, and gets SIGKILL,
or SIGTERM with --stop; what is measured is the time from then until everything that was written before and one record
that was written after it are acknowledged. The node is started again, and when all is in sync and written to, and the
client has had the time to find its way back to every node, the next one follows. Printed are each wait, and of all of
them median, least and worst.
"""

import argparse
import os
import random
import re
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
from cluster.nodes import HEAL_TIMEOUT_S, NODES, Cluster
from cluster.writer import Writer, wait_until_calm
from harness import Failed, output

TOPIC = "failover"
# Between a restart and the next fault. A client leaves a node alone that was gone, librdkafka for up to 10 s; where that
# one is the next leader, the wait would tell of the fault before.
PAUSE_S = 12


def have_lead(cluster, node, partition):
    output([cluster.binary, "cluster", "move-leader", TOPIC, str(partition), str(node), "--bootstrap-servers", cluster.bootstrap])
    deadline = time.monotonic() + HEAL_TIMEOUT_S
    while cluster.leaders(TOPIC)[partition] != node:
        if time.monotonic() > deadline:
            raise Failed(f"node {node} does not lead partition {partition} within {HEAL_TIMEOUT_S} s")
        time.sleep(0.1)


def controller(cluster):
    """The node that leads the metadata."""
    told = output([cluster.binary, "cluster", "status", "--bootstrap-servers", cluster.bootstrap])
    return int(re.search(r"controller node (\d+)", told).group(1))


def wait_without_leader(cluster, writer, victim, number):
    """Ends the leader of the writer's partition by a signal, and gives the wait in seconds."""
    begun = time.monotonic()
    cluster.signal(victim, number)
    while (wait := writer.wait_after(begun)) is None:
        if time.monotonic() > begun + HEAL_TIMEOUT_S:
            raise Failed(f"nothing was acknowledged for {HEAL_TIMEOUT_S} s")
        time.sleep(0.005)
    cluster.wait_for_end(victim)
    return wait


def measure(cluster, options, folder):
    cluster.make_topic(TOPIC, 1)
    writer = Writer(cluster.bootstrap, TOPIC, 0, folder, options.seed, {})
    kind = "stopped" if options.stop else "killed"
    waits = []
    try:
        for number in range(options.count):
            victim = NODES[number % len(NODES)]
            have_lead(cluster, victim, writer.partition)
            wait_until_calm(cluster, [writer])
            role = ", which led the metadata as well" if controller(cluster) == victim else ""
            wait = wait_without_leader(cluster, writer, victim, signal.SIGTERM if options.stop else signal.SIGKILL)
            print(f"{number + 1:>4}  node {victim} {kind}{role}: {wait:.2f} s", flush=True)
            waits.append(wait)
            cluster.start_again(victim)
            time.sleep(PAUSE_S)
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
