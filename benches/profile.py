#!/usr/bin/env python3
"""Where the broker spends its time under one row of `just bench`: a flame graph, and the functions that take most.

    benches/profile.py [--row PART_OF_A_NAME] [--seconds S] [--server BINARY]

It builds the broker with frame pointers, by which stacks are told, into target/profile, and leaves `flame.svg` and
`perf.data` there. Needs perf, and may be run by who may record the processes that he starts (kernel.perf_event_paranoid).
Only what is on a processor counts: waiting for the disk does not.
"""

import argparse
import collections
import html
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = ROOT / "target"
FOLDER = TARGET / "profile"
INSTALL = "perf is not installed: apt install linux-perf (Debian), apt install linux-tools-generic (Ubuntu), dnf install perf"
WIDTH, LINE, LETTER = 1600, 17, 6.6
# Narrower than this a frame could not be seen.
PIXELS_MIN = 0.4
TOP = 40


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", default="1 connection", help="part of a row's name; the first that has it (1 connection)")
    parser.add_argument("--seconds", type=int, default=10, help="how long it is recorded (10)")
    parser.add_argument("--server", metavar="BINARY", help="a broker that is built already, with frame pointers")
    options = parser.parse_args()
    if not shutil.which("perf"):
        sys.exit(INSTALL)
    server = options.server or build("chronik-server", FOLDER, "-C force-frame-pointers=yes")
    bench = build("chronik-bench", TARGET)
    floor = [ROOT / "benches" / "floor" / "run.sh", "--build"]
    subprocess.run(floor, check=True, env={**os.environ, "CARGO_TARGET_DIR": str(TARGET)})
    recorded, drawn = FOLDER / "perf.data", FOLDER / "flame.svg"
    command = [bench, "compare", "--server-bin", server, "--floor", TARGET / "floor" / "nullbroker", "--perf", recorded]
    # A comma would begin another name.
    command += ["--work-dir", FOLDER / "work", "--rows", options.row.partition(",")[0], "--rounds", "1"]
    if subprocess.run([*command, "--duration", f"{options.seconds}s"]).returncode != 0:
        sys.exit("nothing is recorded; where perf may not, `sysctl kernel.perf_event_paranoid=1` lets it")
    script = ["perf", "script", "--input", recorded, "--no-inline", "--fields", "comm,event,ip,sym"]
    told = subprocess.run(script, check=True, capture_output=True, text=True, errors="replace").stdout
    stacks = fold(told.splitlines())
    if not stacks:
        sys.exit(f"{recorded} has no samples")
    with open(drawn, "w") as file:
        file.write(draw(stacks, f"{options.row}: {sum(stacks.values()):,} samples"))
    print(table(stacks))
    print(f"\n{drawn} is the flame graph, {recorded} what perf recorded")


def build(package, target, flags=None):
    environment = {**os.environ, **({"RUSTFLAGS": flags} if flags else {})}
    command = ["cargo", "build", "--release", "--package", package, "--target-dir", target]
    subprocess.run(command, check=True, cwd=ROOT, env=environment)
    return target / "release" / package


def fold(lines):
    """How often each stack was seen: the thread's name first, the function that was running last."""
    stacks = collections.Counter()
    thread, frames = None, []
    for line in [*lines, ""]:
        if not line.strip():
            if thread is not None:
                stacks[(thread, *reversed(frames))] += 1
            thread, frames = None, []
        elif thread is None:
            # "thread name   cycles:P:", and the event's name has no space.
            thread = line.strip().rsplit(None, 1)[0]
        else:
            _address, _, symbol = line.strip().partition(" ")
            frames.append(name(symbol))
    return stacks


def name(symbol):
    """A function's name without what makes it unique only."""
    return re.sub(r"::h[0-9a-f]{16}$|\.llvm\.\d+$|\+0x[0-9a-f]+$", "", symbol.strip()) or "[unknown]"


def table(stacks):
    total = sum(stacks.values())
    own, within = collections.Counter(), collections.Counter()
    for stack, count in stacks.items():
        own[stack[-1]] += count
        for frame in set(stack[1:]):
            within[frame] += count
    lines = [f"{'own %':>7} {'with calls %':>13}  function"]
    for function, count in own.most_common(TOP):
        lines.append(f"{100 * count / total:7.1f} {100 * within[function] / total:13.1f}  {function[:120]}")
    return "\n".join(lines)


class Frame:
    """A function called along one way, and the samples in it and below."""

    def __init__(self):
        self.samples, self.calls = 0, {}

    def places(self, name, x, depth, pixels):
        """Where it is drawn, and those that it called: the widest first; what is too narrow to be seen is left out."""
        if self.samples * pixels < PIXELS_MIN:
            return
        yield name, self.samples, x, depth, self.samples * pixels
        for called, call in sorted(self.calls.items(), key=lambda item: -item[1].samples):
            yield from call.places(called, x, depth + 1, pixels)
            x += call.samples * pixels


def draw(stacks, title):
    root = Frame()
    for stack, count in stacks.items():
        frame = root
        frame.samples += count
        for function in stack:
            frame = frame.calls.setdefault(function, Frame())
            frame.samples += count
    places = list(root.places("all", 0, 0, WIDTH / root.samples))
    height = (max(depth for _, _, _, depth, _ in places) + 2) * LINE
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="monospace" font-size="11">',
           f'<text x="4" y="{LINE - 4}">{html.escape(title)}</text>']
    for function, samples, x, depth, width in places:
        # The same function has the same colour wherever it is called.
        hue = sum(function.encode()) * 7 % 55
        y = height - (depth + 1) * LINE
        label = html.escape(function[: int(width / LETTER)]) if width > 3 * LETTER else ""
        tip = html.escape(f"{function}: {100 * samples / root.samples:.2f} %, {samples:,} samples")
        out.append(f'<g><title>{tip}</title><rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{LINE - 1}" '
                   f'fill="hsl({hue},80%,65%)"/><text x="{x + 2:.1f}" y="{y + LINE - 5}">{label}</text></g>')
    return "\n".join([*out, "</svg>", ""])


if __name__ == "__main__":
    main()
