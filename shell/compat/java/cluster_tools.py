"""Kafka's own tools for clusters, against one whose only node is the broker under test."""

import json
import re
import tempfile

from harness import Failed, expect, expect_in, output, run

TOOLS = "org.apache.kafka.tools."
# The number of a node that there is not.
STRANGER = "999"


def check_cluster_tools(suite, java, bootstrap, topic):
    """`java` makes the command line of a main class and its arguments."""
    server = ["--bootstrap-server", bootstrap]

    def quorum(*arguments):
        return output(java(TOOLS + "MetadataQuorumCommand", *server, "describe", *arguments))

    def status():
        fields = (line.split(":", 1) for line in quorum("--status").splitlines() if ":" in line)
        return {name: value.strip() for name, value in fields}

    def leader():
        return int(status()["LeaderId"])

    def refused(why, *command):
        done = run(java(*command))
        expect(done.returncode, 1, "exit code")
        expect_in(why, done.stdout + done.stderr, "why it is refused")

    def elect(*arguments):
        return output(java(TOOLS + "LeaderElectionCommand", *server, "--election-type", *arguments))

    def describes_the_quorum():
        found = status()
        (voter,) = json.loads(found["CurrentVoters"])
        expect(voter["id"], int(found["LeaderId"]), "the only voter")
        expect((found["CurrentObservers"], found["MaxFollowerLag"]), ("[]", "0"), "observers, and lag")
        header, *rows = [line.split() for line in quorum("--replication").splitlines()]
        expect(len(rows), 1, "nodes")
        row = dict(zip(header, rows[0]))
        expect((row["NodeId"], row["Lag"], row["Status"]), (found["LeaderId"], "0", "Leader"), "the leader")
        folder = ["--controller-directory-id", "3Db5QLSqSZieL3rJBUUegA"]
        command = [TOOLS + "MetadataQuorumCommand", *server, "remove-controller", "--controller-id", STRANGER, *folder]
        refused("VoterNotFoundException", *command)

    def elects_leaders():
        output(java(TOOLS + "TopicCommand", *server, "--create", "--topic", topic, "--partitions", "2"))
        expect(elect("preferred", "--all-topic-partitions").strip(), "", "elections where nobody needs one")
        named = elect("preferred", "--topic", topic, "--partition", "0")
        expect_in(f"Valid replica already elected for partitions {topic}-0", named, "a partition that is led")
        unknown = ["--election-type", "unclean", "--topic", topic, "--partition", "7"]
        refused("UnknownTopicOrPartitionException", TOOLS + "LeaderElectionCommand", *server, *unknown)

    def moves_partitions():
        partitions = [{"topic": topic, "partition": index, "replicas": [leader()]} for index in range(2)]
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"version": 1, "partitions": partitions}, file)
            file.flush()

            def reassign(*arguments):
                command = [TOOLS + "reassign.ReassignPartitionsCommand", *server, "--reassignment-json-file", file.name]
                return output(java(*command, *arguments))

            started = reassign("--execute", "--throttle", "1000000")
            expect_in(f"Successfully started partition reassignments for {topic}-0,{topic}-1", started, "--execute")
            verified = reassign("--verify")
            for part in (f"Reassignment of partition {topic}-1 is completed.", f"Clearing topic-level throttles on topic {topic}"):
                expect_in(part, verified, "--verify")
            expect_in("None of the specified partition reassignments are active.", reassign("--cancel"), "--cancel")
        listed = output(java(TOOLS + "reassign.ReassignPartitionsCommand", *server, "--list"))
        expect(listed.strip(), "No partition reassignments found.", "--list")
        described = output(java("kafka.admin.ConfigCommand", *server, "--describe", "--entity-type", "topics", "--entity-name", topic))
        if "throttled.replicas" in described:
            raise Failed(f"a throttle is left behind: {described}")

    def raises_features():
        command = [TOOLS + "FeatureCommand", *server, "upgrade", "--dry-run", "--feature"]
        described = output(java(TOOLS + "FeatureCommand", *server, "describe"))
        level = int(re.search(r"group\.version .*FinalizedVersionLevel: (\d+)", described).group(1))
        expect_in(f"group.version can be upgraded to {level}", output(java(*command, f"group.version={level}")), "as it is")
        refused(f"Can not upgrade group.version to {level + 8}", *command, f"group.version={level + 8}")

    def unregisters():
        refused("BrokerIdNotRegisteredException", TOOLS + "ClusterTool", "unregister", *server, "--id", STRANGER)

    def finds_what_lacks_replicas():
        for what in ("--under-replicated-partitions", "--under-min-isr-partitions", "--unavailable-partitions"):
            printed = output(java(TOOLS + "TopicCommand", *server, "--describe", "--topic", topic, what))
            expect(printed.strip(), "", what)

    suite.check("kafka-metadata-quorum", describes_the_quorum)
    suite.check("kafka-leader-election", elects_leaders)
    suite.check("kafka-reassign-partitions", moves_partitions)
    suite.check("kafka-features upgrade --dry-run", raises_features)
    suite.check("kafka-cluster unregister", unregisters)
    suite.check("kafka-topics --describe of what lacks replicas", finds_what_lacks_replicas)
