"""What the programs of checks share: their arguments, the checks that they register, topics, records, the report.

A program is called with the bootstrap address and a suffix for names; it prints one JSON object per check. In
CHRONIK_COMPAT_ONLY may be a part of the claims that are checked.
"""

import json
import os
import sys
import time
import traceback

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

BOOTSTRAP, RUN = sys.argv[1], sys.argv[2]
ADMIN = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
CHECKS = []


def check(claim):
    def register(body):
        CHECKS.append((claim, body))
        return body

    return register


def topic_with(partitions, name, **configs):
    """A new topic with this many partitions."""
    full = f"python-{name}-{RUN}"
    wanted = {"num_partitions": partitions, "replication_factor": -1, "configs": configs}
    ADMIN.create_topics({full: wanted}, wait_for_metadata=True)
    return full


def produce(topic, values, partition=0, **config):
    """The metadata of each record, once all are acknowledged."""
    with_defaults = {"bootstrap_servers": BOOTSTRAP, **config}
    producer = KafkaProducer(**with_defaults)
    sent = [producer.send(topic, value, partition=partition) for value in values]
    producer.flush(timeout=20)
    acknowledged = [future.get(timeout=20) for future in sent]
    producer.close()
    return acknowledged


def consumer_of(*partitions):
    consumer = KafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=None, auto_offset_reset="earliest")
    consumer.assign(list(partitions))
    return consumer


def read(consumer, count):
    """The next `count` records, whichever partition they come from."""
    records, deadline = [], time.monotonic() + 15
    while len(records) < count and time.monotonic() < deadline:
        for batch in consumer.poll(timeout_ms=1000).values():
            records.extend(batch)
    assert len(records) == count, f"{len(records)} records instead of {count}"
    return records


def main():
    failed = False
    only = os.environ.get("CHRONIK_COMPAT_ONLY", "")
    for claim, body in CHECKS:
        if only not in claim:
            continue
        begun, why = time.monotonic(), ""
        try:
            body()
        except Exception:  # Whatever a client raises is a failed check, and the next one still runs.
            why, failed = traceback.format_exc(limit=-3), True
        print(json.dumps({"check": claim, "seconds": time.monotonic() - begun, "why": why}), flush=True)
    ADMIN.close()
    return 1 if failed else 0

