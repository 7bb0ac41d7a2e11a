import java.time.Duration;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.regex.Pattern;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.NoOffsetForPartitionException;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.OffsetMetadataTooLarge;
import org.apache.kafka.common.errors.UnreleasedInstanceIdException;

/**
 * Groups of the Java consumer under both protocols: members that join, leave, die, restart and are replaced, and a
 * broker that is killed under them; what is committed, and where a group starts that has committed nothing.
 */
public final class Groups extends Program {
    private static final String COOPERATIVE = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor";
    private static final String RANGE = "org.apache.kafka.clients.consumer.RangeAssignor";

    private Groups(String bootstrap, String suffix) {
        super(bootstrap, suffix);
    }

    public static void main(String[] arguments) {
        new Groups(arguments[0], arguments[1]).run();
    }

    @Override
    void all() {
        for (var config : List.of(Fleet.classic(), Fleet.consumer())) {
            String protocol = config.get("group.protocol");
            check(protocol + ": two, then ten members, then a restart", () -> sharesPartitions(config));
            check(protocol + ": a member joins, leaves, dies", () -> followsMembers(config));
            check(protocol + ": static members restart without a rebalance", () -> keepsStaticMembers(config));
            check(protocol + ": rolling restart of members", () -> rolls(config));
            check(protocol + ": a fresh group starts as it is told", () -> startsFresh(config));
            check(protocol + ": commits with metadata and leader epoch", () -> commitsMetadata(config));
            check(protocol + ": offsets are reset by timestamp", () -> resetsByTimestamp(config));
            if (KILL != null) {
                check(protocol + ": the broker is killed", () -> survivesTheBroker(config));
            }
        }
        check("classic: subscription by a Java pattern", this::subscribesByPattern);
        check("consumer: subscription by an RE2J pattern", this::subscribesByServerPattern);
        check("classic: cooperative sticky moves what must move", this::movesFew);
        check("classic: a second member of a static name fences", this::fencesStaticMembers);
        check("consumer: a static name in use is refused", this::refusesStaticMembers);
        check("consumer: the server's assignors", this::assigns);
        check("classic to consumer and back, member by member", this::changesProtocol);
    }

    private void sharesPartitions(Map<String, String> config) throws Exception {
        String name = "share-" + config.get("group.protocol");
        String topic;
        try (Fleet fleet = new Fleet(this, name, config)) {
            topic = fleet.topic;
            fleet.produce(600);
            fleet.join(2);
            fleet.awaitBalanced();
            fleet.awaitAllSeen();
            fleet.readsOnce(120);
            fleet.join(8);
            fleet.awaitBalanced();
            fleet.readsOnce(240);
            fleet.neverOverlapped();
            await(() -> fleet.committed() == 960, "all is committed");
        }
        try (Fleet restarted = new Fleet(this, topic, config, null)) {
            restarted.join(3);
            restarted.awaitBalanced();
            restarted.readsOnce(60);
            equal(restarted.timesSeen(), 60, "records that a restarted group reads");
        }
    }

    private void followsMembers(Map<String, String> config) throws Exception {
        try (Fleet fleet = new Fleet(this, "follow-" + config.get("group.protocol"), config)) {
            fleet.produce(120);
            fleet.join(2);
            fleet.awaitBalanced();
            Fleet.Member third = fleet.join();
            fleet.awaitBalanced();
            fleet.readsOnce(60);
            third.leave();
            fleet.awaitBalanced();
            fleet.readsOnce(60);
            fleet.neverOverlapped();
            // Members of the other protocol do not set their session themselves.
            boolean classic = config.get("group.protocol").equals("classic");
            Fleet.Member mortal = classic ? fleet.join("session.timeout.ms", "2000") : fleet.join();
            fleet.awaitBalanced();
            mortal.die();
            fleet.produce(60);
            fleet.awaitBalanced();
            fleet.awaitAllSeen();
        }
    }

    private void keepsStaticMembers(Map<String, String> config) throws Exception {
        try (Fleet fleet = new Fleet(this, "static-" + config.get("group.protocol"), config)) {
            Fleet.Member one = fleet.join("group.instance.id", "one");
            Fleet.Member two = fleet.join("group.instance.id", "two");
            Fleet.Member three = fleet.join("group.instance.id", "three");
            fleet.awaitBalanced();
            fleet.readsOnce(120);
            int changes = one.assigned() + one.revoked() + two.assigned() + two.revoked();
            Set<TopicPartition> before = three.partitions();
            three.leave();
            equal(admin.describeConsumerGroups(List.of(fleet.group)).all().get().get(fleet.group).members().size(), 3, "members");
            Set<String> meanwhile = fleet.produce(60);
            three = fleet.join("group.instance.id", "three");
            fleet.awaitBalanced();
            equal(three.partitions(), before, "partitions after the restart");
            fleet.readsOnce(meanwhile);
            equal(one.assigned() + one.revoked() + two.assigned() + two.revoked(), changes, "changes of the others");
            fleet.neverOverlapped();
        }
    }

    private void rolls(Map<String, String> config) throws Exception {
        try (Fleet fleet = new Fleet(this, "roll-" + config.get("group.protocol"), config)) {
            fleet.join(3);
            fleet.awaitBalanced();
            for (Fleet.Member old : fleet.members()) {
                fleet.produce(60);
                old.leave();
                fleet.produce(60);
                fleet.join();
                fleet.produce(60);
                fleet.awaitBalanced();
            }
            fleet.readsOnce(60);
            fleet.neverOverlapped();
            await(() -> fleet.committed() == 600, "all is committed");
        }
    }

    private void survivesTheBroker(Map<String, String> config) throws Exception {
        String topic;
        try (Fleet fleet = new Fleet(this, "killed-" + config.get("group.protocol"), config)) {
            topic = fleet.topic;
            fleet.join(3);
            fleet.awaitBalanced();
            fleet.readsOnce(240);
            await(() -> fleet.committed() == 240, "all is committed");
            CompletableFuture<Void> load = CompletableFuture.runAsync(() -> {
                try {
                    for (int i = 0; i < 20; i++) {
                        fleet.produce(24);
                    }
                } catch (Exception error) {
                    throw new AssertionError(error);
                }
            });
            killBroker();
            equal(fleet.committed() >= 240, true, "what was committed is still committed");
            load.get();
            fleet.awaitAllSeen();
            fleet.awaitBalanced();
            fleet.readsOnce(60);
            await(() -> fleet.committed() == 240 + 480 + 60, "all is committed");
            fleet.neverOverlapped();
        }
        killBroker();
        try (Fleet fleet = new Fleet(this, topic, config, null)) {
            fleet.join(2);
            fleet.awaitBalanced();
            fleet.readsOnce(60);
            equal(fleet.timesSeen(), 60, "records that a group reads after another crash");
        }
    }

    private void subscribesByPattern() throws Exception {
        Pattern pattern = Pattern.compile("java-pattern-[ab]-" + suffix);
        subscribes("pattern", Fleet.classic(), (consumer, listener) -> consumer.subscribe(pattern, listener));
    }

    private void subscribesByServerPattern() throws Exception {
        SubscriptionPattern pattern = new SubscriptionPattern("java-re2j-[ab]-" + suffix);
        subscribes("re2j", Fleet.consumer(), (consumer, listener) -> consumer.subscribe(pattern, listener));
    }

    /** Two topics match, a third does not; one of the two comes when members are there already. */
    private void subscribes(String name, Map<String, String> config,
            java.util.function.BiConsumer<org.apache.kafka.clients.consumer.KafkaConsumer<byte[], byte[]>,
            org.apache.kafka.clients.consumer.ConsumerRebalanceListener> subscribe) throws Exception {
        String a = create(name + "-a", 4);
        create(name + "-c", 4);
        boolean findsLater = config.get("group.protocol").equals("classic");
        if (!findsLater) {
            // A broker looks for new topics that match at most every ten seconds (KIP-848): too long for a check.
            create(name + "-b", 4);
        }
        try (Fleet fleet = new Fleet(this, "java-group-" + name + "-" + suffix, config, subscribe)) {
            fleet.join(2);
            if (findsLater) {
                fleet.awaitBalanced(4);
                create(name + "-b", 4);
            }
            fleet.awaitBalanced(8);
            Set<String> values = new HashSet<>(fleet.produce(a, 4, 40));
            values.addAll(fleet.produce("java-" + name + "-b-" + suffix, 4, 40));
            fleet.readsOnce(values);
            equal(fleet.timesSeen(), 80, "records");
        }
    }

    /** KIP-429: who keeps a partition never stops reading it. */
    private void movesFew() throws Exception {
        try (Fleet fleet = new Fleet(this, "sticky", Fleet.classic("partition.assignment.strategy", COOPERATIVE))) {
            fleet.join(2);
            fleet.awaitBalanced();
            int before = fleet.members().stream().mapToInt(Fleet.Member::revoked).sum();
            fleet.join();
            fleet.awaitBalanced();
            equal(fleet.members().stream().mapToInt(Fleet.Member::revoked).sum() - before, 4, "partitions that moved");
            fleet.readsOnce(120);
            fleet.neverOverlapped();
        }
    }

    private void fencesStaticMembers() throws Exception {
        try (Fleet fleet = new Fleet(this, "fence", Fleet.classic("group.instance.id", "only"))) {
            fleet.join();
            fleet.awaitBalanced();
            fleet.join();
            await(() -> fleet.failedWith(org.apache.kafka.common.errors.FencedInstanceIdException.class), "the first is fenced");
        }
    }

    private void refusesStaticMembers() throws Exception {
        try (Fleet fleet = new Fleet(this, "unreleased", Fleet.consumer("group.instance.id", "only"))) {
            fleet.join();
            fleet.awaitBalanced();
            fleet.join();
            await(() -> fleet.failedWith(UnreleasedInstanceIdException.class), "the second is refused");
        }
    }

    private void assigns() throws Exception {
        for (String assignor : List.of("uniform", "range")) {
            try (Fleet fleet = new Fleet(this, "assignor-" + assignor, Fleet.consumer("group.remote.assignor", assignor))) {
                fleet.join(3);
                fleet.awaitBalanced();
                equal(admin.describeConsumerGroups(List.of(fleet.group)).all().get().get(fleet.group).partitionAssignor(),
                    assignor, "assignor");
                if (assignor.equals("range")) {
                    for (Fleet.Member member : fleet.members()) {
                        var parts = member.partitions().stream().mapToInt(TopicPartition::partition).sorted().toArray();
                        equal(parts[3] - parts[0], 3, "partitions side by side");
                    }
                }
                fleet.readsOnce(120);
            }
        }
    }

    /** KIP-848: the group changes its type with the first member of the other protocol, and back with the last. */
    private void changesProtocol() throws Exception {
        Map<String, String> classic = Fleet.classic("partition.assignment.strategy", COOPERATIVE);
        try (Fleet fleet = new Fleet(this, "migrate", classic)) {
            fleet.join(2);
            fleet.awaitBalanced();
            fleet.readsOnce(60);
            equal(typeOf(fleet.group), GroupType.CLASSIC, "type of a group of classic members");
            replaceAll(fleet, Fleet.consumer());
            equal(typeOf(fleet.group), GroupType.CONSUMER, "type of a group of consumer members");
            replaceAll(fleet, classic);
            equal(typeOf(fleet.group), GroupType.CLASSIC, "type of a group that went back");
            fleet.neverOverlapped();
            await(() -> fleet.committed() == 60 + 4 * 60, "all is committed");
        }
    }

    private void replaceAll(Fleet fleet, Map<String, String> config) throws Exception {
        for (Fleet.Member old : fleet.members()) {
            fleet.join(config);
            fleet.awaitBalanced();
            old.leave();
            fleet.awaitBalanced();
            fleet.readsOnce(60);
        }
        await(() -> stateOf(fleet.group) == GroupState.STABLE, "the group is stable");
    }

    private GroupType typeOf(String group) throws Exception {
        return admin.listGroups().all().get().stream().filter(g -> g.groupId().equals(group)).findFirst().get().type().get();
    }

    private GroupState stateOf(String group) throws Exception {
        return admin.describeConsumerGroups(List.of(group)).all().get().get(group).groupState();
    }

    private void startsFresh(Map<String, String> config) throws Exception {
        String protocol = config.get("group.protocol");
        String topic = create("fresh-" + protocol, 1);
        TopicPartition partition = new TopicPartition(topic, 0);
        produce(topic, 0, values(100), Map.of());
        for (String reset : List.of("earliest", "latest", "none")) {
            Map<String, String> all = Fleet.with(config, "group.id", topic + "-" + reset, "auto.offset.reset", reset);
            try (var consumer = consumer(all)) {
                consumer.subscribe(List.of(topic));
                await(() -> {
                    try {
                        consumer.poll(Duration.ofMillis(50));
                    } catch (NoOffsetForPartitionException error) {
                        return reset.equals("none");
                    }
                    return !reset.equals("none") && !consumer.assignment().isEmpty() && consumer.position(partition) == 100;
                }, reset);
                if (reset.equals("earliest")) {
                    consumer.seek(partition, 0);
                    equal(poll(consumer, 100).size(), 100, "records from the beginning");
                }
            }
        }
        equal(offset(partition, OffsetSpec.latest()), 100L, "latest");
    }

    private void commitsMetadata(Map<String, String> config) throws Exception {
        String protocol = config.get("group.protocol");
        String topic = create("metadata-" + protocol, 2);
        TopicPartition first = new TopicPartition(topic, 0);
        TopicPartition second = new TopicPartition(topic, 1);
        produce(topic, 0, values(100), Map.of());
        var commit = Map.of(first, new OffsetAndMetadata(40, Optional.of(0), "so far \u00fc"),
            second, new OffsetAndMetadata(0, Optional.empty(), ""));
        Map<String, String> all = Fleet.with(config, "group.id", topic, "auto.offset.reset", "earliest");
        try (var consumer = consumer(all)) {
            consumer.subscribe(List.of(topic));
            await(() -> {
                consumer.poll(Duration.ofMillis(50));
                return consumer.assignment().size() == 2;
            }, "assigned");
            consumer.commitSync(commit);
            equal(consumer.committed(Set.of(first, second)), commit, "what the member reads back");
            try {
                consumer.commitSync(Map.of(first, new OffsetAndMetadata(50, "x".repeat(5000))));
                throw new AssertionError("metadata of 5,000 bytes was accepted");
            } catch (OffsetMetadataTooLarge asItShould) {
                equal(consumer.committed(Set.of(first)).get(first).offset(), 40L, "the offset after a commit that failed");
            }
        }
        equal(admin.listConsumerGroupOffsets(topic).partitionsToOffsetAndMetadata().get(), commit, "what the admin reads");
        try (var successor = consumer(all)) {
            successor.subscribe(List.of(topic));
            equal(poll(successor, 60).get(0).offset(), 40L, "where the next member goes on");
        }
    }

    private void resetsByTimestamp(Map<String, String> config) throws Exception {
        String protocol = config.get("group.protocol");
        String topic = create("timestamp-" + protocol, 1);
        TopicPartition partition = new TopicPartition(topic, 0);
        long begin = System.currentTimeMillis() - 60_000;
        try (var producer = producer(Map.of())) {
            for (int i = 0; i < 100; i++) {
                producer.send(new ProducerRecord<>(topic, 0, begin + 100L * i, null, new byte[] {1}));
            }
        }
        Map<String, String> all = new HashMap<>(config);
        all.putAll(Map.of("group.id", topic, "auto.offset.reset", "earliest"));
        try (var consumer = consumer(all)) {
            consumer.subscribe(List.of(topic));
            equal(poll(consumer, 100).get(0).offset(), 0L, "first record");
            consumer.commitSync();
            var found = consumer.offsetsForTimes(Map.of(partition, begin + 6_950)).get(partition);
            consumer.commitSync(Map.of(partition, new OffsetAndMetadata(found.offset())));
        }
        try (var consumer = consumer(all)) {
            consumer.subscribe(List.of(topic));
            equal(poll(consumer, 30).get(0).offset(), 70L, "first record after the reset");
        }
    }
}
