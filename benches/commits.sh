#!/bin/sh
# OffsetCommits a second beside produces of one record of about a commit's size, in turn, on one broker that syncs.
#   benches/commits.sh SERVER BENCH FOLDER [ROUNDS [SECONDS]]
# SERVER and BENCH are release binaries of chronik-server and chronik-bench; FOLDER must be on the disk that is meant.
# Prints a line for each turn: the shape, the mode, records or commits a second, p50 and p99 in µs, the broker's CPU in
# µs for each.
set -eu

server=$1
bench=$2
dir=$3
rounds=${4:-5}
seconds=${5:-3}
port=19392

rm -rf "$dir"
mkdir -p "$dir"
"$server" standalone --kafka-port $port --bind 127.0.0.1 --data-dir "$dir/data" --durability sync --log-level warn &
pid=$!
trap 'kill $pid; wait $pid || true; rm -rf "$dir"' EXIT

turn() { # shape mode connections
	"$bench" --bootstrap-servers 127.0.0.1:$port --mode "$2" --topic "load-$2-$3" --message-size 100 \
		--connections "$3" --concurrency 128 --warmup 1s --duration "${seconds}s" --server-pid $pid --json="$dir/turn" \
		>"$dir/table"
	python3 - "$1" "$2" "$dir/turn" <<'PYTHON'
import json, sys
shape, mode, turn = sys.argv[1:]
told = json.load(open(turn))
assert told["verified"]["good"], told["verified"]
latency = told["latency_us"]
print(f'{shape:34} {mode:8} {told["records_per_s"]:9.0f}/s  p50 {latency["p50"]:6.0f}  p99 {latency["p99"]:6.0f}'
      f'  cpu {told["broker_cpu_us_per_record"]:5.2f}', flush=True)
PYTHON
}

for _ in $(seq "$rounds"); do
	for mode in produce commit; do
		turn '128 connections, 1 outstanding each' $mode 128
		turn '1 connection, 128 outstanding' $mode 1
	done
done
