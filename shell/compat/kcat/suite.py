"""kcat, and so librdkafka as distributions ship it: the commands that people type first."""

import re
import subprocess
import time

from harness import Suite, expect, expect_in, output

RECORDS = [f"record {i}" for i in range(200)]


def check_all(table, bootstrap, run_id):
    suite = Suite(table, "kcat", bootstrap)
    topic = f"kcat-{run_id}"

    def kcat(*arguments, stdin=""):
        return output(["kcat", "-b", bootstrap, *arguments], stdin=stdin)

    def consume(topic, offset, *arguments):
        return kcat("-q", "-C", "-t", topic, "-p", "0", "-o", str(offset), *arguments).splitlines()

    def produce(topic, lines, *arguments):
        return kcat("-P", "-t", topic, "-p", "0", *arguments, stdin="".join(line + "\n" for line in lines))

    def lists_the_cluster():
        listing = kcat("-L")
        expect_in(f"at {bootstrap}", listing, "brokers")
        expect_in("(controller)", listing, "brokers")

    def produces_and_consumes():
        produce(topic, RECORDS)
        expect(consume(topic, "beginning", "-e"), RECORDS, "records")
        expect_in(f'topic "{topic}" with 1 partitions', kcat("-L", "-t", topic), "metadata")

    def consumes_from_an_offset():
        expect(consume(topic, 150, "-e"), RECORDS[150:], "from 150")
        expect(consume(topic, -5, "-e"), RECORDS[-5:], "the last five")
        expect(consume(topic, 20, "-c", "3"), RECORDS[20:23], "three from 20")
        formatted = kcat("-q", "-C", "-t", topic, "-o", "7", "-c", "1", "-f", "%t/%p/%o/%s")
        expect(formatted, f"{topic}/0/7/record 7", "coordinates")

    def queries_offsets():
        expect_in("offset 0", kcat("-Q", "-t", f"{topic}:0:-2"), "earliest")
        expect_in("offset 200", kcat("-Q", "-t", f"{topic}:0:-1"), "latest")
        stamped = kcat("-q", "-C", "-t", topic, "-o", "100", "-c", "1", "-f", "%T %o")
        timestamp = int(stamped.split()[0])
        found = int(re.search(r"offset (\d+)", kcat("-Q", "-t", f"{topic}:0:{timestamp}")).group(1))
        first = consume(topic, "beginning", "-e", "-f", "%T %o\n")
        wanted = next(int(o) for t, o in (line.split() for line in first) if int(t) >= timestamp)
        expect(found, wanted, "the first offset at a timestamp")

    def keeps_keys_headers_and_nulls():
        keyed = f"{topic}-keyed"
        produce(keyed, ["k1:v1", "k2:", ":v3"], "-K", ":", "-Z", "-H", "colour=blue", "-H", "size=7")
        lines = consume(keyed, "beginning", "-e", "-f", "%k|%K|%s|%S|%h\n")
        wanted = ["k1|2|v1|2|colour=blue,size=7", "k2|2||-1|colour=blue,size=7", "|-1|v3|2|colour=blue,size=7"]
        expect(lines, wanted, "keys, values and headers")

    def passes_codec(codec):
        name = f"{topic}-{codec}"
        produce(name, RECORDS, "-z", codec)
        expect(consume(name, "beginning", "-e"), RECORDS, codec)

    def honours_acks(acks):
        name = f"{topic}-acks{acks}"
        produce(name, RECORDS, "-X", f"acks={acks}")
        # With acks=0 kcat may be gone before the broker has appended: ask until the end offset is there.
        deadline = time.monotonic() + 10
        while "offset 200" not in kcat("-Q", "-t", f"{name}:0:-1") and time.monotonic() < deadline:
            time.sleep(0.05)
        expect(consume(name, "beginning", "-e"), RECORDS, f"acks={acks}")

    def produces_idempotently():
        name = f"{topic}-idempotent"
        produce(name, RECORDS, "-X", "enable.idempotence=true")
        expect(consume(name, "beginning", "-e"), RECORDS, "records")

    def carries_a_large_record():
        name = f"{topic}-large"
        large = "x" * 900_000
        produce(name, [large])
        expect(consume(name, "beginning", "-e", "-f", "%S\n"), [str(len(large))], "its size")

    def consumes_in_a_group():
        name, settings = f"{topic}-group", ["-X", "session.timeout.ms=2000", "-X", "heartbeat.interval.ms=200"]
        settings += ["-X", "auto.offset.reset=earliest", "-X", "topic.metadata.refresh.interval.ms=500"]
        produce(name, RECORDS)
        first = kcat("-q", "-G", name, "-c", "150", *settings, name).splitlines()
        expect(first, RECORDS[:150], "the first member's")
        expect(kcat("-q", "-G", name, "-e", *settings, name).splitlines(), RECORDS[150:], "the second member's")

    def survives_a_member_that_is_killed():
        name, settings = f"{topic}-killed", ["-X", "session.timeout.ms=2000", "-X", "heartbeat.interval.ms=200"]
        settings += ["-X", "auto.offset.reset=earliest", "-X", "enable.auto.commit=false"]
        produce(name, RECORDS)
        command = ["kcat", "-b", bootstrap, "-q", "-u", "-G", name, *settings, name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as mortal:
            expect(mortal.stdout.readline(), RECORDS[0] + "\n", "what the first member reads")
            mortal.kill()
        # The dead member keeps its partition until its session is over, and has committed nothing.
        found = kcat("-q", "-G", name, "-c", str(len(RECORDS)), *settings, name).splitlines()
        expect(found, RECORDS, "what its successor reads")

    suite.check("-L lists the cluster", lists_the_cluster)
    suite.check("-P and -C from the beginning", produces_and_consumes)
    suite.check("-C from an offset, from the end, a count", consumes_from_an_offset)
    suite.check("-Q earliest, latest, by timestamp", queries_offsets)
    suite.check("keys, headers, null keys and values", keeps_keys_headers_and_nulls)
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        suite.check(f"codec {codec}", lambda codec=codec: passes_codec(codec))
    for acks in ("0", "1", "all"):
        suite.check(f"acks={acks}", lambda acks=acks: honours_acks(acks))
    suite.check("idempotent producer", produces_idempotently)
    suite.check("a record of 900 kB", carries_a_large_record)
    suite.check("-G goes on where the last member stopped", consumes_in_a_group)
    suite.check("-G takes over from a member that is killed", survives_a_member_that_is_killed)
