# Every habit of the house. `just` alone lists them.

_list:
    @{{just_executable()}} --list --unsorted

# What every change passes: format, lints, tests, docs
check: fmt clippy test docs

# The sources are formatted
fmt:
    cargo fmt --all --check

# No warnings, in any target of any crate
clippy:
    cargo clippy --workspace --all-targets -- -D warnings

# All tests that need nothing but Rust and gcc
test *ARGS:
    cargo test {{ARGS}}

# The pages of the crates, without a broken link
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# A broker on port 9092, its data in ./data; flags are handed on
run *ARGS:
    cargo run --release --bin chronik-server -- {{ARGS}}

# Three nodes on this machine: clients on ports 9092 to 9094, data and logs in target/cluster; says how to use them
cluster:
    shell/cluster.sh start

# Ends them in order
cluster-stop:
    shell/cluster.sh stop

# Every row of work against the floor, brokers in turn: medians and ratios; start, rest, idle consumers and connections, recovery; further flags go through
bench *FLAGS:
    cargo build --release --package chronik-server --package chronik-bench
    benches/floor/run.sh --build
    target/release/chronik-bench compare --server-bin target/release/chronik-server --floor target/floor/nullbroker --json=target/bench.json {{FLAGS}}

# The same with Apache Kafka beside, from what `just compat --install-only java` installs (benches/kafka.sh says more)
bench-kafka *FLAGS: (bench "--beside" ("'kafka=" + justfile_directory() + "/benches/kafka.sh {port} {dir}'") FLAGS)

# Instructions that the core takes for one request on each of its most taken paths, against those kept; --write keeps new ones; needs valgrind
instructions *FLAGS:
    benches/instructions.py {{FLAGS}}

# Where the broker spends its time under one row: a flame graph in target/profile, and a table; needs perf
profile ROW="1 connection" *FLAGS:
    benches/profile.py --row "{{ROW}}" {{FLAGS}}

# What replication costs: one broker and a cluster of three in turn, with the CPU of all brokers
bench-cluster *FLAGS:
    cargo build --release --package chronik-server --package chronik-bench
    benches/cluster.py target/release/chronik-server target/release/chronik-bench target/bench-cluster --json target/bench-cluster.json {{FLAGS}}

# One load on a broker that runs already: throughput, latencies, and whether what was acknowledged is there
load *FLAGS:
    cargo run --release --package chronik-bench -- {{FLAGS}}

# What the least possible broker does on this machine: the measure for every figure
floor:
    cargo build --release --package chronik-bench
    benches/floor/run.sh

# Kafka's clients and tools against the broker, as a table; `--bootstrap HOST:PORT` judges another broker
compat *ARGS:
    python3 shell/compat/run.py {{ARGS}}

# kill -9 under load, then recovery, this often: every acknowledged record is there, once and in order
crash LOOPS="20":
    CHRONIK_CRASH_LOOPS={{LOOPS}} cargo test --package chronik-server --test end_to_end crash::

# Three nodes under load for so many minutes, killed, frozen, cut off and stopped in turn: nothing acknowledged is lost; needs kcat
chaos MINUTES *ARGS:
    python3 shell/compat/chaos.py {{MINUTES}} {{ARGS}}

# So often the node that leads a partition gets kill -9: how long a client with default settings waits; needs kcat
failover COUNT="20" *ARGS:
    cargo build --release --package chronik-server
    python3 shell/compat/failover.py {{COUNT}} --server target/release/chronik-server {{ARGS}}

# So many small plans in the event loop, on simulated sockets, and for real: the same records are left behind
parity PLANS="100":
    cargo build --quiet --package chronik-server
    CHRONIK_PARITY_PLANS={{PLANS}} RUSTFLAGS="--cfg madsim" cargo test --target-dir target/madsim --package chronik-sim --test parity

# Capture golden bytes that are not there yet, from real clients that talk to Apache Kafka
golden *SUITES:
    python3 shell/compat/golden/capture.py {{SUITES}}

# Look for inputs that break a promise of one target (message frame batch journal segment metadata log_state group_record raft_message peer); needs c++
fuzz TARGET SECONDS="60" *ARGS:
    fuzz/run {{TARGET}} {{SECONDS}} {{ARGS}}

# The same for every target, as many at a time as there are cores
fuzz-all SECONDS="60":
    fuzz/run all {{SECONDS}}

# A short hunt of the simulator: random seeds for 60 s on both engines; every flag of `cargo sim` may follow
sim *ARGS:
    cargo sim {{ARGS}}

# The same for so many minutes
hunt MINUTES *ARGS:
    cargo sim --for {{MINUTES}}m {{ARGS}}

# One seed again, on both engines
replay SEED *ARGS:
    cargo sim --seed {{SEED}} {{ARGS}}

# The smallest plan that still fails as this seed does, left in sim/scenarios
shrink SEED *ARGS:
    cargo sim --seed {{SEED}} --shrink {{ARGS}}

# Plants a bug in a copy of the sources and hunts until it is found
canary NAME *ARGS:
    cargo sim --canary {{NAME}} {{ARGS}}

# Plants every bug in turn: seeds and CPU seconds that it takes to find each
canaries:
    cargo sim --canaries
