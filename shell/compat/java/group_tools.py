"""Kafka's own tools for groups: those that consume with one, and those that look after them."""

import json
import re
import subprocess
import time

from harness import Failed, expect, expect_in, output, run

TOOLS = "org.apache.kafka.tools."
COUNT = 120


def table(printed):
    """The rows of a table of groups, each a dictionary by the names of its columns."""
    # A coordinator's id follows its address in the same column.
    lines = [re.sub(r" +\((ID|\d+)\)(?= )", "", line).split() for line in printed.splitlines() if line.strip()]
    header = next((number for number, line in enumerate(lines) if line[0] == "GROUP"), 0)
    return [dict(zip(lines[header], line)) for line in lines[header + 1 :]]


def offsets(rows, column):
    return {int(row["PARTITION"]): int(row[column]) for row in rows}


def check_group_tools(suite, java, bootstrap, topic):
    """`java` makes the command line of a main class and its arguments."""
    server = ["--bootstrap-server", bootstrap]
    group = f"{topic}-group"

    def groups(*arguments):
        return output(java(TOOLS + "consumer.group.ConsumerGroupCommand", *server, *arguments))

    def described(*arguments):
        return table(groups("--describe", *arguments))

    def committed(name=group):
        return offsets(described("--group", name), "CURRENT-OFFSET")

    def consume(*arguments):
        command = java(TOOLS + "consumer.ConsoleConsumer", *server, "--timeout-ms", "20000", *arguments)
        return output(command).splitlines()

    def consumes_with_a_group():
        output(java(TOOLS + "TopicCommand", *server, "--create", "--topic", topic, "--partitions", "3"))
        lines = "".join(f"key {i}\tline {i}\n" for i in range(COUNT))
        output(java(TOOLS + "ConsoleProducer", *server, "--topic", topic, "--property", "parse.key=true"), stdin=lines)
        first = consume("--topic", topic, "--group", group, "--from-beginning", "--max-messages", str(COUNT))
        expect(sorted(first), sorted(f"line {i}" for i in range(COUNT)), "records of a group that begins")
        rows = described("--group", group)
        expect(sum(int(row["CURRENT-OFFSET"]) for row in rows), COUNT, "committed offsets")
        expect({row["LAG"] for row in rows}, {"0"}, "lag")

    def lists():
        expect_in(group, groups("--list").splitlines(), "--list")
        expect_in([group, "Empty"], [line.split() for line in groups("--list", "--state").splitlines()], "--list --state")
        expect_in([group, "Classic"], [line.split() for line in groups("--list", "--type").splitlines()], "--list --type")
        if group in groups("--list", "--state", "stable"):
            raise Failed("a group without members is listed as stable")

    def describes_members():
        for protocol in ("classic", "consumer"):
            name = f"{group}-{protocol}"
            command = java(TOOLS + "consumer.ConsoleConsumer", *server, "--topic", topic, "--group", name, "--from-beginning")
            properties = ["--command-property", f"group.protocol={protocol}", "--command-property", "client.id=me"]
            member = subprocess.Popen(command + properties, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            try:
                for _ in range(COUNT):
                    expect_in("line", member.stdout.readline(), "a line of the member")
                (row,) = described("--group", name, "--members", "--verbose")
                expect((row["CLIENT-ID"], row["#PARTITIONS"]), ("me", "3"), "its member")
                expect_in(f"{topic}:0,1,2", row["CURRENT-ASSIGNMENT"].replace("(", ":").replace(")", ""), "its partitions")
                (state,) = described("--group", name, "--state")
                assignor = {"classic": "range", "consumer": "uniform"}[protocol]
                expect((state["STATE"], state["#MEMBERS"], state["ASSIGNMENT-STRATEGY"]), ("Stable", "1", assignor), "its state")
                delete = run(java(TOOLS + "consumer.group.ConsumerGroupCommand", *server, "--delete", "--group", name))
                expect_in("GroupNotEmptyException", delete.stdout + delete.stderr, "--delete of a group in use")
            finally:
                member.terminate()
                member.communicate()

    def describes_all_groups():
        described_all = groups("--describe", "--all-groups")
        expect_in(group, described_all, "--all-groups")
        expect_in(f"'{group}' has no active members", described_all + output_of("--describe", "--group", group), "a hint")

    def output_of(*arguments):
        done = run(java(TOOLS + "consumer.group.ConsumerGroupCommand", *server, *arguments))
        return done.stdout + done.stderr

    def reset(*to):
        return offsets(table(groups("--reset-offsets", "--group", group, "--topic", topic, *to)), "NEW-OFFSET")

    def resets_offsets():
        before = committed()
        expect(reset("--to-earliest"), {p: 0 for p in before}, "--to-earliest")
        expect(committed(), before, "without --execute")
        expect(reset("--to-earliest", "--execute"), {p: 0 for p in before}, "--to-earliest --execute")
        expect(reset("--shift-by", "5", "--execute"), {p: min(5, end) for p, end in before.items()}, "--shift-by 5")
        expect(reset("--to-datetime", "2099-01-01T00:00:00.000", "--execute"), before, "--to-datetime that is to come")
        expect(committed(), before, "with --execute")
        expect(reset("--by-duration", "PT1H", "--execute"), {p: 0 for p in before}, "--by-duration")
        again = consume("--topic", topic, "--group", group, "--max-messages", str(COUNT))
        expect(len(again), COUNT, "records that are read again")

    def deletes_offsets():
        groups("--delete-offsets", "--group", group, "--topic", f"{topic}:1")
        expect(sorted(committed()), [0, 2], "partitions with an offset")

    def deletes():
        groups("--delete", "--group", group)
        if group in groups("--list").splitlines():
            raise Failed("the group is still listed")
        expect_in("GroupIdNotFoundException", output_of("--delete", "--group", group), "a second --delete")

    def measures():
        arguments = ["--topic", topic, "--num-records", str(COUNT), "--group", f"{group}-perf", "--hide-header"]
        printed = output(java(TOOLS + "ConsumerPerformance", *server, *arguments))
        expect(printed.split(", ")[4], str(COUNT), "records of its report")
        expect(sum(committed(f"{group}-perf").values()), COUNT, "committed offsets")

    def reads_the_offsets_topic():
        """Kafka's formatters read keys and values of __consumer_offsets from the bytes, so these must be Kafka's."""
        formatted(f"{TOOLS}consumer.OffsetsMessageFormatter", "1", lambda data: data.get("topic") == topic)
        formatted(f"{TOOLS}consumer.GroupMetadataMessageFormatter", "2", lambda data: data.get("group") == f"{group}-perf")

    def formatted(formatter, kind, wanted):
        arguments = ["--topic", "__consumer_offsets", "--from-beginning", "--formatter", formatter]
        command = java(TOOLS + "consumer.ConsoleConsumer", *server, *arguments)
        decoder, text, found = json.JSONDecoder(), "", []
        reader = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        try:
            # The objects follow one another without a line break, and the consumer waits for more.
            while not found and time.monotonic() < deadline:
                text += reader.stdout.read1().decode()
                while text.lstrip().startswith("{"):
                    try:
                        entry, end = decoder.raw_decode(text.lstrip())
                    except ValueError:
                        break
                    text = text.lstrip()[end:]
                    if wanted(entry["key"]["data"]) and entry["value"]:
                        found.append(entry)
        finally:
            reader.terminate()
            reader.communicate()
        if not found:
            raise Failed(f"{formatter} shows nothing that was committed")
        expect(str(found[0]["key"]["type"]), kind, "kind of its key")

    suite.check("kafka-console-consumer --group", consumes_with_a_group)
    suite.check("kafka-consumer-groups --list", lists)
    suite.check("kafka-consumer-groups --describe, members", describes_members)
    suite.check("kafka-consumer-groups --describe --all-groups", describes_all_groups)
    suite.check("kafka-consumer-groups --reset-offsets", resets_offsets)
    suite.check("kafka-consumer-perf-test --group", measures)
    suite.check("__consumer_offsets by Kafka's formatters", reads_the_offsets_topic)
    suite.check("kafka-consumer-groups --delete-offsets", deletes_offsets)
    suite.check("kafka-consumer-groups --delete", deletes)
