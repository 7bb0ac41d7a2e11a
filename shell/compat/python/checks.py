"""kafka-python against the broker: producer (idempotent by default), consumer on assigned partitions, admin."""

import sys
import time

from kafka import KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, OffsetSpec
from kafka.errors import (
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAlreadyExistsError,
    TransactionalIdAuthorizationFailedError,
)

from program import ADMIN, BOOTSTRAP, RUN, check, consumer_of, main, produce, read, topic_with

VALUES = [b"value %d" % i for i in range(500)]


@check("the default producer is idempotent and keeps order")
def _():
    topic = topic_with(3, "idempotent")
    for partition in range(3):
        metadata = produce(topic, VALUES, partition)
        assert [m.offset for m in metadata] == list(range(500)), "offsets are consecutive"
    partitions = [TopicPartition(topic, p) for p in range(3)]
    records = read(consumer_of(*partitions), 1500)
    for partition in range(3):
        mine = [r for r in records if r.partition == partition]
        assert [r.value for r in mine] == VALUES and [r.offset for r in mine] == list(range(500))


@check("acks 0, 1 and all")
def _():
    topic = topic_with(3, "acks")
    for partition, acks in enumerate((0, 1, "all")):
        produce(topic, VALUES, partition, acks=acks, enable_idempotence=False)
        assert [r.value for r in read(consumer_of(TopicPartition(topic, partition)), 500)] == VALUES


@check("codecs gzip, snappy, lz4, zstd")
def _():
    topic = topic_with(4, "codecs")
    for partition, codec in enumerate(("gzip", "snappy", "lz4", "zstd")):
        produce(topic, VALUES, partition, compression_type=codec, linger_ms=20)
        assert [r.value for r in read(consumer_of(TopicPartition(topic, partition)), 500)] == VALUES, codec


@check("topics with a codec of their own")
def _():
    for codec in ("uncompressed", "gzip", "snappy", "lz4", "zstd"):
        topic = topic_with(1, f"stored-{codec}", **{"compression.type": codec})
        produce(topic, VALUES)
        assert [r.value for r in read(consumer_of(TopicPartition(topic, 0)), 500)] == VALUES, codec


@check("a transactional producer fails at once")
def _():
    # As long as transactions are not served: whoever asks for them must be told, and neither wait nor try again.
    begun = time.monotonic()
    try:
        KafkaProducer(bootstrap_servers=BOOTSTRAP, transactional_id=f"python-{RUN}").init_transactions()
    except TransactionalIdAuthorizationFailedError:
        pass
    else:
        raise AssertionError("a transactional producer was let in")
    assert time.monotonic() - begun < 5, "it took longer than a moment"


@check("keys, headers, timestamps and null values")
def _():
    topic = topic_with(1, "parts")
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP)
    now = int(time.time() * 1000)
    producer.send(topic, b"v", key=b"k", headers=[("a", b"1"), ("a", b"2")], timestamp_ms=now, partition=0)
    producer.send(topic, None, key=b"tombstone", partition=0)
    producer.close()
    first, second = read(consumer_of(TopicPartition(topic, 0)), 2)
    assert (first.key, first.value, list(first.headers)) == (b"k", b"v", [("a", b"1"), ("a", b"2")])
    assert first.timestamp == now and second.value is None and second.key == b"tombstone"


@check("seek, position, beginning and end offsets")
def _():
    topic = topic_with(1, "seek")
    produce(topic, VALUES)
    partition = TopicPartition(topic, 0)
    consumer = consumer_of(partition)
    assert consumer.beginning_offsets([partition]) == {partition: 0}
    assert consumer.end_offsets([partition]) == {partition: 500}
    consumer.seek(partition, 490)
    assert [r.offset for r in read(consumer, 10)] == list(range(490, 500))
    assert consumer.position(partition) == 500
    consumer.seek_to_beginning(partition)
    assert read(consumer, 500)[0].offset == 0


@check("offsets for times")
def _():
    topic = topic_with(1, "times")
    begin = int(time.time() * 1000) - 10_000
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, linger_ms=50)
    for i in range(100):
        producer.send(topic, b"x", partition=0, timestamp_ms=begin + 10 * i)
    producer.close()
    partition = TopicPartition(topic, 0)
    consumer = consumer_of(partition)
    found = consumer.offsets_for_times({partition: begin + 495})[partition]
    assert (found.offset, found.timestamp) == (50, begin + 500), found
    assert consumer.offsets_for_times({partition: begin + 5000})[partition] is None


@check("a record of 1 MB and one that is refused")
def _():
    topic = topic_with(1, "large", **{"max.message.bytes": "2000000"})
    large = b"x" * 1_000_000
    produce(topic, [large], max_request_size=4_000_000)
    assert read(consumer_of(TopicPartition(topic, 0)), 1)[0].value == large
    try:
        produce(topic, [b"x" * 2_500_000], max_request_size=4_000_000)
    except (MessageSizeTooLargeError, RecordListTooLargeError):
        return
    raise AssertionError("2.5 MB were accepted though max.message.bytes is 2 MB")


@check("auto creation of a topic that is produced to")
def _():
    topic = f"python-auto-{RUN}"
    assert [m.offset for m in produce(topic, [b"one"])] == [0]
    assert topic in ADMIN.list_topics()


@check("admin: create, list, describe, delete topics")
def _():
    topic = topic_with(3, "admin")
    assert topic in ADMIN.list_topics()
    described = ADMIN.describe_topics([topic])[0]
    assert described["error_code"] == 0 and len(described["partitions"]) == 3
    try:
        ADMIN.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}})
        raise AssertionError("the same name was created twice")
    except TopicAlreadyExistsError:
        pass
    ADMIN.delete_topics([topic])
    deadline = time.monotonic() + 10
    while topic in ADMIN.list_topics() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert topic not in ADMIN.list_topics()


@check("admin: describe, alter and reset configs")
def _():
    topic = topic_with(1, "configs", **{"retention.ms": "86400000"})
    resource = lambda configs=None: ConfigResource("TOPIC", topic, configs)
    described = ADMIN.describe_configs([resource()], config_filter="all")["topic"][topic]
    assert described["retention.ms"]["value"] == "86400000" and "segment.bytes" in described
    ADMIN.alter_configs([resource({"retention.ms": "3600000", "max.message.bytes": "500000"})])
    described = ADMIN.describe_configs([resource()])["topic"][topic]
    assert {k: v["value"] for k, v in described.items()} == {"retention.ms": "3600000", "max.message.bytes": "500000"}
    ADMIN.reset_configs([resource({"retention.ms": None})])
    assert "retention.ms" not in ADMIN.describe_configs([resource()])["topic"][topic]
    answer = ADMIN.alter_configs([resource({"retention.ms": "soon"})])["topic"][topic]
    assert answer.startswith("[Error 40]"), f"a retention.ms that is no number: {answer}"


@check("admin: alter configs the old way, as a whole")
def _():
    topic = topic_with(1, "altered", **{"retention.ms": "86400000"})
    resource = ConfigResource("TOPIC", topic, {"max.message.bytes": "400000"})
    ADMIN.alter_configs([resource], incremental=False)
    described = ADMIN.describe_configs([ConfigResource("TOPIC", topic)])["topic"][topic]
    assert described["max.message.bytes"]["value"] == "400000"


@check("admin: broker configs")
def _():
    node = ADMIN.describe_cluster()["brokers"][0]["broker_id"]
    described = ADMIN.describe_configs([ConfigResource("BROKER", str(node))], config_filter="all")["broker"][str(node)]
    assert "num.partitions" in described and "auto.create.topics.enable" in described


@check("admin: create partitions")
def _():
    topic = topic_with(1, "grow")
    ADMIN.create_partitions({topic: 4})
    deadline = time.monotonic() + 10
    while len(ADMIN.describe_topics([topic])[0]["partitions"]) != 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    produce(topic, VALUES, partition=3)
    assert len(read(consumer_of(TopicPartition(topic, 3)), 500)) == 500


@check("admin: delete records")
def _():
    topic = topic_with(1, "delete-records")
    produce(topic, VALUES)
    partition = TopicPartition(topic, 0)
    assert ADMIN.delete_records({partition: 300})[partition]["low_watermark"] == 300
    consumer = consumer_of(partition)
    assert consumer.beginning_offsets([partition]) == {partition: 300}
    assert [r.offset for r in read(consumer, 200)] == list(range(300, 500))


@check("admin: partition offsets by spec")
def _():
    topic = topic_with(1, "specs")
    produce(topic, VALUES)
    partition = TopicPartition(topic, 0)
    for spec, offset in ((OffsetSpec.EARLIEST, 0), (OffsetSpec.LATEST, 500)):
        assert ADMIN.list_partition_offsets({partition: spec})[partition].offset == offset
    assert 0 <= ADMIN.list_partition_offsets({partition: OffsetSpec.MAX_TIMESTAMP})[partition].offset < 500


@check("admin: cluster, log dirs, producers, topic partitions")
def _():
    topic = topic_with(2, "describe")
    produce(topic, VALUES)
    cluster = ADMIN.describe_cluster()
    host, port = BOOTSTRAP.split(":")
    assert cluster["cluster_id"] and [(b["host"], b["port"]) for b in cluster["brokers"]] == [(host, int(port))]
    (broker,) = ADMIN.describe_log_dirs([topic])
    sizes = {p["partition_index"]: p["partition_size"] for d in broker["log_dirs"] for t in d["topics"] for p in t["partitions"]}
    assert set(sizes) == {0, 1} and sizes[0] > 0, sizes
    assert len(ADMIN.describe_topic_partitions([topic])["topics"][0]["partitions"]) == 2
    producers = ADMIN.describe_producers([TopicPartition(topic, 0)])
    assert producers, "the producer that just wrote is known"


sys.exit(main())
