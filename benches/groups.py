#!/usr/bin/env python3
"""What many groups cost a broker at rest: 5,000 groups of one member each, each with a heartbeat every 3 s (as Java's
clients do), and 20 commits a second of all of them together. Then what 100,000 committed offsets take in memory.

  benches/groups.py SERVER FOLDER [SECONDS [GROUPS]]

SERVER is a release binary of chronik-server. Speaks the protocol itself: JoinGroup 3, SyncGroup 2, Heartbeat 2,
OffsetCommit 2, ListGroups 0. Linux only; needs nothing but Python.
"""

import os
import shutil
import socket
import struct
import subprocess
import sys
import time

PORT = 19394
CONNECTIONS = 50
COMMITS_PER_SECOND = 20
HEARTBEAT_SECONDS = 3
OFFSETS = 100_000
# Whatever is waited for comes within this.
WITHIN_SECONDS = 60


def string(text):
    return struct.pack('>h', len(text)) + text.encode()


def data(payload):
    return struct.pack('>i', len(payload)) + payload


class Connection:
    def __init__(self):
        self.socket = socket.create_connection(('127.0.0.1', PORT))
        self.file = self.socket.makefile('rb')

    def send(self, key, version, body):
        self.socket.sendall(data(struct.pack('>hhi', key, version, 0) + string('groups') + body))

    def answer(self):
        (length,) = struct.unpack('>i', self.file.read(4))
        return self.file.read(length)[4:]

    def ask(self, key, version, body):
        self.send(key, version, body)
        return self.answer()


def create_topic(connection, name, partitions):
    body = struct.pack('>i', 1) + string(name) + struct.pack('>ihii', partitions, 1, 0, 0)
    connection.ask(19, 2, body + struct.pack('>i?', 30_000, False))


def commit(group, generation, member, topic, offsets):
    partitions = b''.join(struct.pack('>iq', at, offset) + string('') for at, offset in offsets)
    head = string(group) + struct.pack('>i', generation) + string(member) + struct.pack('>q', -1)
    return head + struct.pack('>i', 1) + string(topic) + struct.pack('>i', len(offsets)) + partitions


def committed(answer):
    (code,) = struct.unpack('>h', answer[-2:])
    assert code == 0, f'a commit is refused: {code}'


class Server:
    def __init__(self, binary, folder):
        arguments = ['standalone', '--kafka-port', str(PORT), '--bind', '127.0.0.1', '--data-dir', folder]
        # A connection is served one JoinGroup after the other, and each would wait for more members.
        arguments += ['--set', 'group.initial.rebalance.delay.ms=0']
        self.process = subprocess.Popen([binary, *arguments, '--durability', 'sync', '--log-level', 'warn'])
        until(self.listens, 'the broker listens')

    def listens(self):
        try:
            Connection()
            return True
        except OSError:
            return False

    def cpu(self):
        fields = open(f'/proc/{self.process.pid}/stat').read().rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

    def resident(self):
        lines = open(f'/proc/{self.process.pid}/status').read().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith('VmRSS')) / 1024

    def stop(self):
        self.process.terminate()
        self.process.wait()


def until(condition, claim):
    deadline = time.monotonic() + WITHIN_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f'not within {WITHIN_SECONDS} s: {claim}')
        time.sleep(0.02)


def coordinator(connection):
    def is_found():
        (code,) = struct.unpack('>h', connection.ask(10, 1, string('group') + b'\0')[4:6])
        return code == 0
    until(is_found, 'a group has a coordinator')


def loaded(connection):
    """Waits until every coordinator has read its log: before that groups cannot be listed (ListGroups 0)."""
    def is_listed():
        (code,) = struct.unpack('>h', connection.ask(16, 0, b'')[:2])
        return code == 0
    until(is_listed, 'all coordinators are loaded')


def join(connection, names):
    """Asks for one member in each of these groups."""
    for name in names:
        body = string(name) + struct.pack('>ii', 45_000, 300_000) + string('') + string('consumer')
        connection.send(11, 3, body + struct.pack('>i', 1) + string('range') + data(b'\0\0\0\0\0\1\0\6orders\0\0\0\0'))


def text_at(answer, at):
    (length,) = struct.unpack('>h', answer[at:at + 2])
    return answer[at + 2:at + 2 + length].decode(), at + 2 + length


def joined(connection, names):
    """Takes the answers, and has each member assign; gives names, members and generations."""
    members = []
    for name in names:
        answer = connection.answer()
        code, generation = struct.unpack('>hi', answer[4:10])
        assert code == 0, f'nobody joins {name}: {code}'
        _protocol, at = text_at(answer, 10)
        leader, at = text_at(answer, at)
        member, at = text_at(answer, at)
        assert leader == member
        members.append((name, member, generation))
        assigned = struct.pack('>i', 1) + string(member) + data(b'what it reads')
        connection.send(14, 2, string(name) + struct.pack('>i', generation) + string(member) + assigned)
    for name, _, _ in members:
        (code,) = struct.unpack('>h', connection.answer()[4:6])
        assert code == 0, f'no assignment in {name}: {code}'
    return members


def steady(server, seconds, count):
    connections = [Connection() for _ in range(CONNECTIONS)]
    create_topic(connections[0], 'orders', 10)
    coordinator(connections[0])
    before = server.resident()
    shares = [(each, [f'group-{n}' for n in range(index, count, CONNECTIONS)]) for index, each in enumerate(connections)]
    for share in shares:
        join(*share)
    members = [(share[0], *member) for share in shares for member in joined(*share)]
    print(f'{count} groups have joined: {before:.1f} -> {server.resident():.1f} MiB resident', flush=True)
    began, cpu = time.monotonic(), server.cpu()
    beats = commits = 0
    while (now := time.monotonic() - began) < seconds:
        # What is due by now; answers are taken at once, so that nothing piles up.
        due = []
        while beats < now * count / HEARTBEAT_SECONDS:
            connection, name, member, generation = members[beats % count]
            due.append((connection, 12, 2, string(name) + struct.pack('>i', generation) + string(member), 4))
            beats += 1
        while commits < now * COMMITS_PER_SECOND:
            connection, name, member, generation = members[commits * 7919 % count]
            due.append((connection, 8, 2, commit(name, generation, member, 'orders', [(commits % 10, commits)]), -2))
            commits += 1
        for connection, key, version, body, _ in due:
            connection.send(key, version, body)
        for connection, key, _, _, at in due:
            answer = connection.answer()
            (code,) = struct.unpack('>h', answer[at:][:2])
            assert code == 0, f'request {key} is refused: {code}'
        # The pace at which it is looked what is due.
        time.sleep(0.01)
    cpu, passed = server.cpu() - cpu, time.monotonic() - began
    share = 100 * cpu / passed
    print(f'{beats} heartbeats, {commits} commits in {passed:.0f} s: {cpu:.2f} s of CPU ({share:.1f} % of one), '
          f'{server.resident():.1f} MiB resident', flush=True)


def offsets(server):
    connection = Connection()
    create_topic(connection, 'many', 1000)
    coordinator(connection)
    before = server.resident()
    for group in range(OFFSETS // 1000):
        all_of_it = [(at, 1_000_000 + at) for at in range(1000)]
        committed(connection.ask(8, 2, commit(f'reader-{group}', -1, '', 'many', all_of_it)))
    print(f'{OFFSETS} offsets are committed: {before:.1f} -> {server.resident():.1f} MiB resident', flush=True)


def main():
    binary, folder = sys.argv[1:3]
    seconds = int(sys.argv[3]) if len(sys.argv) > 3 else 60
    count = int(sys.argv[4]) if len(sys.argv) > 4 else 5000
    shutil.rmtree(folder, ignore_errors=True)
    for work in (lambda server: steady(server, seconds, count), offsets):
        server = Server(binary, folder)
        try:
            work(server)
        finally:
            server.stop()
            if work is not offsets:
                shutil.rmtree(folder)
    server = Server(binary, folder)
    try:
        loaded(Connection())
        print(f'started again, with those offsets loaded: {server.resident():.1f} MiB resident')
    finally:
        server.stop()
        shutil.rmtree(folder)


main()
