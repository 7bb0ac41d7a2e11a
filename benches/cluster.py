#!/usr/bin/env python3
"""What replication costs: a broker by itself and a cluster of three, each loaded in turn with the same work.

    benches/cluster.py SERVER BENCH FOLDER [--rounds N] [--seconds S] [--json FILE]

SERVER and BENCH are release binaries of chronik-server and chronik-bench; FOLDER must be on the disk that is meant. The
work is 128 records of 256 bytes outstanding on one connection, one record a request, into one partition; in the cluster
it has two followers. All brokers and the client share this machine's processors, so throughput tells of the machine as
much as of replication: CPU per record, of all brokers together, is what replication costs. Printed are the medians, with
the lowest and the highest turn, and the ratios to the broker by itself.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

PORT = 19_492
START_TIMEOUT_S = 60
LOAD = ["--concurrency", "128", "--message-size", "256", "--warmup", "2s"]
# What is shown and how it is called in the JSON of all runs, where it is in the JSON of one, and its form.
COLUMNS = [
    ("records/s", "records_per_s", lambda told: told["records_per_s"], "{:,.0f}"),
    ("brokers' CPU, µs/record", "broker_cpu_us_per_record", lambda told: told["broker_cpu_us_per_record"], "{:.2f}"),
    ("p50, ms", "latency_p50_ms", lambda told: told["latency_us"]["p50"] / 1000, "{:.2f}"),
    ("p99, ms", "latency_p99_ms", lambda told: told["latency_us"]["p99"] / 1000, "{:.2f}"),
]


class Brokers:
    """Nodes that run until they are ended, and how many replicas a topic on them gets."""

    def __init__(self, server, folder, count):
        self.server, self.count = server, count
        raft = {node: PORT + 100 + node for node in range(1, count + 1)}
        self.bootstrap = f"127.0.0.1:{PORT + 1}"
        self.processes = []
        for node in range(1, count + 1):
            command = [server, "--kafka-port", str(PORT + node), "--bind", "127.0.0.1", "--log-level", "warn"]
            command += ["--advertised-addr", "127.0.0.1", "--data-dir", os.path.join(folder, str(node))]
            if count > 1:
                peers = ",".join(f"{other}@127.0.0.1:{port}" for other, port in raft.items() if other != node)
                command += ["--node-id", str(node), "raft-cluster", "--bootstrap", "--raft-addr"]
                command += [f"127.0.0.1:{raft[node]}", "--peers", peers]
            self.processes.append(subprocess.Popen(command))

    def wait_until_well(self):
        deadline = time.monotonic() + START_TIMEOUT_S
        status = [self.server, "cluster", "status", "--bootstrap-servers", self.bootstrap, "--timeout", "2"]
        while subprocess.run(status, capture_output=True).returncode != 0:
            if time.monotonic() > deadline:
                sys.exit(f"the brokers are not well within {START_TIMEOUT_S} s")
            time.sleep(0.1)

    def load(self, bench, acks, seconds):
        """What one run of the load comes to."""
        pids = ",".join(str(process.pid) for process in self.processes)
        command = [bench, "--bootstrap-servers", self.bootstrap, "--topic", f"load-{acks}", "--acks", acks, *LOAD]
        command += ["--replication-factor", str(self.count), "--duration", f"{seconds}s", "--server-pid", pids, "--json"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}\nexit {done.returncode}\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def running(server, folder, count):
    """So many brokers with empty folders, in sync."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    brokers = Brokers(server, folder, count)
    try:
        brokers.wait_until_well()
        yield brokers
    finally:
        brokers.end()
        shutil.rmtree(folder, ignore_errors=True)


def spread(values, form):
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{form.format(middle)} ({form.format(low)} to {form.format(high)})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", metavar="SERVER")
    parser.add_argument("bench", metavar="BENCH")
    parser.add_argument("folder", metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=5, help="how often each takes its turn (5)")
    parser.add_argument("--seconds", type=int, default=5, help="how long each turn is measured (5)")
    parser.add_argument("--json", metavar="FILE", help="also write the medians and ratios there")
    options = parser.parse_args()
    turns = {}
    for number in range(options.rounds):
        for nodes in (1, 3):
            with running(options.server, options.folder, nodes) as brokers:
                for acks in ("1", "all"):
                    told = brokers.load(options.bench, acks, options.seconds)
                    turns.setdefault((acks, nodes), []).append(told)
                    rate, cpu = told["records_per_s"], told["broker_cpu_us_per_record"]
                    line = f"round {number + 1}, {nodes} broker(s), acks={acks}: {rate:,.0f} records/s, {cpu:.2f} µs/record"
                    print(line, file=sys.stderr, flush=True)
    print("| acks, brokers | " + " | ".join(title for title, _, _, _ in COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for (acks, nodes), told in sorted(turns.items()):
        cells = [spread([of(one) for one in told], form) for _, _, of, form in COLUMNS]
        print(f"| {acks}, {nodes} | " + " | ".join(cells) + " |")
    medians = []
    for acks in ("1", "all"):
        row = {"acks": acks, "rounds": options.rounds}
        for _, name, of, _ in COLUMNS:
            alone, three = (statistics.median(of(one) for one in turns[acks, nodes]) for nodes in (1, 3))
            row[name] = {"alone": alone, "three": three, "ratio": three / alone}
        medians.append(row)
        print(f"| {acks}, 3 to 1 | " + " | ".join(f"{row[name]['ratio']:.2f}" for _, name, _, _ in COLUMNS) + " |")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(medians, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
