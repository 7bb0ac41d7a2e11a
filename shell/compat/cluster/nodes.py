"""Three nodes on this machine that are one cluster, and gates between them that can be shut."""

import contextlib
import json
import os
import socket
import struct
import threading
import time

import harness
from harness import Broker, Failed, lasting_port, output, run

NODES = [1, 2, 3]
# How long the cluster may take to be whole again after all nodes run.
HEAL_TIMEOUT_S = 120


class Cluster:
    """The nodes' processes. With `gates`, whatever they say to each other passes through [`Gates`]."""

    def __init__(self, binary, folder, settings, gates=False):
        self.binary, self.folder = binary, folder
        kafka_ports = {node: lasting_port() for node in NODES}
        raft_ports = {node: lasting_port() for node in NODES}
        self.gates = Gates(raft_ports) if gates else None
        doors = self.gates.ports if gates else raft_ports
        self.bootstrap = ",".join(f"localhost:{port}" for port in kafka_ports.values())
        self.nodes = {}
        for node in NODES:
            peers = ",".join(f"{other}@127.0.0.1:{doors[other]}" for other in NODES if other != node)
            command = [binary, "raft-cluster", "--bootstrap", "--node-id", str(node)]
            command += ["--data-dir", os.path.join(folder, str(node)), "--bind", "127.0.0.1"]
            command += ["--kafka-port", str(kafka_ports[node]), "--raft-addr", f"127.0.0.1:{raft_ports[node]}"]
            command += ["--raft-advertised-addr", f"127.0.0.1:{doors[node]}"]
            command += ["--peers", peers, "--set", f"broker.rack={rack(node)}"]
            command += [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
            log = os.path.join(folder, f"node-{node}.log")
            self.nodes[node] = Broker(command, kafka_ports[node], log, stop_timeout_s=40)

    @contextlib.contextmanager
    def running(self):
        """All nodes started and in sync; killed at the end."""
        try:
            for broker in self.nodes.values():
                broker.start()
            self.wait_until_well()
            yield self
        finally:
            for broker in self.nodes.values():
                broker.kill()
            if self.gates:
                self.gates.end()

    def wait_until_well(self):
        deadline = time.monotonic() + HEAL_TIMEOUT_S
        status = [self.binary, "cluster", "status", "--bootstrap-servers", self.bootstrap, "--timeout", "5"]
        while True:
            told = run(status)
            if told.returncode == 0:
                return
            self.check_running(NODES)
            if time.monotonic() > deadline:
                raise Failed(f"not well within {HEAL_TIMEOUT_S} s:\n{told.stdout}{told.stderr}")
            time.sleep(0.1)

    def check_running(self, nodes):
        for node in nodes:
            code = self.nodes[node].process.poll()
            if code is not None:
                raise Failed(f"node {node} ended by itself with {code}")

    def make_topic(self, topic, partitions):
        """A broker makes the topic when it is first asked for."""
        deadline = time.monotonic() + HEAL_TIMEOUT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(Failed, KeyError, IndexError):
                leaders = self.leaders(topic)
                if len(leaders) == partitions and all(leader in NODES for leader in leaders.values()):
                    return self.wait_until_well()
            time.sleep(0.1)
        raise Failed("the topic was not made")

    def leaders(self, topic):
        """The leader of each partition. Asking makes the topic."""
        command = ["kcat", "-L", "-J", "-b", self.bootstrap, "-t", topic, "-X", "allow.auto.create.topics=true"]
        told = json.loads(output(command))
        return {told["partition"]: told["leader"] for told in told["topics"][0]["partitions"]}

    def signal(self, node, number):
        self.nodes[node].process.send_signal(number)

    def wait_for_end(self, node):
        """Its exit code, once a signal has ended it."""
        code = self.nodes[node].process.wait(timeout=self.nodes[node].stop_timeout_s)
        if self.gates:
            self.gates.hide(node)
        return code

    def start_again(self, node):
        self.nodes[node].start()
        if self.gates:
            self.gates.show(node)


def rack(node):
    return f"rack-{node}"


class Gates:
    """A door before each node's own, through which the others' connections come. Who dials is the one who speaks, so a
    shut gate from one node to another has this one say nothing to that one: bytes wait as they would for packets that
    are lost, nothing is closed or refused."""

    # The first frame of a connection: a header whose first four bytes are the length of its body, then the cluster's id
    # behind its own length, then the number of the node that dials.
    HEADER_BYTES = 12

    def __init__(self, behind):
        """`behind` has the port of each node's own door."""
        self.shut, self.changed, self.ended = set(), threading.Condition(), False
        self.behind, self.listeners, self.ports = behind, {}, {}
        for node in behind:
            self.ports[node] = lasting_port()
            self.show(node)

    def show(self, node):
        """The node listens: so does its gate."""
        if node not in self.listeners:
            self.listeners[node] = socket.create_server(("127.0.0.1", self.ports[node]))
            threading.Thread(target=self._listen, args=(node, self.listeners[node]), daemon=True).start()

    def hide(self, node):
        """The node's process is gone: who dials is refused, as it would be without a gate."""
        if listener := self.listeners.pop(node, None):
            # Closing it alone would leave the thread that waits at it, and the port open.
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def close(self, pairs):
        """Shuts these gates, each (from, to)."""
        with self.changed:
            self.shut |= set(pairs)

    def open(self):
        """Opens all gates."""
        with self.changed:
            self.shut.clear()
            self.changed.notify_all()

    def end(self):
        self.ended = True
        self.open()
        for node in self.behind:
            self.hide(node)

    def _listen(self, to, listener):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._serve, args=(connection, to), daemon=True).start()

    def _serve(self, near, to):
        with near, contextlib.suppress(OSError, struct.error):
            first, dialler = self._greeting(near)
            self._wait_for(dialler, to)
            with socket.create_connection(("127.0.0.1", self.behind[to]), timeout=10) as far:
                for end in (near, far):
                    end.settimeout(None)
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                far.sendall(first)
                back = threading.Thread(target=self._pump, args=(far, near, dialler, to), daemon=True)
                back.start()
                self._pump(near, far, dialler, to)
                back.join()

    def _greeting(self, near):
        header = _receive(near, self.HEADER_BYTES)
        (length,) = struct.unpack_from(">I", header)
        body = _receive(near, length)
        (name_length,) = struct.unpack_from(">I", body)
        (dialler,) = struct.unpack_from(">i", body, 4 + name_length)
        return header + body, dialler

    def _wait_for(self, dialler, to):
        with self.changed:
            self.changed.wait_for(lambda: self.ended or (dialler, to) not in self.shut)

    def _pump(self, source, sink, dialler, to):
        """Carries bytes one way; where one end is gone the other one learns of it, as soon as the gate is open."""
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._wait_for(dialler, to)
                sink.sendall(data)
        self._wait_for(dialler, to)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _receive(connection, count):
    """So many bytes."""
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise OSError("the connection ended in its greeting")
        data += part
    return data
