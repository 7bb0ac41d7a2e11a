"""Kafka's own command-line tools, and a Java program over its client."""

import glob
import json
import os
import re
import tempfile
import time

from java.cluster_tools import check_cluster_tools
from java.group_tools import check_group_tools
from harness import CACHE, HERE, Failed, Suite, expect, expect_in, install, must, output, run

HOME = os.path.join(HERE, "java")
TOOLS = "org.apache.kafka.tools."
# A tool lives a second: compile little and keep one collector.
JVM = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m"]


def prepare():
    pom = os.path.join(HOME, "pom.xml")
    sources = sorted(glob.glob(os.path.join(HOME, "*.java")))

    def fetch(folder):
        goal = ["dependency:build-classpath", "-DincludeScope=runtime"]
        must(["mvn", "-q", "-B", "-f", pom, *goal, f"-Dmdep.outputFile={os.path.join(folder, 'classpath')}"])

    def compile_programs(folder):
        must(["javac", "-Xlint:all", "-Werror", "-cp", jars(), "-d", folder, *sources])

    install("java", open(pom).read(), fetch)
    install("java-classes", "".join(open(source).read() for source in sources), compile_programs)


def jars():
    return open(os.path.join(CACHE, "java", "classpath")).read().strip()


def java(*arguments):
    log = f"-Dlog4j2.configurationFile={os.path.join(HOME, 'log4j2.properties')}"
    return [*JVM, log, "-cp", os.path.join(CACHE, "java-classes") + os.pathsep + jars(), *arguments]


def check_all(table, bootstrap, run_id):
    programs = {"Checks": "client", "Groups": "groups", "GroupAdmin": "group admin", "Compaction": "compaction", "ClusterAdmin": "cluster"}
    for program, client in programs.items():
        Suite(table, f"java {client}", bootstrap).program(java(program, bootstrap, run_id))
    check_tools(Suite(table, "java tools", bootstrap), bootstrap, f"tools-{run_id}")
    check_group_tools(Suite(table, "java group tools", bootstrap), java, bootstrap, f"group-tools-{run_id}")
    check_cluster_tools(Suite(table, "java cluster tools", bootstrap), java, bootstrap, f"cluster-tools-{run_id}")


def check_tools(suite, bootstrap, topic):
    server = ["--bootstrap-server", bootstrap]
    lines = [f"line {i}" for i in range(100)]

    def topics(*arguments):
        return output(java(TOOLS + "TopicCommand", *server, *arguments))

    def configs(*arguments):
        return output(java("kafka.admin.ConfigCommand", *server, *arguments))

    def consume(*arguments):
        command = java(TOOLS + "consumer.ConsoleConsumer", *server, "--topic", topic, "--timeout-ms", "20000")
        return output(command + list(arguments)).splitlines()

    def creates_and_describes():
        topics("--create", "--topic", topic, "--partitions", "3", "--config", "retention.ms=86400000")
        expect_in(topic, topics("--list").splitlines(), "--list")
        described = topics("--describe", "--topic", topic)
        for part in ("PartitionCount: 3", "ReplicationFactor: 1", "retention.ms=86400000", "Partition: 2"):
            expect_in(part, described, "--describe")
        again = run(java(TOOLS + "TopicCommand", *server, "--create", "--topic", topic))
        expect_in("already exists", again.stdout + again.stderr, "a second --create")

    def adds_partitions():
        topics("--alter", "--topic", topic, "--partitions", "4")
        expect_in("PartitionCount: 4", topics("--describe", "--topic", topic), "--describe")

    def changes_configs():
        entity = ("--entity-type", "topics", "--entity-name", topic)
        configs("--alter", *entity, "--add-config", "retention.ms=3600000,max.message.bytes=2000000")
        expect_in("retention.ms=3600000", configs("--describe", *entity), "after --add-config")
        configs("--alter", *entity, "--delete-config", "retention.ms")
        described = configs("--describe", *entity)
        expect_in("max.message.bytes=2000000", described, "what was not deleted")
        if "retention.ms=3600000" in described:
            raise Failed(f"retention.ms is still set: {described}")
        expect_in("segment.bytes=", configs("--describe", "--all", *entity), "--all")
        bad = run(java("kafka.admin.ConfigCommand", *server, "--alter", *entity, "--add-config", "retention.ms=soon"))
        expect_in("InvalidConfiguration", bad.stdout + bad.stderr, "a value that is no number")

    def describes_broker_configs():
        described = configs("--describe", "--all", "--entity-type", "brokers", "--entity-default")
        expect_in("Default configs for brokers", described, "--entity-default")
        node = re.search(r"id: (\d+)", output(java(TOOLS + "BrokerApiVersionsCommand", *server))).group(1)
        expect_in("num.partitions=", configs("--describe", "--all", "--entity-type", "brokers", "--entity-name", node), "--all")

    def produces_and_consumes():
        producer = java(TOOLS + "ConsoleProducer", *server, "--topic", topic, "--property", "parse.key=true")
        output(producer, stdin="".join(f"same key\t{line}\n" for line in lines))
        ends = offsets("-1")
        (partition,) = [p for p, offset in ends.items() if offset == 100]
        at = ("--partition", str(partition))
        expect(consume(*at, "--offset", "earliest", "--max-messages", "100"), lines, "from the beginning")
        expect(consume(*at, "--offset", "90", "--max-messages", "10"), lines[90:], "from 90")

    def offsets(time_spec):
        printed = output(java(TOOLS + "GetOffsetShell", *server, "--topic", topic, "--time", time_spec))
        return {int(p): int(o) for _, p, o in (line.split(":") for line in printed.split())}

    def queries_offsets():
        expect(offsets("-2"), {0: 0, 1: 0, 2: 0, 3: 0}, "earliest")
        expect(sum(offsets("-1").values()), 100, "latest")
        expect(sum(1 for o in offsets("-3").values() if o >= 0), 1, "partitions with a maximum timestamp")

    def deletes_records():
        (partition,) = [p for p, offset in offsets("-1").items() if offset == 100]
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"partitions": [{"topic": topic, "partition": partition, "offset": 40}], "version": 1}, file)
            file.flush()
            printed = output(java(TOOLS + "DeleteRecordsCommand", *server, "--offset-json-file", file.name))
        expect_in("low_watermark: 40", printed, "the answer")
        expect(offsets("-2")[partition], 40, "the first offset")

    def describes_log_dirs():
        printed = output(java(TOOLS + "LogDirsCommand", *server, "--describe", "--topic-list", topic))
        (broker,) = json.loads(printed.splitlines()[-1])["brokers"]
        sizes = [p["size"] for d in broker["logDirs"] for p in d["partitions"]]
        expect((len(sizes), max(sizes) > 0), (4, True), "partitions, and a size")

    def measures():
        arguments = ["--topic", topic, "--num-records", "20000", "--record-size", "256", "--throughput", "-1"]
        printed = output(java(TOOLS + "ProducerPerformance", *arguments, "--bootstrap-server", bootstrap))
        expect_in("20000 records sent", printed, "its report")

    def shows_api_versions():
        printed = output(java(TOOLS + "BrokerApiVersionsCommand", *server))
        for part in ("Produce(0): 0 to 13", "Fetch(1): 4 to 18", "Metadata(3): 0 to 13", "ApiVersions(18): 0 to 4"):
            expect_in(part, printed, "ranges")

    def shows_the_cluster_id():
        expect_in("Cluster ID: ", output(java(TOOLS + "ClusterTool", "cluster-id", *server)), "cluster-id")

    def verifies():
        printed = output(java(TOOLS + "VerifiableProducer", *server, "--topic", topic, "--max-messages", "500"))
        expect_in('"sent":500,"acked":500', printed.replace(" ", ""), "its report")

    def describes_producers():
        where = ["--topic", topic, "--partition", "0"]
        printed = output(java(TOOLS + "TransactionsCommand", *server, "describe-producers", *where))
        expect_in("LastSequence", printed, "its report")
        if len(printed.splitlines()) < 2:
            raise Failed(f"no producer of a partition that was just written to: {printed}")

    def describes_features():
        output(java(TOOLS + "FeatureCommand", *server, "describe"))

    def deletes():
        topics("--delete", "--topic", topic)
        deadline = time.monotonic() + 20
        while topic in topics("--list").splitlines():
            if time.monotonic() > deadline:
                raise Failed("the topic is still listed")

    suite.check("kafka-topics --create, --list, --describe", creates_and_describes)
    suite.check("kafka-topics --alter --partitions", adds_partitions)
    suite.check("kafka-configs of a topic", changes_configs)
    suite.check("kafka-configs of brokers", describes_broker_configs)
    suite.check("kafka-console-producer and -consumer", produces_and_consumes)
    suite.check("kafka-get-offsets", queries_offsets)
    suite.check("kafka-delete-records", deletes_records)
    suite.check("kafka-log-dirs", describes_log_dirs)
    suite.check("kafka-producer-perf-test", measures)
    suite.check("kafka-verifiable-producer", verifies)
    suite.check("kafka-transactions describe-producers", describes_producers)
    suite.check("kafka-features describe", describes_features)
    suite.check("kafka-broker-api-versions", shows_api_versions)
    suite.check("kafka-cluster cluster-id", shows_the_cluster_id)
    suite.check("kafka-topics --delete", deletes)
