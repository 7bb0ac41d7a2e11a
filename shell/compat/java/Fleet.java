import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.function.BiConsumer;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.CloseOptions.GroupMembershipOperation;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;

/**
 * Members of one group, each on a thread of its own, and a ledger of what they were given and what they read. Every
 * member commits what it has read before it asks for more, so what is read twice was read by a member that could not.
 */
final class Fleet implements AutoCloseable {
    static final int PARTITIONS = 12;

    final String topic;
    final String group;
    private final Program program;
    private final Map<String, String> config;
    private final BiConsumer<KafkaConsumer<byte[], byte[]>, ConsumerRebalanceListener> subscribe;
    private final KafkaProducer<byte[], byte[]> producer;
    private final List<Member> members = new ArrayList<>();
    private final ConcurrentLinkedQueue<Throwable> errors = new ConcurrentLinkedQueue<>();
    // Guarded by `this`: who owns a partition by its own account, and who has read a value.
    private final Map<TopicPartition, Member> owners = new HashMap<>();
    private final Map<String, List<Member>> seen = new TreeMap<>();
    private final List<String> overlaps = new ArrayList<>();
    private final Set<String> produced = new TreeSet<>();
    private int nextValue;

    /** A new topic and a group of its name; members join with `config`. */
    Fleet(Program program, String name, Map<String, String> config) throws Exception {
        this(program, program.create(name, PARTITIONS), config, null);
    }

    /** Members of the group `topic` subscribe in another way than by that name. */
    Fleet(Program program, String topic, Map<String, String> config,
            BiConsumer<KafkaConsumer<byte[], byte[]>, ConsumerRebalanceListener> subscribe) {
        this.program = program;
        this.topic = topic;
        this.group = topic;
        this.config = config;
        this.subscribe = subscribe != null ? subscribe : (consumer, listener) -> consumer.subscribe(List.of(topic), listener);
        // One request at a time: where the first of several to a partition meets a leader that is not there yet, Apache
        // Kafka may take the second, and refuses the first from then on.
        this.producer = program.producer(Map.of("linger.ms", "0", "max.in.flight.requests.per.connection", "1",
            "retry.backoff.max.ms", "100", "reconnect.backoff.max.ms", "100"));
    }

    /** How a classic member times out; the broker decides for the others. A session ends in 6 s, unless `config` says so. */
    static Map<String, String> classic(String... more) {
        Map<String, String> config = new HashMap<>(Map.of("group.protocol", "classic", "session.timeout.ms", "6000",
            "heartbeat.interval.ms", "200"));
        return with(config, more);
    }

    static Map<String, String> consumer(String... more) {
        return with(new HashMap<>(Map.of("group.protocol", "consumer")), more);
    }

    static Map<String, String> with(Map<String, String> config, String... more) {
        Map<String, String> all = new HashMap<>(config);
        for (int i = 0; i < more.length; i += 2) {
            all.put(more[i], more[i + 1]);
        }
        return all;
    }

    /** One member more, on its way into the group; `more` is added to the fleet's configuration. */
    Member join(String... more) {
        return join(with(config, more));
    }

    Member join(Map<String, String> config) {
        Member member = new Member(config);
        members.add(member);
        member.thread.start();
        return member;
    }

    void join(int count) {
        for (int i = 0; i < count; i++) {
            join();
        }
    }

    List<Member> members() {
        return List.copyOf(members);
    }

    /** Members share the twelve partitions: each has its part, none has two more than another, and it stays so. */
    void awaitBalanced() throws Exception {
        awaitBalanced(PARTITIONS);
    }

    void awaitBalanced(int partitions) throws Exception {
        Program.await(() -> isBalanced(partitions), () -> members.size() + " members share " + partitions + " partitions: " + ownership());
    }

    private synchronized boolean isBalanced(int partitions) {
        rethrow();
        Map<Member, Integer> parts = new HashMap<>();
        members.forEach(member -> parts.put(member, 0));
        owners.values().forEach(owner -> parts.merge(owner, 1, Integer::sum));
        int least = parts.values().stream().min(Integer::compare).orElse(0);
        int most = parts.values().stream().max(Integer::compare).orElse(0);
        return owners.size() == partitions && parts.size() == members.size() && least > 0 && most - least <= 1;
    }

    private synchronized String ownership() {
        Map<Integer, Integer> parts = new TreeMap<>();
        members.forEach(member -> parts.put(member.number, 0));
        owners.values().forEach(owner -> parts.merge(owner.number, 1, Integer::sum));
        return parts.toString();
    }

    /** So many records in turns over the partitions, all acknowledged. */
    Set<String> produce(int count) throws Exception {
        return produce(topic, PARTITIONS, count);
    }

    Set<String> produce(String topic, int partitions, int count) throws Exception {
        Set<String> values = new TreeSet<>();
        List<java.util.concurrent.Future<?>> sent = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            String value = String.format("%06d", nextValue++);
            values.add(value);
            sent.add(producer.send(new ProducerRecord<>(topic, i % partitions, null, value.getBytes())));
        }
        for (var future : sent) {
            future.get();
        }
        synchronized (this) {
            produced.addAll(values);
        }
        return values;
    }

    /** Everything that was ever produced here has been read by someone. */
    void awaitAllSeen() throws Exception {
        Program.await(() -> {
            rethrow();
            synchronized (this) {
                return seen.keySet().containsAll(produced);
            }
        }, () -> "all records are read: " + missing());
    }

    private synchronized String missing() {
        Set<String> missing = new TreeSet<>(produced);
        missing.removeAll(seen.keySet());
        return missing.size() + " of " + produced.size() + " are missing, ownership " + ownership();
    }

    /** A group that is balanced reads each new record once, and each partition by one member. */
    void readsOnce(int count) throws Exception {
        readsOnce(produce(count));
    }

    void readsOnce(Set<String> values) throws Exception {
        awaitAllSeen();
        synchronized (this) {
            for (String value : values) {
                Program.equal(seen.get(value).size(), 1, "times that record " + value + " of a stable group is read");
            }
        }
    }

    synchronized int timesSeen() {
        return seen.values().stream().mapToInt(List::size).sum();
    }

    /** No member was given a partition while another had it. The dead and the crashed have nothing. */
    synchronized void neverOverlapped() {
        Program.equal(overlaps, List.of(), "partitions with two owners");
    }

    /** What one committed offset per partition says, summed up. */
    long committed() throws Exception {
        return program.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().values().stream()
            .mapToLong(offset -> offset.offset()).sum();
    }

    boolean failedWith(Class<? extends Throwable> error) {
        return errors.removeIf(error::isInstance);
    }

    private void rethrow() {
        if (!errors.isEmpty()) {
            throw new AssertionError("a member failed: " + errors.peek(), errors.peek());
        }
    }

    @Override
    public void close() {
        List.copyOf(members).forEach(member -> member.end = GroupMembershipOperation.LEAVE_GROUP);
        List.copyOf(members).forEach(Member::leave);
        producer.close(Duration.ZERO);
    }

    /** One consumer and its thread. */
    final class Member {
        final int number;
        private final Map<String, String> config;
        private final Thread thread = new Thread(this::consume);
        private volatile GroupMembershipOperation end;
        // Guarded by the fleet: how many partitions came and went in all.
        private int assigned;
        private int revoked;

        private Member(Map<String, String> config) {
            this.number = members.size();
            this.config = config;
            thread.setDaemon(true);
        }

        /** Leaves the group, as a consumer does that is closed; a static member stays in it. */
        void leave() {
            end(GroupMembershipOperation.DEFAULT);
        }

        /** Is gone without a word: the group learns it from its session. */
        void die() {
            end(GroupMembershipOperation.REMAIN_IN_GROUP);
        }

        private void end(GroupMembershipOperation how) {
            end = end == null ? how : end;
            try {
                thread.join(20_000);
            } catch (InterruptedException impossible) {
                throw new AssertionError(impossible);
            }
            members.remove(this);
            synchronized (Fleet.this) {
                owners.values().removeIf(owner -> owner == this);
            }
            rethrow();
        }

        int assigned() {
            synchronized (Fleet.this) {
                return assigned;
            }
        }

        int revoked() {
            synchronized (Fleet.this) {
                return revoked;
            }
        }

        Set<TopicPartition> partitions() {
            synchronized (Fleet.this) {
                Set<TopicPartition> mine = new HashSet<>();
                owners.forEach((partition, owner) -> {
                    if (owner == this) {
                        mine.add(partition);
                    }
                });
                return mine;
            }
        }

        private void consume() {
            Map<String, String> all = with(Map.of("group.id", group, "auto.offset.reset", "earliest",
                "reconnect.backoff.max.ms", "100", "retry.backoff.max.ms", "100", "metadata.max.age.ms", "500"));
            all.putAll(config);
            try (KafkaConsumer<byte[], byte[]> consumer = program.consumer(all)) {
                subscribe.accept(consumer, new Ledger());
                while (end == null) {
                    var records = consumer.poll(Duration.ofMillis(50));
                    synchronized (Fleet.this) {
                        records.forEach(r -> seen.computeIfAbsent(new String(r.value()), v -> new ArrayList<>()).add(this));
                    }
                    if (!records.isEmpty()) {
                        commit(consumer);
                    }
                }
                consumer.close(CloseOptions.timeout(Duration.ofSeconds(10)).withGroupMembershipOperation(end));
            } catch (Throwable error) { // Whatever a member throws fails the check that waits for it.
                errors.add(error);
            }
        }

        private void commit(KafkaConsumer<byte[], byte[]> consumer) {
            try {
                consumer.commitSync();
            } catch (CommitFailedException | RebalanceInProgressException elsewhere) {
                // The partitions go to somebody else, who reads these records again.
            }
        }

        private final class Ledger implements ConsumerRebalanceListener {
            @Override
            public void onPartitionsAssigned(java.util.Collection<TopicPartition> partitions) {
                synchronized (Fleet.this) {
                    assigned += partitions.size();
                    for (TopicPartition partition : partitions) {
                        Member before = owners.put(partition, Member.this);
                        if (before != null && before != Member.this) {
                            overlaps.add(partition + " of member " + before.number + " was given to member " + number);
                        }
                    }
                }
            }

            @Override
            public void onPartitionsRevoked(java.util.Collection<TopicPartition> partitions) {
                synchronized (Fleet.this) {
                    revoked += partitions.size();
                    partitions.forEach(partition -> owners.remove(partition, Member.this));
                }
            }
        }
    }
}
