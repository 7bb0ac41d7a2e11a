#!/usr/bin/env python3
"""What idle-ish groups cost a standalone broker: 5,000 groups that commit 20 times a second in all, for a minute.

    load_groups.py [--server FILE] [--kafka] [--groups 5000] [--rate 20] [--seconds 60]

Every group has one partition of a topic and commits in turn, with no member, as administrators and stream processors
do that assign partitions themselves. Prints the broker's processor time and memory before the groups are made, after,
and over the time of steady commits. Linux only: it reads /proc.
"""

import argparse
import os
import socket
import struct
import sys
import time

# The sources' folders stay free of what Python would cache in them.
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import harness
import reference

CREATE_TOPICS, OFFSET_COMMIT, FIND_COORDINATOR = 19, 8, 10
TOPIC = "load"
PARTITIONS = 100


class Connection:
    """A connection that sends one request after the other, in versions whose lengths and strings are not compact."""

    def __init__(self, address):
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, api, version, body):
        header = struct.pack(">hhi", api, version, 1) + text("load")
        self.socket.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
        return self.exactly(struct.unpack(">i", self.exactly(4))[0])[4:]

    def exactly(self, count):
        read = b""
        while len(read) < count:
            part = self.socket.recv(count - len(read))
            if not part:
                sys.exit("the broker closed the connection")
            read += part
        return read


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


def create_topic(connection):
    topic = text(TOPIC) + struct.pack(">ihii", PARTITIONS, 1, 0, 0)
    connection.ask(CREATE_TOPICS, 2, struct.pack(">i", 1) + topic + struct.pack(">ib", 20_000, 0))


def await_coordinators(connection, groups):
    """Until the topic of offsets is there and led, which the first to ask brings about."""
    for group in groups:
        while struct.unpack(">h", connection.ask(FIND_COORDINATOR, 0, text(group))[:2])[0]:
            time.sleep(0.1)


def commit(connection, number, offset):
    """The error code of a commit by a group without members (OffsetCommit v2)."""
    partition = struct.pack(">iiq", 1, number % PARTITIONS, offset) + text("")
    body = text(f"group-{number}") + struct.pack(">i", -1) + text("") + struct.pack(">qi", -1, 1) + text(TOPIC) + partition
    return struct.unpack(">h", connection.ask(OFFSET_COMMIT, 2, body)[-2:])[0]


def commit_surely(connection, number, offset):
    # A coordinator that was just made, or a topic, may not be known everywhere at once.
    for _ in range(200):
        error = commit(connection, number, offset)
        if not error:
            return
        time.sleep(0.05)
    sys.exit(f"group {number}: error {error}")


def usage(pid):
    """Processor time in seconds, and resident memory in MiB."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    ticks = int(fields[11]) + int(fields[12])
    pages = int(open(f"/proc/{pid}/statm").read().split()[1])
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", metavar="FILE", help="the chronik-server to start")
    parser.add_argument("--kafka", action="store_true", help="Apache Kafka instead, from the jars of the java suite")
    parser.add_argument("--groups", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=20, help="commits a second in all")
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    if not options.kafka and not options.server:
        parser.error("--server or --kafka")
    own = reference.kafka() if options.kafka else harness.chronik(options.server)
    with own as broker:
        connection, pid = Connection(broker.address), broker.process.pid
        create_topic(connection)
        await_coordinators(connection, [f"group-{number}" for number in range(0, options.groups, 100)])
        cpu, memory = usage(pid)
        print(f"before: {memory:.0f} MiB, {cpu:.2f} s of processor time since the start", flush=True)
        begun = time.monotonic()
        for number in range(options.groups):
            commit_surely(connection, number, 0)
        cpu_filled, memory = usage(pid)
        took = time.monotonic() - begun
        print(f"{options.groups} groups in {took:.1f} s: {memory:.0f} MiB, {cpu_filled - cpu:.2f} s of processor time", flush=True)
        latencies, count = [], int(options.rate * options.seconds)
        begun, (cpu, _) = time.monotonic(), usage(pid)
        for turn in range(count):
            time.sleep(max(0.0, begun + turn / options.rate - time.monotonic()))
            asked = time.monotonic()
            commit_surely(connection, turn * 7919 % options.groups, turn)
            latencies.append(time.monotonic() - asked)
        took = time.monotonic() - begun
        cpu_end, memory = usage(pid)
        share = 100 * (cpu_end - cpu) / took
        latencies.sort()
        print(f"{count} commits in {took:.0f} s: {memory:.0f} MiB, {share:.2f} % of one processor")
        print(f"latency of a commit: median {1000 * latencies[count // 2]:.2f} ms, 99th {1000 * latencies[count * 99 // 100]:.2f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
