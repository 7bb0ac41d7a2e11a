"""What operators do to three nodes with Kafka's own tools once it goes beyond a look: voters that leave and come back, a
move that is slowed down and given up, a leader that has not everything."""

import json
import os
import re
import tempfile

from cluster.nodes import NODES
from harness import expect, expect_in, output, run
from java import suite as java

TOOLS = "org.apache.kafka.tools."
# What a replica that is made anew may be sent at once, however slow it is made, and as much again (KIP-73).
BYTES = 4 << 20
RECORD_BYTES = 1 << 10
# Bytes a second: what is moved would take minutes.
THROTTLE = "20000"


def check_operators(suite, cluster, run_id, eventually):
    server = ["--bootstrap-server", cluster.bootstrap]

    def tool(name, *arguments):
        return output(java.java(TOOLS + name, *server, *arguments))

    def described(topic):
        """Leader, replicas and in-sync replicas of its only partition."""
        line = tool("TopicCommand", "--describe", "--topic", topic).splitlines()[1]
        fields = dict(part.split(": ", 1) for part in line.strip().split("\t") if ": " in part)
        return fields["Leader"], fields["Replicas"], fields["Isr"]

    def create(name, replicas, *configs):
        topic = f"{name}-{run_id}"
        more = [part for config in configs for part in ("--config", config)]
        tool("TopicCommand", "--create", "--topic", topic, "--replica-assignment", replicas, *more)
        return topic

    def write(topic, acks, count, size):
        lines = "".join(f"{number:0{size - 1}}\n" for number in range(count))
        output(["kcat", "-P", "-b", cluster.bootstrap, "-t", topic, "-X", f"acks={acks}"], stdin=lines)

    def status():
        return run([cluster.binary, "cluster", "status", "--bootstrap-servers", cluster.bootstrap, "--timeout", "10"])

    def looks_at_every_node():
        told = tool("LogDirsCommand", "--describe", "--broker-list", "1,2,3")
        brokers = json.loads(told.splitlines()[-1])["brokers"]
        expect(sorted(broker["broker"] for broker in brokers), NODES, "brokers with folders")
        expect([log_dir["error"] for broker in brokers for log_dir in broker["logDirs"]], [None] * len(NODES), "their errors")
        versions = tool("BrokerApiVersionsCommand")
        expect(sorted(map(int, re.findall(r"id: (\d+)", versions))), NODES, "brokers that tell their versions")
        expect_in("group.version", tool("FeatureCommand", "describe"), "features")

    def changes_voters():
        def roles():
            rows = [line.split() for line in tool("MetadataQuorumCommand", "describe", "--replication").splitlines()[1:]]
            return {int(row[0]): (row[1], row[-1]) for row in rows}

        before = roles()
        node = next(node for node, (_, role) in before.items() if role == "Follower")
        folder = before[node][0]
        named = ["--controller-id", str(node), "--controller-directory-id", folder]
        tool("MetadataQuorumCommand", "remove-controller", *named)
        eventually("it votes no more", lambda: roles()[node] == (folder, "Observer"))
        with tempfile.TemporaryDirectory() as log_dir:
            # The tool takes node and folder from where a controller of Kafka's has them.
            own = os.path.join(log_dir, "controller.properties")
            with open(os.path.join(log_dir, "meta.properties"), "w") as file:
                file.write(f"version=1\ncluster.id={cluster_id()}\nnode.id={node}\ndirectory.id={folder}\n")
            with open(own, "w") as file:
                listens = "listeners=CONTROLLER://localhost:9\nadvertised.listeners=CONTROLLER://localhost:9\n"
                roles_of_it = "process.roles=controller\ncontroller.listener.names=CONTROLLER\n"
                file.write(f"node.id={node}\n{roles_of_it}{listens}log.dirs={log_dir}\n")
                file.write("listener.security.protocol.map=CONTROLLER:PLAINTEXT\n")
                file.write(f"controller.quorum.bootstrap.servers={cluster.bootstrap}\n")
            tool("MetadataQuorumCommand", "--command-config", own, "add-controller")
        eventually("it votes again", lambda: roles()[node] == (folder, "Follower"))

    def cluster_id():
        return re.search(r"Cluster ID: (\S+)", output(java.java(TOOLS + "ClusterTool", "cluster-id", *server))).group(1)

    def gives_up_a_move():
        topic = create("given-up", "1")
        write(topic, "all", BYTES // RECORD_BYTES, RECORD_BYTES)
        content = {"version": 1, "partitions": [{"topic": topic, "partition": 0, "replicas": [1, 2]}]}
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(content, file)
            file.flush()
            reassign = ("reassign.ReassignPartitionsCommand", "--reassignment-json-file", file.name)
            tool(*reassign, "--execute", "--throttle", THROTTLE)
            listed = tool("reassign.ReassignPartitionsCommand", "--list")
            expect_in(f"{topic}-0: replicas: 1,2. adding: 2.", listed, "--list")
            # Every record that the new replica lacks is told, and no complaint: it is only being made.
            lag = re.compile(rf"^{topic} .* \+2 - +2:[1-9]\d*$", re.MULTILINE)
            eventually("the lag of the new replica is told", lambda: lag.search((told := status()).stdout) and told.returncode == 0)
            expect_in("Successfully cancelled", tool(*reassign, "--cancel"), "--cancel")
        eventually("it is as before", lambda: described(topic) == ("1", "1", "1"))
        configs = output(java.java("kafka.admin.ConfigCommand", *server, "--describe", "--entity-type", "topics", "--entity-name", topic))
        expect("throttled" in configs, False, f"a throttle is left behind: {configs}")
        expect("No partition reassignments found." in tool("reassign.ReassignPartitionsCommand", "--list"), True, "--list")

    def elects_a_leader_that_lacks_records():
        topic = create("unclean", "1:2", "min.insync.replicas=1")
        eventually("both are in sync", lambda: described(topic) == ("1", "1,2", "1,2"))
        cluster.nodes[2].kill()
        eventually("one is missed", lambda: described(topic)[2] == "1")
        write(topic, "all", 10, 10)
        cluster.nodes[1].kill()
        cluster.nodes[2].start()
        # Only node 1 has what was acknowledged: nobody leads in its place unasked.
        eventually("nobody leads", lambda: described(topic)[0] == "none")
        preferred = run(java.java(TOOLS + "LeaderElectionCommand", *server, "--election-type", "preferred", "--topic", topic, "--partition", "0"))
        expect(preferred.returncode, 1, "the preferred leader is not there")
        printed = tool("LeaderElectionCommand", "--election-type", "unclean", "--topic", topic, "--partition", "0")
        expect_in(f"Successfully completed leader election (UNCLEAN) for partitions {topic}-0", printed, "unclean")
        eventually("the other one leads", lambda: described(topic)[0] == "2")
        cluster.nodes[1].start()
        cluster.wait_until_well()
        expect(tool("GetOffsetShell", "--topic", topic).strip(), f"{topic}:0:0", "what the new leader had")

    suite.check("kafka-log-dirs, kafka-broker-api-versions, kafka-features", looks_at_every_node)
    suite.check("kafka-metadata-quorum remove-controller, add-controller", changes_voters)
    suite.check("kafka-reassign-partitions --cancel, and the lag before", gives_up_a_move)
    suite.check("kafka-leader-election unclean, of who lacks records", elects_a_leader_that_lacks_records)
