#!/usr/bin/env python3
"""Runs Kafka's clients and tools against a broker and prints what passed: client, check, verdict, time.

Without --bootstrap it builds `chronik-server` and starts one for each suite, on a free loopback port and with a data folder
of its own, as many suites at a time as --jobs says; the suite `cluster` starts three of it, and is left out with --bootstrap
and --kafka. What a suite needs beyond the language's own tool (a virtual environment, Go and npm modules, Kafka's jars) is
installed once into target/compat.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor

# The sources' folders stay free of what Python would cache in them.
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import harness
import reference
from cluster import suite as cluster
from go import suite as go
from java import suite as java
from kcat import suite as kcat
from node import suite as node
from python import suite as python
from rdkafka import suite as rdkafka

# Those that take longest come first, so that none of them is left alone at the end.
SUITES = {"java": java, "cluster": cluster, "rdkafka": rdkafka, "python": python, "go": go, "node": node, "kcat": kcat}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", metavar="HOST:PORT", help="a broker that runs already")
    parser.add_argument("--server", metavar="FILE", help="the chronik-server to start; default: the debug build")
    parser.add_argument("--kafka", action="store_true", help="Apache Kafka instead, started here; it lets transactions in, and three checks fail that want them refused")
    parser.add_argument("--jobs", type=int, metavar="N", default=os.cpu_count(), help="suites at a time; default: one for each core")
    parser.add_argument("--install-only", action="store_true", help="fetch what the suites need, run nothing")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"default: all of {', '.join(SUITES)}")
    options = parser.parse_args()
    names = options.suites or list(SUITES)
    for name in names:
        if name not in SUITES:
            parser.error(f"no suite {name}: choose from {', '.join(SUITES)}")
    missing = [tool for name in names for tool in TOOLS[name] if not shutil.which(tool)]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}; .ci/run shows the packages")
    for name in names:
        if hasattr(SUITES[name], "prepare"):
            SUITES[name].prepare()
    if options.install_only:
        return 0
    table = harness.Table()
    # Topics of an earlier run on the same broker must not be met again.
    run_id = f"{int(time.time()) % 1_000_000}"

    def check_all(bootstrap):
        for name in names:
            if name != "cluster":
                SUITES[name].check_all(table, bootstrap, run_id)

    if options.bootstrap:
        check_all(options.bootstrap)
    elif options.kafka:
        with reference.kafka() as broker:
            check_all(broker.address)
    else:
        binary = options.server or harness.default_binary()
        # Processes and not threads: a suite tells its programs by the environment how to crash its broker. Not forked, so
        # that none of them holds what another one has open.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
            for done in [pool.submit(check_apart, name, binary, run_id) for name in names]:
                table.rows += done.result()
    print()
    print(table.summary())
    return 1 if table.failed else 0


def check_apart(name, binary, run_id):
    """The rows of one suite's table, against a broker of its own."""
    table = harness.Table()
    if name == "cluster":
        cluster.check_all(table, binary, run_id)
    else:
        with harness.chronik(binary, f"broker-{name}.log") as broker:
            SUITES[name].check_all(table, broker.address, run_id)
    return table.rows


TOOLS = {
    "kcat": ["kcat"],
    "rdkafka": ["cargo", "c++"],
    "python": ["python3"],
    "go": ["go"],
    "node": ["node", "npm"],
    "java": ["java", "javac", "mvn"],
    "cluster": ["kcat", "cargo", "c++", "python3", "go", "node", "npm", "java", "javac", "mvn"],
}

if __name__ == "__main__":
    sys.exit(main())
