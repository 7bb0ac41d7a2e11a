#!/usr/bin/env bash
# Three nodes on this machine, for trying things out: `start` builds and starts them, `stop` ends them in order.
# Node N has its data and its log in target/cluster/N; what is there is used again. SERVER_BINARY names another binary.
set -euo pipefail
cd "$(dirname "$0")/.."

nodes=(1 2 3)
folder=target/cluster
# Longer than an orderly stop may take.
stop_seconds=40
# Longer than an election, and the registration of three nodes.
start_seconds=30

kafka_port() { echo $((9091 + $1)); }
raft_port() { echo $((9191 + $1)); }
metrics_port() { echo $((9291 + $1)); }

# The process of a node, if it runs.
running() {
    local pid
    pid=$(cat "$folder/$1/pid" 2>/dev/null) || return 1
    # A number that another program has by now is not ours.
    [[ $(ps -p "$pid" -o comm= 2>/dev/null) == chronik-server ]] && echo "$pid"
}

peers_of() {
    local peers=()
    for other in "${nodes[@]}"; do
        [[ $other == "$1" ]] || peers+=("$other@localhost:$(raft_port "$other")")
    done
    (IFS=,; echo "${peers[*]}")
}

start() {
    local binary=${SERVER_BINARY:-target/release/chronik-server}
    [[ -n ${SERVER_BINARY:-} ]] || cargo build --release --package chronik-server --bin chronik-server
    for node in "${nodes[@]}"; do
        if running "$node" >/dev/null; then
            echo "node $node runs already: just cluster-stop" >&2
            exit 1
        fi
    done
    for node in "${nodes[@]}"; do
        mkdir -p "$folder/$node"
        nohup "$binary" raft-cluster --bootstrap --node-id "$node" --data-dir "$folder/$node/data" \
            --bind 127.0.0.1 --kafka-port "$(kafka_port "$node")" --advertised-addr localhost \
            --raft-addr "127.0.0.1:$(raft_port "$node")" --raft-advertised-addr localhost \
            --peers "$(peers_of "$node")" --metrics-addr "127.0.0.1:$(metrics_port "$node")" \
            >>"$folder/$node/log" 2>&1 </dev/null &
        echo $! >"$folder/$node/pid"
    done
    local servers
    servers=$(for node in "${nodes[@]}"; do echo "localhost:$(kafka_port "$node")"; done | paste -sd,)
    for ((second = 0; second < start_seconds; second++)); do
        "$binary" cluster status --bootstrap-servers "$servers" --timeout 2 >/dev/null 2>&1 && break
        sleep 1
    done
    "$binary" cluster status --bootstrap-servers "$servers" || {
        echo "not healthy after $start_seconds s: see $folder/*/log; just cluster-stop" >&2
        exit 1
    }
    cat <<USAGE

clients:  $servers
status:   $binary cluster status
logs:     tail -f $folder/*/log
metrics:  http://localhost:$(metrics_port 1)/metrics, and so on
stop:     just cluster-stop; rm -r $folder to begin anew

  echo hello | kcat -b $servers -t greetings -P
  kill -9 \$(cat $folder/1/pid)    # and see what the others do
USAGE
}

stop() {
    local pid
    for node in "${nodes[@]}"; do
        pid=$(running "$node") && kill "$pid" || true
    done
    for node in "${nodes[@]}"; do
        for ((tenth = 0; tenth < stop_seconds * 10; tenth++)); do
            running "$node" >/dev/null || break
            sleep 0.1
        done
        if pid=$(running "$node"); then
            echo "node $node (process $pid) has not stopped for $stop_seconds s" >&2
            exit 1
        fi
        rm -f "$folder/$node/pid"
    done
}

case ${1:-} in
    start | stop) "$1" ;;
    *)
        echo "usage: $0 start|stop" >&2
        exit 2
        ;;
esac
