"""Kafka's own tools against three nodes, of which some are killed meanwhile; then groups whose coordinator is."""

import contextlib
import json
import os
import re
import shutil
import tempfile
import time

import harness
from cluster import coordinators
from cluster.nodes import HEAL_TIMEOUT_S, NODES, Cluster
from cluster.operators import check_operators
from harness import Failed, Suite, expect, expect_in, output, run
from java import suite as java

TOOLS = "org.apache.kafka.tools."
PARTITIONS = 3
RECORDS = 300
SETTINGS = {
    **harness.SETTINGS,
    # A node that was killed is missed soon, and one that gets no processor for a moment is not.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
}


def prepare():
    coordinators.prepare()


def check_all(table, binary, run_id):
    """`binary` is the chronik-server to start."""
    with folder_for("tools", table) as folder, Cluster(binary, folder, SETTINGS).running() as cluster:
        suite = Suite(table, "java tools, 3 nodes", cluster.bootstrap)
        check_tools(suite, cluster, f"tools-{run_id}")
        check_operators(suite, cluster, run_id, eventually)
    with folder_for("coordinators", table) as folder:
        coordinators.check_all(table, binary, run_id, folder)


@contextlib.contextmanager
def folder_for(purpose, table):
    """A folder that stays where a check has failed."""
    folder = os.path.join(harness.CACHE, f"cluster-{purpose}-{os.getpid()}")
    os.makedirs(folder)
    failed = len(table.failed)
    yield folder
    if len(table.failed) == failed:
        shutil.rmtree(folder)


def eventually(claim, holds):
    """Asks until `holds` gives something, and gives that."""
    deadline = time.monotonic() + HEAL_TIMEOUT_S
    while not (found := holds()):
        if time.monotonic() > deadline:
            raise Failed(f"not within {HEAL_TIMEOUT_S} s: {claim}")
        time.sleep(0.2)
    return found


def check_tools(suite, cluster, topic):
    server = ["--bootstrap-server", cluster.bootstrap]

    def tool(name, *arguments):
        return output(java.java(TOOLS + name, *server, *arguments))

    def configs(*arguments):
        return output(java.java("kafka.admin.ConfigCommand", *server, *arguments))

    def described():
        """Leader, replicas and in-sync replicas of each partition."""
        found = {}
        for line in tool("TopicCommand", "--describe", "--topic", topic).splitlines():
            fields = dict(part.split(": ", 1) for part in line.strip().split("\t") if ": " in part)
            if "Partition" in fields:
                numbers = [[int(n) for n in fields[name].split(",") if n] for name in ("Replicas", "Isr")]
                found[int(fields["Partition"])] = (fields["Leader"], *numbers)
        return found

    def quorum():
        lines = tool("MetadataQuorumCommand", "describe", "--status").splitlines()
        return {name: value.strip() for name, value in (line.split(":", 1) for line in lines if ":" in line)}

    def offsets():
        lines = tool("GetOffsetShell", "--topic", topic).split()
        return {int(line.split(":")[1]): int(line.split(":")[2]) for line in lines}

    def with_json(content, *arguments):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(content, file)
            file.flush()
            return tool(*[file.name if argument is None else argument for argument in arguments])

    def spreads_a_topic():
        tool("TopicCommand", "--create", "--topic", topic, "--partitions", str(PARTITIONS), "--replication-factor", "3")
        rows = described()
        expect(sorted(int(leader) for leader, _, _ in rows.values()), NODES, "leaders")
        expect([sorted(replicas) for _, replicas, _ in rows.values()], [NODES] * PARTITIONS, "replicas")
        eventually("all in sync", lambda: all(sorted(isr) == NODES for _, _, isr in described().values()))

    def counts_records():
        lines = "".join(f"line {number}\n" for number in range(RECORDS))
        command = java.java(TOOLS + "ConsoleProducer", *server, "--topic", topic, "--request-required-acks", "all")
        output(command + ["--batch-size", "64"], stdin=lines)
        expect(sum(offsets().values()), RECORDS, "records")

    def describes_the_quorum():
        status = quorum()
        voters = [voter["id"] for voter in json.loads(status["CurrentVoters"])]
        expect((sorted(voters), status["CurrentObservers"]), (NODES, "[]"), "voters and observers")
        header, *rows = [line.split() for line in tool("MetadataQuorumCommand", "describe", "--replication").splitlines()]
        roles = {int(row[0]): row[-1] for row in rows}
        leader = int(status["LeaderId"])
        expect(roles, {node: "Leader" if node == leader else "Follower" for node in NODES}, "roles")

    def survives_the_controller():
        before = quorum()
        victim = int(before["LeaderId"])
        cluster.nodes[victim].kill()
        after = eventually("another controller", lambda: (now := quorum())["LeaderId"] != str(victim) and now)
        expect(int(after["LeaderEpoch"]) > int(before["LeaderEpoch"]), True, "a later epoch")
        rest = [node for node in NODES if node != victim]
        eventually("it is missed", lambda: all(sorted(isr) == rest for _, _, isr in described().values()))
        lacking = tool("TopicCommand", "--describe", "--topic", topic, "--under-replicated-partitions")
        expect(len(lacking.splitlines()), PARTITIONS, "under-replicated partitions")
        for what in ("--under-min-isr-partitions", "--unavailable-partitions"):
            expect(tool("TopicCommand", "--describe", "--topic", topic, what).strip(), "", what)
        expect(sum(offsets().values()), RECORDS, "records without it")
        cluster.nodes[victim].start()
        cluster.wait_until_well()

    def elects_preferred_leaders():
        # Whoever came back leads nothing yet, unless the brokers have seen to it by themselves.
        tool("LeaderElectionCommand", "--election-type", "preferred", "--all-topic-partitions")
        for leader, replicas, _ in described().values():
            expect(int(leader), replicas[0], "the leader")
        command = java.java(TOOLS + "LeaderElectionCommand", *server, "--election-type", "unclean")
        printed = output(command + ["--topic", topic, "--partition", "0"])
        expect_in(f"Valid replica already elected for partitions {topic}-0", printed, "a partition that is led")

    def moves_partitions():
        counts, rows = offsets(), described()
        topics = {"version": 1, "topics": [{"topic": topic}]}
        generated = with_json(
            topics, "reassign.ReassignPartitionsCommand", "--generate", "--topics-to-move-json-file", None, "--broker-list", "1,2,3"
        )
        current = json.loads(re.search(r"Current partition replica assignment\n(.*)\n", generated).group(1))
        expect({part["partition"]: part["replicas"] for part in current["partitions"]}, {p: r for p, (_, r, _) in rows.items()}, "--generate")
        # Each partition leaves one node, and the one that remains after it is to lead.
        target = {partition: [replicas[1], replicas[2]] for partition, (_, replicas, _) in rows.items()}
        move(target, "--throttle", "50000000")
        for partition, (leader, replicas, isr) in described().items():
            expect((replicas, sorted(isr)), (target[partition], sorted(target[partition])), f"partition {partition}")
            expect(int(leader) in replicas, True, "the leader")
        expect(offsets(), counts, "records of each partition")
        # And back, onto a node that has nothing of it any more.
        move({partition: replicas for partition, (_, replicas, _) in rows.items()})
        eventually("all in sync", lambda: all(sorted(isr) == NODES for _, _, isr in described().values()))
        expect(offsets(), counts, "records of each partition")
        listed = tool("reassign.ReassignPartitionsCommand", "--list")
        expect(listed.strip(), "No partition reassignments found.", "--list")

    def move(target, *throttle):
        partitions = [{"topic": topic, "partition": number, "replicas": nodes} for number, nodes in target.items()]
        content = {"version": 1, "partitions": partitions}
        named = ("reassign.ReassignPartitionsCommand", "--reassignment-json-file", None)
        expect_in("Successfully started partition reassignments", with_json(content, *named, "--execute", *throttle), "--execute")
        done = [f"Reassignment of partition {topic}-{number} is completed." for number in target]
        eventually("all are moved", lambda: all(line in (told := with_json(content, *named, "--verify")) for line in done))

    def changes_configs():
        entity = ("--entity-type", "topics", "--entity-name", topic)
        configs("--alter", *entity, "--add-config", "retention.ms=3600000")
        configs("--alter", "--entity-type", "brokers", "--entity-default", "--add-config", "log.retention.ms=7200000")
        for broker in cluster.nodes.values():
            one = ["--bootstrap-server", broker.address, "--describe"]
            told = output(java.java("kafka.admin.ConfigCommand", *one, *entity))
            expect_in("retention.ms=3600000", told, "the topic's")
        told = configs("--describe", "--entity-type", "brokers", "--entity-default")
        expect_in("log.retention.ms=7200000", told, "all brokers'")

    def survives_every_node_in_turn():
        for victim in NODES:
            cluster.nodes[victim].stop()
            cluster.nodes[victim].start()
            cluster.wait_until_well()
        command = java.java(TOOLS + "consumer.ConsoleConsumer", *server, "--topic", topic, "--from-beginning")
        lines = output(command + ["--max-messages", str(RECORDS), "--timeout-ms", "30000"]).split("\n")
        expect(sorted(filter(None, lines)), sorted(f"line {number}" for number in range(RECORDS)), "records")

    suite.check("kafka-topics --create with three replicas", spreads_a_topic)
    suite.check("kafka-console-producer and kafka-get-offsets", counts_records)
    suite.check("kafka-metadata-quorum", describes_the_quorum)
    suite.check("kafka-metadata-quorum and kafka-topics, controller killed", survives_the_controller)
    suite.check("kafka-leader-election", elects_preferred_leaders)
    suite.check("kafka-reassign-partitions there and back", moves_partitions)
    suite.check("kafka-configs, as every node tells", changes_configs)
    suite.check("kafka-console-consumer after a rolling restart", survives_every_node_in_turn)
