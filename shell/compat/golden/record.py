#!/usr/bin/env python3
"""A TCP proxy that keeps what passes between a Kafka client and a broker.

It rewrites nothing: the broker behind it must advertise the proxy's own address, or clients go around it.
Every request frame is stored under the client's name, every response under the broker's:

    OUT/<client>/<Api>-v<version>.bin      requests
    OUT/<broker>/<Api>-v<version>.bin      responses

A file holds a few distinct frames one after the other as they are on the wire: four bytes of length, then the frame.
Two frames that differ only in their correlation id count as one. Only the APIs that Chronik serves are kept, and no
frame beyond MAX_FRAME bytes, so that the files stay small enough to be committed.
"""

import argparse
import os
import signal
import socket
import struct
import sys
import threading

APIS = {
    0: "Produce",
    1: "Fetch",
    2: "ListOffsets",
    3: "Metadata",
    8: "OffsetCommit",
    9: "OffsetFetch",
    10: "FindCoordinator",
    11: "JoinGroup",
    12: "Heartbeat",
    13: "LeaveGroup",
    14: "SyncGroup",
    15: "DescribeGroups",
    16: "ListGroups",
    18: "ApiVersions",
    19: "CreateTopics",
    20: "DeleteTopics",
    21: "DeleteRecords",
    22: "InitProducerId",
    23: "OffsetForLeaderEpoch",
    32: "DescribeConfigs",
    33: "AlterConfigs",
    35: "DescribeLogDirs",
    37: "CreatePartitions",
    42: "DeleteGroups",
    43: "ElectLeaders",
    44: "IncrementalAlterConfigs",
    45: "AlterPartitionReassignments",
    46: "ListPartitionReassignments",
    47: "OffsetDelete",
    55: "DescribeQuorum",
    57: "UpdateFeatures",
    60: "DescribeCluster",
    61: "DescribeProducers",
    64: "UnregisterBroker",
    68: "ConsumerGroupHeartbeat",
    69: "ConsumerGroupDescribe",
    75: "DescribeTopicPartitions",
    80: "AddRaftVoter",
    81: "RemoveRaftVoter",
}

API_VERSIONS = 18
UNSUPPORTED_VERSION = struct.pack(">h", 35)

MAX_FRAMES = 4
MAX_FRAME = 4096


class Store:
    """The frames kept so far, and the directory that they are kept in."""

    def __init__(self, out):
        self.out = out
        self.seen = {}
        self.lock = threading.Lock()

    def keep(self, speaker, api, version, frame, correlation_at):
        """Stores `frame` unless an equal one, or enough others, are there. `correlation_at` is where its id starts."""
        if api not in APIS or len(frame) > MAX_FRAME:
            return
        name = os.path.join(self.out, speaker, f"{APIS[api]}-v{version}.bin")
        essence = frame[:correlation_at] + frame[correlation_at + 4 :]
        with self.lock:
            seen = self.seen.setdefault(name, self.load(name, correlation_at))
            if essence in seen or len(seen) >= MAX_FRAMES:
                return
            seen.add(essence)
            os.makedirs(os.path.dirname(name), exist_ok=True)
            with open(name, "ab") as file:
                file.write(struct.pack(">i", len(frame)) + frame)

    @staticmethod
    def load(name, correlation_at):
        """What an earlier recording left in the file `name`."""
        seen = set()
        if os.path.exists(name):
            with open(name, "rb") as file:
                while head := file.read(4):
                    frame = file.read(struct.unpack(">i", head)[0])
                    seen.add(frame[:correlation_at] + frame[correlation_at + 4 :])
        return seen


class Connection:
    """One client connection and its twin towards the broker."""

    def __init__(self, client, broker, store, names):
        self.client, self.broker, self.store = client, broker, store
        self.speaker, self.responder = names
        self.asked = {}

    def pump(self, source, sink, on_frame):
        """Copies bytes as they come, and hands each whole frame to `on_frame` before its last byte goes on."""
        pending = b""
        try:
            while data := source.recv(65536):
                pending += data
                while len(pending) >= 4:
                    size = struct.unpack(">i", pending[:4])[0]
                    if len(pending) < 4 + size:
                        break
                    on_frame(pending[4 : 4 + size])
                    pending = pending[4 + size :]
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for side in (source, sink):
                try:
                    side.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def on_request(self, frame):
        api, version, correlation = struct.unpack(">hhi", frame[:8])
        self.asked[correlation] = (api, version)
        self.store.keep(self.speaker, api, version, frame, 4)

    def on_response(self, frame):
        asked = self.asked.pop(struct.unpack(">i", frame[:4])[0], None)
        if asked and self.responder:
            api, version = asked
            # A broker that does not know the version of an ApiVersions request answers in version 0.
            if api == API_VERSIONS and frame[4:6] == UNSUPPORTED_VERSION:
                version = 0
            self.store.keep(self.responder, api, version, frame, 0)

    def start(self):
        for pump in ((self.client, self.broker, self.on_request), (self.broker, self.client, self.on_response)):
            threading.Thread(target=self.pump, args=pump, daemon=True).start()


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", type=address, required=True, metavar="HOST:PORT")
    parser.add_argument("--upstream", type=address, required=True, metavar="HOST:PORT")
    parser.add_argument("--client", required=True, help="directory of the requests, such as kcat-1.7.1")
    parser.add_argument("--broker", default="", help="directory of the responses; without it they are not kept")
    parser.add_argument("--out", required=True, metavar="DIR")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    store = Store(options.out)
    with socket.create_server(options.listen, backlog=128) as listener:
        while True:
            client, _ = listener.accept()
            try:
                broker = socket.create_connection(options.upstream)
            except OSError:
                # A check has killed the broker; its clients connect again until it is back.
                client.close()
                continue
            for side in (client, broker):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Connection(client, broker, store, (options.client, options.broker)).start()


if __name__ == "__main__":
    main()
