#!/usr/bin/env python3
"""Three real nodes under load that are killed, frozen, cut off, stopped and started in turn, and what is left is judged.

For each partition a kcat writes numbered records with acks=all and idempotence, all the while; another reads them as a
group. From a seed, nodes get SIGKILL, SIGSTOP (and SIGCONT later) or SIGTERM, one at a time or all together; or a node
is cut off from the others (cut), hears neither of them while they hear it (deaf), or two of them are cut off from each
other and not from the third (apart), while clients still reach all. Between faults a cluster that is well must take
records in every partition. At the end:

  acknowledged    every acknowledged record is at the offset that was told
  once, in order  each partition holds its records once and in the order of writing, whichever replica is read
  group           the group has read every record
  in sync         every node serves and every replica is in sync again

What is printed last is how long writers waited for an acknowledgement after each kind of fault. Data, logs and records
of a run that failed stay in the folder that is named; a run that was well leaves nothing behind.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time

# The sources' folders stay free of what Python would cache in them.
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import harness
from cluster.nodes import HEAL_TIMEOUT_S, NODES, Cluster, rack
from cluster.writer import Writer, wait_until_calm
from harness import Failed, expect, run

TOPIC = "chaos"
GROUP = "chaos"
PARTITIONS = 6
# How each partition's writer asks. What nobody acknowledges during a fault is kept, not dropped.
WRITER = {
    "acks": "all",
    "enable.idempotence": "true",
    "linger.ms": "2",
    "message.timeout.ms": "0",
    "queue.buffering.max.messages": "1000000",
    # What is measured is the cluster, not how long a client leaves a broker alone that was gone. Asking for metadata more
    # often would do that too, and meet a race of librdkafka: told of two leaders within a moment, as when a frozen node
    # thaws, it may write to the wrong one for ever (its issue 4976).
    "reconnect.backoff.max.ms": "250",
}
# Every node's settings, `--set` goes on top. Faults come every few seconds, so a silent node is missed sooner than the
# default of 9 s says, and well after the pauses of a busy machine.
SETTINGS = {
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "replica.lag.time.max.ms": "4000",
    # Consumers are sent to the replica in their rack: that is how each node's copy is read.
    "replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector",
    "num.partitions": str(PARTITIONS),
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
}
# A pause after a fault, and how long a frozen or killed node stays away; some outlast the session, some do not.
PAUSE_S = (0.0, 3.0)
AWAY_S = (0.1, 8.0)
# How often the next fault waits until everything is in sync again. Otherwise it meets a cluster that still recovers.
CALM = 0.7

KINDS = {"kill": 6, "freeze": 4, "stop": 3, "kill-two": 1, "kill-all": 2, "cut": 4, "deaf": 1, "apart": 2}
# How many nodes a fault meets, where that is not one.
VICTIMS = {"kill-two": 2, "kill-all": 3, "apart": 2}
# Which node does not reach which, of a fault with these victims.
GATES = {
    "cut": lambda victims: [(one, other) for one in NODES for other in NODES if (one in victims) != (other in victims)],
    "deaf": lambda victims: [(other, victim) for victim in victims for other in NODES if other != victim],
    "apart": lambda victims: [(one, other) for one in victims for other in victims if one != other],
}


class Member:
    """A kcat that reads everything as the only member of a group, and the next one where it gives up."""

    def __init__(self, bootstrap, folder):
        self.seen = os.path.join(folder, "group.txt")
        self.log = os.path.join(folder, "group.log")
        self.command = ["kcat", "-E", "-u", "-G", GROUP, "-b", bootstrap, "-X", "auto.offset.reset=earliest"]
        self.command += ["-X", "session.timeout.ms=6000", "-f", "%p %s\n", TOPIC]
        open(self.seen, "w").close()
        self.process, self.ends = None, threading.Event()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        while not self.ends.is_set():
            with open(self.seen, "a") as out, open(self.log, "a") as log:
                self.process = subprocess.Popen(self.command, stdout=out, stderr=log)
            while self.process.poll() is None and not self.ends.wait(0.1):
                pass
        self.process.kill()
        self.process.wait()

    def end(self):
        self.ends.set()
        self.thread.join()

    def check(self, writers):
        """The group has seen every record. It may see some again, after a rebalance."""
        deadline = time.monotonic() + HEAL_TIMEOUT_S
        missing = {writer.partition: set(range(len(writer.sent_at))) for writer in writers}
        with open(self.seen) as file:
            rest = ""
            while any(missing.values()):
                lines = (rest + file.read()).split("\n")
                rest = lines.pop()
                for line in lines:
                    partition, number = line.split(" ", 2)[:2]
                    missing[int(partition)].discard(int(number))
                if time.monotonic() > deadline:
                    some = {partition: (len(left), sorted(left)[:5]) for partition, left in missing.items() if left}
                    raise Failed(f"not read by the group in {HEAL_TIMEOUT_S} s, by partition (count, first): {some}")
                time.sleep(0.1)


class Fault:
    """One thing done to the cluster, and when."""

    def __init__(self, number, kind, victims, away_s, leaders):
        self.number, self.kind, self.victims, self.away_s, self.leaders = number, kind, victims, away_s, leaders
        self.at = None

    def __str__(self):
        return f"{self.number:>4} {self.kind:<8} node {','.join(map(str, self.victims)):<5} for {self.away_s:.1f} s"

    def happen(self, cluster):
        self.at = time.monotonic()
        if self.kind in GATES:
            self.shut_gates(cluster)
        else:
            self.send_signals(cluster)
        cluster.check_running(NODES)

    def shut_gates(self, cluster):
        cluster.gates.close(GATES[self.kind](self.victims))
        time.sleep(self.away_s)
        cluster.gates.open()

    def send_signals(self, cluster):
        number = {"freeze": signal.SIGSTOP, "stop": signal.SIGTERM}.get(self.kind, signal.SIGKILL)
        for node in self.victims:
            cluster.signal(node, number)
        if self.kind != "freeze":
            for node in self.victims:
                code = cluster.wait_for_end(node)
                if self.kind == "stop" and code != 0:
                    raise Failed(f"node {node} was stopped in order and ended with {code}")
        time.sleep(self.away_s)
        for node in self.victims:
            if self.kind == "freeze":
                cluster.signal(node, signal.SIGCONT)
            else:
                cluster.start_again(node)


def draw(rng, number, kinds, leaders):
    kind = rng.choices(kinds, [KINDS[kind] for kind in kinds])[0]
    count = VICTIMS.get(kind, 1)
    # The longer the more rarely, so that many come back before anybody has missed them.
    away_s = AWAY_S[0] + (AWAY_S[1] - AWAY_S[0]) * rng.random() ** 2
    return Fault(number, kind, sorted(rng.sample(NODES, count)), away_s, leaders)


def torment(cluster, writers, seed, kinds, minutes):
    """The faults, until the time is over."""
    rng = random.Random(seed)
    faults = []
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        calm = rng.random() < CALM
        if calm:
            wait_until_calm(cluster, writers)
        else:
            time.sleep(rng.uniform(*PAUSE_S))
        fault = draw(rng, len(faults), kinds, cluster.leaders(TOPIC) if calm else {})
        faults.append(fault)
        print(f"{time.strftime('%H:%M:%S', time.gmtime())}  {fault}", flush=True)
        fault.happen(cluster)
    return faults


def check_partition(cluster, writer, node, folder):
    """What the replica of a partition on a node holds."""
    command = ["kcat", "-C", "-q", "-e", "-b", cluster.bootstrap, "-t", TOPIC, "-p", str(writer.partition)]
    command += ["-o", "beginning", "-X", f"client.rack={rack(node)}", "-f", "%o %s\n"]
    done = run(command, timeout=HEAL_TIMEOUT_S)
    found = [tuple(map(int, line.split(" ", 2)[:2])) for line in done.stdout.splitlines()]
    with open(os.path.join(folder, f"read-{writer.partition}-node-{node}.txt"), "w") as file:
        file.writelines(f"{offset} {number}\n" for offset, number in found)
    if done.returncode != 0:
        raise Failed(f"reading partition {writer.partition}: exit {done.returncode}\n{done.stderr[-1500:]}")
    where = f"partition {writer.partition} by way of node {node}"
    at = dict(found)
    for number, offset in enumerate(writer.offsets):
        # A repeat of what is there already may be acknowledged without its offset.
        if offset >= 0 and at.get(offset) != number:
            raise Failed(f"{where}: record {number}, acknowledged at offset {offset}, where {at.get(offset)} is")
    numbers = [number for _, number in found]
    for index, number in enumerate(numbers):
        if number != index:
            around = found[max(0, index - 3) : index + 4]
            raise Failed(f"{where}: record {index} was to come, {number} is there: {around}")
    expect(len(numbers), len(writer.sent_at), f"{where}: records")


def waits(faults, writers):
    """How long writers waited after each kind of fault, of those that met a cluster that was whole, and were over when
    the next one came: a row for the partitions that the victim led, and one for the others."""
    rows = {}
    for fault, following in zip(faults, faults[1:] + [None]):
        for writer in writers:
            leader = fault.leaders.get(writer.partition)
            wait = writer.wait_after(fault.at)
            if leader is None or wait is None or (following and fault.at + wait >= following.at):
                continue
            role = "led" if leader in fault.victims else "followed"
            rows.setdefault((fault.kind, role), []).append((wait, fault.number, writer.partition))
    lines = [f"{'fault':<9} {'partitions':<10} {'count':>5} {'median':>8} {'worst':>8}  until the next acknowledgement"]
    for (kind, role), found in sorted(rows.items()):
        median = statistics.median(wait for wait, _, _ in found)
        worst, number, partition = max(found)
        where = f"fault {number}, partition {partition}"
        lines.append(f"{kind:<9} {role:<10} {len(found):>5} {median:>6.2f} s {worst:>6.2f} s  the worst: {where}")
    return "\n".join(lines)


def chaos(options, folder):
    settings = {**SETTINGS, **dict(setting.split("=", 1) for setting in options.set)}
    with Cluster(options.server or harness.default_binary(), folder, settings, gates=True).running() as cluster:
        cluster.make_topic(TOPIC, PARTITIONS)
        with contextlib.ExitStack() as clients:
            torment_and_judge(cluster, clients, options, folder)
    names = ("broker.session.timeout.ms", "replica.lag.time.max.ms")
    print(", ".join(f"{name} {settings[name]}" for name in names))


def torment_and_judge(cluster, clients, options, folder):
    """`clients` ends whatever is started here."""
    writers = []
    for partition in range(PARTITIONS):
        writers.append(Writer(cluster.bootstrap, TOPIC, partition, folder, options.seed, WRITER))
        clients.callback(writers[-1].end)
    member = Member(cluster.bootstrap, folder)
    clients.callback(member.end)
    faults = torment(cluster, writers, options.seed, options.only or list(KINDS), options.minutes)
    healing = time.monotonic()
    cluster.wait_until_well()
    for writer in writers:
        writer.finish()
    print(f"all in sync and acknowledged {time.monotonic() - healing:.1f} s after the last fault", flush=True)
    for writer in writers:
        for node in NODES:
            check_partition(cluster, writer, node, folder)
    member.check(writers)
    cluster.wait_until_well()
    count = sum(len(writer.sent_at) for writer in writers)
    print(f"{len(faults)} faults, {count} records: none missing, none twice, all in order, on every node\n")
    print(waits(faults, writers))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minutes", metavar="MINUTES", type=float, help="how long nodes are tormented")
    parser.add_argument("--seed", type=int, help="the same faults in the same order again; default: drawn, and printed")
    parser.add_argument("--server", metavar="FILE", help="the chronik-server to start; default: the debug build")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="a setting of every node")
    parser.add_argument("--only", metavar="KIND", choices=KINDS, action="append", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--keep", action="store_true", help="leave data, logs and records of a run that was well, too")
    options = parser.parse_args()
    if not shutil.which("kcat"):
        sys.exit("not installed: kcat")
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 32)
    folder = os.path.join(harness.CACHE, f"chaos-{options.seed}-{os.getpid()}")
    os.makedirs(folder)
    print(f"seed {options.seed}, in {folder}", flush=True)
    try:
        chaos(options, folder)
    except (Failed, subprocess.TimeoutExpired) as failure:
        sys.exit(f"FAILED: {failure}\nseed {options.seed}; data, logs and records: {folder}")
    if not options.keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
