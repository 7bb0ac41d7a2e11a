#!/usr/bin/env python3
"""What the core does for one request on each of its most taken paths, counted in instructions.

    benches/instructions.py             counts, and compares with benches/instructions.json
    benches/instructions.py --write     keeps what it counted there

A path that takes over 3 % more instructions than the file says ends with exit code 1: either that is a mistake, or what it
buys is worth it, and the new count belongs into the same commit. Needs valgrind. Counts hold for one compiler, one C
library and one set of instructions, by which both choose how they copy and sum up: the file names them, and where one is
another nothing is compared.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import platform
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEPT = ROOT / "benches" / "instructions.json"
LIMIT_PERCENT = 3
# Enough that what a round does now and then, such as a segment's roll, is spread over many.
ROUNDS = {"produce-1mb": (10, 40), "fetch-segment": (10, 40)}
ROUNDS_ELSE = (100, 500)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--write", action="store_true", help="keep what was counted")
    arguments.add_argument("paths", nargs="*", help="only these paths")
    arguments = arguments.parse_args()
    bench = build()
    names = subprocess.run([bench, "--names"], check=True, capture_output=True, text=True).stdout.split()
    wanted = arguments.paths or names
    if unknown := set(wanted) - set(names):
        sys.exit(f"no such path: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        counted = dict(zip(wanted, threads.map(lambda name: count(bench, name), wanted)))
    counted_with = tools()
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {"with": counted_with, "instructions": {}}
    is_comparable = kept["with"] == counted_with
    worse = []
    print(f"{'path':<28} {'instructions':>14} {'kept':>14} {'change':>8}")
    for name, instructions in counted.items():
        before = kept["instructions"].get(name)
        change = 100 * (instructions - before) / before if before else 0
        told = f"{before:>14,} {change:>+7.1f}%" if before else f"{'none':>14}"
        print(f"{name:<28} {instructions:>14,} {told}")
        if is_comparable and change > LIMIT_PERCENT:
            worse.append(name)
    if arguments.write:
        instructions = {**kept["instructions"], **counted} if is_comparable else counted
        instructions = {name: instructions[name] for name in names if name in instructions}
        KEPT.write_text(json.dumps({"with": counted_with, "instructions": instructions}, indent=2) + "\n")
    elif not is_comparable:
        print(f"counted with {counted_with}, kept with {kept['with']}: nothing is compared")
    elif worse:
        sys.exit(f"over {LIMIT_PERCENT} % more instructions than {KEPT.relative_to(ROOT)} has: {', '.join(worse)}")


def tools():
    """What a count depends on beside the code. valgrind shows a program nothing that is newer than AVX2."""
    compiler = subprocess.run(["rustc", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    shown = [flag for flag in ("sse4_2", "pclmulqdq", "avx2", "bmi2") if flag in flags]
    return " · ".join([compiler, " ".join(platform.libc_ver()), " ".join([platform.machine(), *shown])])


def build():
    """The bench, without the linker's optimisation: it takes minutes, and moves all counts alike."""
    environment = {**os.environ, "CARGO_PROFILE_BENCH_LTO": "off"}
    command = ["cargo", "bench", "--package", "chronik-bench", "--bench", "paths", "--no-run", "--message-format", "json"]
    made = subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True).stdout
    for line in made.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "paths":
            return message["executable"]
    sys.exit("cargo made no bench")


def count(bench, name):
    """Instructions for one request: what more rounds take more."""
    few, many = ROUNDS.get(name, ROUNDS_ELSE)
    (least, requests), (most, _) = (run(bench, name, rounds) for rounds in (few, many))
    return round((most - least) / (many - few) / requests)


def run(bench, name, rounds):
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", bench, name, str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True)
    total = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or not total:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return int(total[1]), int(done.stdout)


if __name__ == "__main__":
    main()
