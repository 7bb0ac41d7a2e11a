#!/usr/bin/env python3
"""What compaction costs: a topic of a million records of 1 KiB with a quarter as many keys, in any order, is written and
then told to compact. How long until it is clean, how much of a processor and of memory that takes, and what another topic's
producer notices of it: 2,000 records a second, before and meanwhile.

  benches/compaction.py SERVER BENCH FOLDER [RECORDS]

SERVER and BENCH are release binaries of chronik-server and chronik-bench; FOLDER must be on the disk that is meant. Speaks
the protocol itself: CreateTopics 2, Produce 3, IncrementalAlterConfigs 0. Linux only; needs nothing but Python.
"""

import json
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.request

PORT = 19395
METRICS = 19396
BATCH_RECORDS = 1000
KEY_BYTES = 4
VALUE_BYTES = 1024
COPIES = 4
RATE = 2000
BASELINE_SECONDS = 20
# A pass moves about two and a quarter times the log, at 64 MiB a second.
LOAD_SECONDS = 30


def string(text):
    return struct.pack('>h', len(text)) + text.encode()


def varint(number):
    number <<= 1
    out = b''
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    TABLE.append(byte)


class Template:
    """A batch whose keys can be changed without summing it up anew: a CRC is linear, so what each byte of a key adds to
    that of the batch is worked out once."""

    def __init__(self):
        records = bytearray()
        self.keys = []
        value = os.urandom(VALUE_BYTES)
        for delta in range(BATCH_RECORDS):
            head = b'\0\0' + varint(delta) + varint(KEY_BYTES)
            body = head + bytes(KEY_BYTES) + varint(VALUE_BYTES) + value + b'\0'
            length = varint(len(body))
            self.keys.append(len(records) + len(length) + len(head))
            records += length + body
        now = int(time.time() * 1000)
        summed = struct.pack('>hiqqqhii', 0, BATCH_RECORDS - 1, now, now, -1, -1, -1, BATCH_RECORDS) + records
        start = len(summed) - len(records)
        self.body = bytearray(summed)
        self.keys = [at + start for at in self.keys]
        crc = 0xFFFFFFFF
        for byte in summed:
            crc = TABLE[(crc ^ byte) & 255] ^ crc >> 8
        self.crc = crc ^ 0xFFFFFFFF
        wanted = {at + byte for at in self.keys for byte in range(KEY_BYTES)}
        self.adds = {}
        # What a bit of the last byte adds, and then of the byte before it, with one more byte behind.
        bits = [TABLE[1 << bit] for bit in range(8)]
        for at in range(len(summed) - 1, -1, -1):
            if at in wanted:
                adds = [0]
                for bit in bits:
                    adds += [one ^ bit for one in adds]
                self.adds[at] = adds
            bits = [TABLE[bit & 255] ^ bit >> 8 for bit in bits]

    def batch(self, keys):
        crc = self.crc
        for at, key in zip(self.keys, keys):
            key = struct.pack('>I', key)
            self.body[at:at + KEY_BYTES] = key
            for offset, byte in enumerate(key):
                crc ^= self.adds[at + offset][byte]
        head = struct.pack('>qiibI', 0, len(self.body) + 9, -1, 2, crc)
        return head + self.body


class Connection:
    def __init__(self):
        self.socket = socket.create_connection(('127.0.0.1', PORT))
        self.file = self.socket.makefile('rb')

    def ask(self, key, version, body):
        head = struct.pack('>hhi', key, version, 0) + string('compaction')
        self.socket.sendall(struct.pack('>i', len(head) + len(body)) + head + body)
        (length,) = struct.unpack('>i', self.file.read(4))
        return self.file.read(length)[4:]


def configs(settings):
    return struct.pack('>i', len(settings)) + b''.join(string(name) + string(value) for name, value in settings)


def create(connection, name, settings):
    body = struct.pack('>i', 1) + string(name) + struct.pack('>ihi', 1, 1, 0) + configs(settings)
    answer = connection.ask(19, 2, body + struct.pack('>i?', 30_000, False))
    (code,) = struct.unpack('>h', answer[8 + 2 + len(name):][:2])
    assert code == 0, f'{name} is not made: {code}'


def alter(connection, name, settings):
    ops = b''.join(string(setting) + b'\0' + string(value) for setting, value in settings)
    resource = b'\2' + string(name) + struct.pack('>i', len(settings)) + ops
    answer = connection.ask(44, 0, struct.pack('>i', 1) + resource + b'\0')
    (code,) = struct.unpack('>h', answer[8:10])
    assert code == 0, f'{name} is not altered: {code}'


def produce(connection, name, batch):
    data = struct.pack('>ii', 0, len(batch)) + batch
    body = struct.pack('>hhii', -1, 1, 30_000, 1) + string(name) + struct.pack('>i', 1) + data
    answer = connection.ask(0, 3, body)
    (code,) = struct.unpack('>h', answer[4 + 2 + len(name) + 8:][:2])
    assert code == 0, f'a batch is refused: {code}'


class Server:
    def __init__(self, binary, folder):
        arguments = ['standalone', '--kafka-port', str(PORT), '--bind', '127.0.0.1', '--data-dir', folder]
        arguments += ['--metrics-addr', f'127.0.0.1:{METRICS}', '--durability', 'sync', '--log-level', 'warn']
        # How soon the next look at partitions comes is not what is measured.
        self.process = subprocess.Popen([binary, *arguments, '--set', 'log.cleaner.backoff.ms=100'])
        for _ in range(500):
            try:
                Connection()
                return
            except OSError:
                time.sleep(0.02)
        raise SystemExit('the broker does not come up')

    def cpu(self):
        """What the thread that carries compaction out has used, in seconds; the rest of the broker serves meanwhile."""
        for task in os.listdir(f'/proc/{self.process.pid}/task'):
            name, fields = open(f'/proc/{self.process.pid}/task/{task}/stat').read().rsplit(')', 1)
            if name.endswith('(compact'):
                fields = fields.split()
                return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
        raise SystemExit('there is no thread for compaction')

    def memory(self, what):
        lines = open(f'/proc/{self.process.pid}/status').read().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024

    def forget_peak(self):
        open(f'/proc/{self.process.pid}/clear_refs', 'w').write('5')

    def metric(self, name):
        text = urllib.request.urlopen(f'http://127.0.0.1:{METRICS}/metrics').read().decode()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f'chronik_{name} '))

    def stop(self):
        self.process.terminate()
        self.process.wait()


def load(bench, folder, seconds):
    """Another topic's producer: one record a request, at a rate."""
    command = [bench, '--bootstrap-servers', f'127.0.0.1:{PORT}', '--topic', 'other', '--rate', str(RATE)]
    command += ['--warmup', '1s', '--duration', f'{seconds}s', f'--json={folder}/load.json']
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def latency(folder, process):
    assert process.wait() == 0, 'the load fails'
    told = json.load(open(f'{folder}/load.json'))['latency_us']
    return ', '.join(f'{name} {told[name] / 1000:.2f} ms' for name in ('p50', 'p99', 'p99.9'))


def main():
    binary, bench, folder = sys.argv[1:4]
    records = int(sys.argv[4]) if len(sys.argv) > 4 else 1_000_000
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    server = Server(binary, f'{folder}/data')
    try:
        connection = Connection()
        create(connection, 'keys', [('cleanup.policy', 'delete'), ('segment.bytes', str(64 << 20))])
        template = Template()
        began = time.monotonic()
        chance, seen = random.Random(1), set()
        for _ in range(records // BATCH_RECORDS):
            keys = [chance.randrange(records // COPIES) for _ in range(BATCH_RECORDS)]
            seen.update(keys)
            produce(connection, 'keys', template.batch(keys))
        print(f'{records} records of {len(seen)} keys are written, in {time.monotonic() - began:.0f} s', flush=True)
        time.sleep(5)

        print('before:   ', latency(folder, load(bench, folder, BASELINE_SECONDS)), flush=True)

        server.forget_peak()
        resident = server.memory('VmRSS')
        other = load(bench, folder, LOAD_SECONDS)
        time.sleep(2)
        cpu, began = server.cpu(), time.monotonic()
        alter(connection, 'keys', [('cleanup.policy', 'compact'), ('min.cleanable.dirty.ratio', '0.01'),
                                   ('segment.ms', '1000')])
        while server.metric('compaction_removed_records_total') < records - len(seen):
            assert time.monotonic() - began < 600, 'it does not become clean'
            time.sleep(0.1)
        passed = time.monotonic() - began
        used = server.cpu() - cpu
        read, written = (server.metric(f'compaction_{what}_bytes_total') >> 20 for what in ('read', 'written'))
        print(f'clean after {passed:.1f} s: {read} MiB read, {written} MiB written, {used:.1f} s of CPU '
              f'({100 * used / passed:.0f} % of one), resident {resident:.0f} MiB, at most {server.memory("VmHWM"):.0f}',
              flush=True)
        print('meanwhile:', latency(folder, other), flush=True)
    finally:
        server.stop()
        shutil.rmtree(folder)


main()
