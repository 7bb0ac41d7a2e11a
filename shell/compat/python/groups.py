"""Groups of kafka-python: members that join, leave, die, restart and are replaced, and what the admin client does.

Called as `groups.py member BOOTSTRAP GROUP TOPIC` it is a member in a process of its own, so that it can be killed.
"""

import collections
import os
import socket
import subprocess
import sys
import threading
import time
import traceback

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import MemberToRemove, OffsetSpec
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import CommitFailedError, KafkaConnectionError, KafkaError, OffsetMetadataTooLargeError
from kafka.structs import OffsetAndMetadata

PARTITIONS = 12
# A session of 6 s for those that live; who is to die brings 2 s.
MEMBER = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "heartbeat_interval_ms": 200}
MEMBER |= {"reconnect_backoff_max_ms": 100}
# Who comes back in time must not be late on a busy machine.
LASTING = {"session_timeout_ms": 20_000}

# kafka-python 3.0 never takes up an assignment that comes in the moment in which a poll gives up: it must not give up
# while a rebalance may be on its way. Records end a poll at once.
POLL_MS = 1000

if sys.argv[1] == "member":
    mortal = KafkaConsumer(sys.argv[4], bootstrap_servers=sys.argv[2], group_id=sys.argv[3], session_timeout_ms=2000, **MEMBER)
    while True:
        mortal.poll(timeout_ms=POLL_MS)

from program import ADMIN, BOOTSTRAP, RUN, check, main, produce, read, topic_with


class Fleet:
    """A group's members, each on a thread of its own, and a ledger of what they were given and what they read.

    They commit what they have read before they ask for more."""

    def __init__(self, topic, group=None, pattern=None):
        self.topic, self.group, self.pattern = topic, group or topic, pattern
        self.lock = threading.Lock()
        self.members, self.owners, self.seen, self.overlaps, self.produced = [], {}, collections.Counter(), [], []
        self.producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, reconnect_backoff_max_ms=100)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for member in self.members:
            member.leaves = True
        for member in list(self.members):
            member.leave()
        self.producer.close(timeout=1)

    def join(self, **config):
        member = Member(self, config)
        self.members.append(member)
        member.thread.start()
        return member

    def await_balanced(self, partitions=PARTITIONS, members=None):
        """Members share the partitions: none has two more than another, and none has none."""

        def parts():
            with self.lock:
                counts = {member: 0 for member in self.members} | collections.Counter(self.owners.values())
            return sorted(counts.values())

        def balanced():
            found = parts()
            return len(found) == len(self.members) and sum(found) == partitions and found[0] > 0 and found[-1] - found[0] <= 1

        await_that(balanced, lambda: f"{partitions} partitions are shared: {parts()}")

    def produce(self, count, topic=None, partitions=PARTITIONS):
        """So many records in turns over the partitions, all acknowledged."""
        values = [b"%06d" % (len(self.produced) + i) for i in range(count)]
        sent = [self.producer.send(topic or self.topic, value, partition=i % partitions) for i, value in enumerate(values)]
        for future in sent:
            future.get(timeout=30)
        self.produced += values
        return values

    def await_all_seen(self):
        missing = lambda: [value for value in self.produced if not self.seen[value]]
        await_that(lambda: not missing(), lambda: f"{len(missing())} records are read by nobody")

    def reads_once(self, count):
        """A group that is balanced reads each new record once."""
        self.has_read_once(self.produce(count))

    def has_read_once(self, values):
        self.await_all_seen()
        times = {value: self.seen[value] for value in values if self.seen[value] != 1}
        assert not times, f"read by several: {times}"

    def never_overlapped(self):
        assert not self.overlaps, f"partitions with two owners: {self.overlaps}"

    def committed(self):
        # An admin client of kafka-python 3.0 asks once who coordinates a group, and never again.
        admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
        try:
            offsets = admin.list_group_offsets(self.group)[self.group]
        except KafkaError as error:  # Of a coordinator that is not there yet.
            return error
        finally:
            admin.close()
        return sum(found.offset for found in offsets.values())

    def await_committed(self, wanted):
        await_that(lambda: self.committed() == wanted, lambda: f"{wanted} records are committed, not {self.committed()}")


class Member(ConsumerRebalanceListener):
    def __init__(self, fleet, config):
        self.fleet, self.leaves, self.moves = fleet, False, 0
        settings = {"session_timeout_ms": 6000, **MEMBER, **config}
        self.consumer = KafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=fleet.group, **settings)
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        try:
            self.consume()
        except Exception:  # Whoever waits for what this member was to do must learn why it does not.
            if not self.leaves:
                ended_by_itself.append(traceback.format_exc(limit=-3))

    def consume(self):
        topics = {"pattern": self.fleet.pattern} if self.fleet.pattern else {"topics": [self.fleet.topic]}
        self.consumer.subscribe(**topics, listener=self)
        while not self.leaves:
            try:
                batches = self.consumer.poll(timeout_ms=POLL_MS)
            except KafkaConnectionError:
                # While it looks for a coordinator, kafka-python 3.0 hands on that a broker cannot be reached: poll again.
                continue
            with self.fleet.lock:
                self.fleet.seen.update(record.value for batch in batches.values() for record in batch)
            if batches:
                self.commit()
        self.consumer.close(autocommit=False)

    def commit(self):
        while not self.leaves:
            try:
                return self.consumer.commit()
            except KafkaConnectionError:
                continue  # As from a poll.
            except (CommitFailedError, KafkaError):
                return  # The partitions go to somebody else, who reads these records again.

    def on_partitions_assigned(self, assigned):
        with self.fleet.lock:
            for partition in assigned:
                before = self.fleet.owners.get(partition)
                if before not in (None, self):
                    self.fleet.overlaps.append(partition)
                self.fleet.owners[partition] = self
                self.moves += 1

    def on_partitions_revoked(self, revoked):
        with self.fleet.lock:
            for partition in revoked:
                if self.fleet.owners.get(partition) is self:
                    del self.fleet.owners[partition]
                self.moves += 1

    def partitions(self):
        with self.fleet.lock:
            return {partition for partition, owner in self.fleet.owners.items() if owner is self}

    def leave(self):
        """Closes the consumer, which leaves the group; a static member stays in it."""
        self.leaves = True
        self.thread.join(timeout=20)
        self.fleet.members.remove(self)
        with self.fleet.lock:
            self.fleet.owners = {p: owner for p, owner in self.fleet.owners.items() if owner is not self}


# How members ended that nobody told to.
ended_by_itself = []


def await_that(condition, claim):
    deadline = time.monotonic() + 20
    while not condition():
        assert not ended_by_itself, f"a member ended:\n{ended_by_itself.pop()}"
        assert time.monotonic() < deadline, f"not within 20 s: {claim()}"
        time.sleep(0.02)


def kill_broker():
    host, port = os.environ["CHRONIK_COMPAT_KILL"].split(":")
    with socket.create_connection((host, int(port)), timeout=250) as switch:
        assert switch.recv(1) == b"", "the broker does not come back"


@check("two, then ten members, then a restart")
def _():
    topic = topic_with(PARTITIONS, "share")
    with Fleet(topic) as fleet:
        fleet.produce(600)
        for count in (2, 8):
            for _ in range(count):
                fleet.join()
            fleet.await_balanced()
            fleet.await_all_seen()
            fleet.reads_once(120)
        fleet.never_overlapped()
        fleet.await_committed(840)
    with Fleet(topic) as restarted:
        for _ in range(3):
            restarted.join()
        restarted.await_balanced()
        restarted.reads_once(60)
        assert sum(restarted.seen.values()) == 60, "a restarted group goes on where the last one stopped"


@check("a member joins, leaves, dies")
def _():
    with Fleet(topic_with(PARTITIONS, "follow")) as fleet:
        fleet.join(), fleet.join()
        fleet.await_balanced()
        third = fleet.join()
        fleet.await_balanced()
        fleet.reads_once(60)
        third.leave()
        fleet.await_balanced()
        fleet.reads_once(60)
        fleet.never_overlapped()
        mortal = subprocess.Popen([sys.executable, "-B", __file__, "member", BOOTSTRAP, fleet.group, fleet.topic])
        try:
            fleet.await_balanced(8)
            fleet.produce(60)
        finally:
            mortal.kill()
            mortal.wait()
        fleet.await_balanced()
        fleet.await_all_seen()


@check("static members restart without a rebalance")
def _():
    with Fleet(topic_with(PARTITIONS, "static")) as fleet:
        one, two = fleet.join(group_instance_id="one", **LASTING), fleet.join(group_instance_id="two", **LASTING)
        fleet.await_balanced()
        fleet.reads_once(60)
        moves, before = one.moves, two.partitions()
        two.leave()
        meanwhile = fleet.produce(60)
        two = fleet.join(group_instance_id="two", **LASTING)
        fleet.await_balanced()
        fleet.has_read_once(meanwhile)
        assert (two.partitions(), one.moves) == (before, moves), "its partitions waited for it, and the other did not notice"


@check("rolling restart of members")
def _():
    with Fleet(topic_with(PARTITIONS, "roll")) as fleet:
        for _ in range(3):
            fleet.join()
        fleet.await_balanced()
        for old in list(fleet.members):
            fleet.produce(60)
            old.leave()
            fleet.produce(60)
            fleet.join()
            fleet.await_balanced()
        fleet.reads_once(60)
        fleet.never_overlapped()
        fleet.await_committed(420)


@check("subscription by a pattern")
def _():
    topics = [topic_with(4, "pattern-a"), topic_with(4, "pattern-b")]
    topic_with(4, "pattern-c")
    with Fleet(topics[0], f"python-pattern-{RUN}", pattern=f"^python-pattern-[ab]-{RUN}$") as fleet:
        fleet.join(), fleet.join()
        fleet.await_balanced(8)
        for topic in topics:
            fleet.has_read_once(fleet.produce(20, topic, 4))


@check("a group starts where it should, also by timestamp")
def _():
    topic = topic_with(1, "start")
    partition = TopicPartition(topic, 0)
    begin = int(time.time() * 1000) - 60_000
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP)
    for i in range(100):
        producer.send(topic, b"x", partition=0, timestamp_ms=begin + 100 * i)
    producer.flush()

    def member(group, reset="earliest"):
        settings = {**MEMBER, "auto_offset_reset": reset}
        return KafkaConsumer(topic, bootstrap_servers=BOOTSTRAP, group_id=f"{topic}-{group}", session_timeout_ms=6000, **settings)

    consumer = member("earliest")
    assert read(consumer, 100)[0].offset == 0
    found = consumer.offsets_for_times({partition: begin + 6_950})[partition]
    consumer.commit({partition: OffsetAndMetadata(found.offset, "so far", 0)})
    assert consumer.committed(partition, metadata=True) == OffsetAndMetadata(70, "so far", 0)
    try:
        consumer.commit({partition: OffsetAndMetadata(80, "x" * 5000, 0)})
        raise AssertionError("metadata of 5,000 bytes was accepted")
    except OffsetMetadataTooLargeError:
        pass
    consumer.close(autocommit=False)
    successor = member("earliest")
    assert read(successor, 30)[0].offset == 70
    successor.close(autocommit=False)
    latest = member("latest", "latest")
    await_that(lambda: not latest.poll(timeout_ms=POLL_MS) and latest.assignment(), lambda: "it is assigned")
    assert latest.position(partition) == 100
    producer.send(topic, b"later", partition=0)
    assert read(latest, 1)[0].offset == 100
    latest.close(autocommit=False)
    producer.close()


@check("admin: groups listed, described, offsets, members removed, deleted")
def _():
    topic = topic_with(PARTITIONS, "administered")
    with Fleet(topic) as fleet:
        fleet.join(group_instance_id="one", client_id="me")
        two = fleet.join(group_instance_id="two", **LASTING)
        fleet.await_balanced()
        fleet.reads_once(60)
        listed = {group["group_id"]: group for group in ADMIN.list_groups()}
        assert listed[topic]["protocol_type"] == "consumer", listed[topic]
        assert topic in {group["group_id"] for group in ADMIN.list_groups(states_filter=["Stable"])}
        assert topic not in {group["group_id"] for group in ADMIN.list_groups(types_filter=["consumer"])}
        described = ADMIN.describe_groups([topic])[topic]
        assert (described["group_state"], described["protocol_type"]) == ("Stable", "consumer"), described
        assert {member["group_instance_id"] for member in described["members"]} == {"one", "two"}, described
        two.leave()
        ADMIN.remove_group_members(topic, [MemberToRemove(group_instance_id="two")])
        fleet.await_balanced()
        errors = dict(ADMIN.delete_groups([topic]))
        assert "NonEmptyGroup" in str(errors[topic]), errors
    ADMIN.remove_group_members(topic, [MemberToRemove(group_instance_id="one")])
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
    ADMIN.alter_group_offsets(topic, {first: OffsetAndMetadata(3, "altered", 0)})
    assert ADMIN.list_group_offsets({topic: [first]})[topic][first] == OffsetAndMetadata(3, "altered", 0)
    ADMIN.reset_group_offsets(topic, {second: OffsetSpec.EARLIEST})
    assert ADMIN.list_group_offsets({topic: [second]})[topic][second].offset == 0
    ADMIN.delete_group_offsets(topic, [first])
    assert first not in ADMIN.list_group_offsets(topic)[topic]
    errors = dict(ADMIN.delete_groups([topic]))
    assert topic not in {group["group_id"] for group in ADMIN.list_groups()}, errors


if "CHRONIK_COMPAT_KILL" in os.environ:

    @check("the broker is killed")
    def _():
        with Fleet(topic_with(PARTITIONS, "killed")) as fleet:
            for _ in range(3):
                fleet.join()
            fleet.await_balanced()
            fleet.reads_once(120)
            fleet.await_committed(120)
            kill_broker()
            fleet.await_committed(120)
            fleet.produce(120)
            fleet.await_all_seen()
            fleet.await_balanced()
            fleet.reads_once(60)
            fleet.await_committed(300)
            fleet.never_overlapped()


sys.exit(main())
