#!/bin/sh
# Builds the floor into target/floor and, unless called with --build, loads each mode of the null broker with the work
# of chronik-bench and kraw. Everything listens on loopback, and ends with this script.
#   benches/floor/run.sh [--build]
#   SECONDS_EACH=2 MODES="null fsyncpre" PORT=19800 to choose.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
out=${CARGO_TARGET_DIR:-$root/target}/floor
mkdir -p "$out"
case $(uname -m) in
    x86_64) arch=-msse4.2 ;;
    *) arch=-march=armv8-a+crc ;;
esac
${CC:-gcc} -O2 $arch -Wall -Wextra -o "$out/nullbroker" "$root/benches/floor/nullbroker.c"
if [ "$(uname -m)" = x86_64 ]; then
    # These two are not polished, and their warnings tell nothing.
    ${CC:-gcc} -O2 $arch -w -o "$out/kraw" "$root/benches/floor/kraw.c"
    ${CC:-gcc} -O2 $arch -w -o "$out/phys" "$root/benches/floor/phys.c" -lpthread
fi
# What it needs may lie elsewhere: CPATH and LIBRARY_PATH say where.
if echo '#include <librdkafka/rdkafka.h>' | ${CC:-gcc} -E -x c - >/dev/null 2>&1; then
    ${CC:-gcc} -O2 $arch -w -o "$out/seed" "$root/benches/floor/seed.c" -lrdkafka
else
    rm -f "$out/seed"
    echo "no headers of librdkafka (Debian: librdkafka-dev), so its client is not built" >&2
fi
[ "${1:-}" = --build ] && exit 0

seconds=${SECONDS_EACH:-2}
modes=${MODES:-null write fsync fsyncpre dsync}
port=${PORT:-19800}
bench=${CARGO_TARGET_DIR:-$root/target}/release/chronik-bench
if [ ! -x "$bench" ]; then
    echo "build it first: cargo build --release -p chronik-bench" >&2
    exit 1
fi
cd "$out"
broker=
trap '[ -z "$broker" ] || kill "$broker" 2>/dev/null || true' EXIT INT TERM

number() { sed -n "s/^ *\"$1\": \\([0-9.e+-]*\\),*\$/\\1/p" run.json; }

printf '%-9s %-34s %12s %10s %10s %14s %14s\n' mode work records/s p50_us p99_us broker_us/rec client_us/rec
for mode in $modes; do
    ./nullbroker "$port" "$mode" 1 2>nullbroker.log &
    broker=$!
    # The ring is written first, which may take a while.
    tries=0
    until "$bench" --bootstrap-servers "127.0.0.1:$port" --verify off --duration 10ms --warmup 0s >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" -gt 600 ] || ! kill -0 "$broker" 2>/dev/null; then
            cat nullbroker.log >&2
            exit 1
        fi
        sleep 0.1
    done
    while read -r connections outstanding records size work; do
        "$bench" --bootstrap-servers "127.0.0.1:$port" --verify off --acks 1 --server-pid "$broker" \
            --connections "$connections" --concurrency $((outstanding * records)) --batch-records "$records" \
            --message-size "$size" --duration "${seconds}s" --warmup 500ms --json >run.json
        printf '%-9s %-34s %12.0f %10.0f %10.0f %14.2f %14.2f\n' "$mode" "$work" "$(number records_per_s)" \
            "$(number p50)" "$(number p99)" "$(number broker_cpu_us_per_record)" "$(number client_cpu_us_per_record)"
    done <<'ROWS'
128 128 1 256 128 connections, 1 outstanding
1 128 1 256 1 connection, 128 outstanding
1 5 64 256 64-record batches, 5 outstanding
1 5 1000 1024 1 MB batches, 5 outstanding
ROWS
    kill "$broker"
    wait "$broker" || true
    broker=
done
