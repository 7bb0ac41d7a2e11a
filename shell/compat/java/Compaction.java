import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.InvalidRecordException;
import org.apache.kafka.common.TopicPartition;

/** Compaction as a reader sees it: what disappears, what stays, and that offsets stay what they were. */
public final class Compaction extends Program {
    private static final Map<String, String> EAGER = Map.of("cleanup.policy", "compact", "segment.ms", "100",
        "segment.bytes", "1048576", "min.cleanable.dirty.ratio", "0.01", "delete.retention.ms", "100");
    private static final int KEYS = 50;

    private Compaction(String bootstrap, String suffix) {
        super(bootstrap, suffix);
    }

    public static void main(String[] arguments) {
        new Compaction(arguments[0], arguments[1]).run();
    }

    @Override
    void all() {
        check("the latest value of every key stays, at its offset", () -> keepsTheLatest("none"));
        check("batches that are compressed", () -> keepsTheLatest("zstd"));
        check("tombstones delete, and go", this::forgetsTombstones);
        check("a record without a key is refused", this::refusesKeyless);
        check("cleanup.policy=compact,delete deletes too", this::deletesToo);
        check("a topic that becomes compacted is compacted", this::changesPolicy);
    }

    private void keepsTheLatest(String codec) throws Exception {
        String topic = create("compact-" + codec, 1, EAGER);
        Map<String, Long> latest = new HashMap<>();
        try (var producer = producer(Map.of("compression.type", codec, "linger.ms", "20"))) {
            for (int round = 0; round < 10; round++) {
                for (int key = 0; key < KEYS; key++) {
                    var record = new ProducerRecord<>(topic, 0, bytes("key " + key), bytes("value " + round));
                    int last = key;
                    producer.send(record, (metadata, error) -> latest.put("key " + last, metadata.offset()));
                }
            }
        }
        equal(latest.size(), KEYS, "keys");
        awaitCompacted(topic, () -> offsetsOf(topic).size() == KEYS);
        equal(offsetsOf(topic), new TreeMap<>(latest), "offsets of what is left");
        for (var record : all(topic)) {
            if (new String(record.key()).startsWith("key")) {
                equal(new String(record.value()), "value 9", "value of " + new String(record.key()));
            }
        }
        TopicPartition partition = new TopicPartition(topic, 0);
        equal(offset(partition, OffsetSpec.earliest()), 0L, "log start offset: compaction leaves it");
        try (var consumer = consumer(Map.of())) {
            consumer.assign(List.of(partition));
            consumer.seek(partition, 7);
            var next = consumer.poll(Duration.ofSeconds(15)).iterator().next();
            equal(next.offset(), offsetsOf(topic).values().stream().min(Long::compare).get(), "where an offset that is gone leads");
        }
    }

    private void forgetsTombstones() throws Exception {
        String topic = create("tombstones", 1, EAGER);
        for (String value : new String[] {"a", "b", null}) {
            try (var producer = producer(Map.of())) {
                for (int key = 0; key < KEYS; key++) {
                    boolean stays = key % 2 == 0;
                    producer.send(new ProducerRecord<>(topic, 0, bytes("key " + key), stays ? bytes("kept") : bytes(value)));
                }
            }
        }
        awaitCompacted(topic, () -> offsetsOf(topic).size() == KEYS / 2);
        for (var record : all(topic)) {
            equal(record.value() != null || !new String(record.key()).startsWith("key"), true, "a tombstone is left");
        }
    }

    private void refusesKeyless() throws Exception {
        String topic = create("keyless", 1, EAGER);
        try (var producer = producer(Map.of())) {
            refused(InvalidRecordException.class, producer.send(new ProducerRecord<>(topic, 0, null, bytes("no key"))));
            equal(producer.send(new ProducerRecord<>(topic, 0, bytes("k"), bytes("v"))).get().offset(), 0L, "offset of the next");
        }
    }

    private void deletesToo() throws Exception {
        Map<String, String> both = new HashMap<>(EAGER);
        // Compaction must not join the old segment with newer ones, which would keep it.
        both.putAll(Map.of("cleanup.policy", "compact,delete", "retention.ms", "1000", "min.compaction.lag.ms", "600000"));
        String topic = create("compact-delete", 1, both);
        try (var producer = producer(Map.of())) {
            long old = System.currentTimeMillis() - 3_600_000;
            for (int key = 0; key < KEYS; key++) {
                producer.send(new ProducerRecord<>(topic, 0, old, bytes("key " + key), bytes("old")));
            }
        }
        awaitCompacted(topic, () -> offset(new TopicPartition(topic, 0), OffsetSpec.earliest()) >= KEYS);
    }

    private void changesPolicy() throws Exception {
        Map<String, String> delete = new HashMap<>(EAGER);
        delete.put("cleanup.policy", "delete");
        String topic = create("becomes-compact", 1, delete);
        for (int round = 0; round < 2; round++) {
            try (var producer = producer(Map.of())) {
                for (int key = 0; key < KEYS; key++) {
                    producer.send(new ProducerRecord<>(topic, 0, bytes("key " + key), bytes("value " + round)));
                }
            }
        }
        equal(offsetsCount(topic), 2 * KEYS, "records before");
        var resource = new org.apache.kafka.common.config.ConfigResource(
            org.apache.kafka.common.config.ConfigResource.Type.TOPIC, topic);
        change(resource, "cleanup.policy", "compact", org.apache.kafka.clients.admin.AlterConfigOp.OpType.SET);
        awaitCompacted(topic, () -> offsetsCount(topic) == KEYS);
    }

    /** The last segment is not compacted and a segment ends only with the next append, so the topic is kept busy. */
    private void awaitCompacted(String topic, Condition condition) throws Exception {
        try (var producer = producer(Map.of())) {
            await(() -> {
                producer.send(new ProducerRecord<>(topic, 0, bytes("tick"), bytes(""))).get();
                Thread.sleep(50); // A pace for the ticks, not a time after which something holds.
                return condition.holds();
            }, () -> "compacted to " + offsetsCount(topic) + " records");
        }
    }

    /** The offset of the latest record of every key, with as many entries more as keys have several records. */
    private Map<String, Long> offsetsOf(String topic) {
        Map<String, Long> offsets = new TreeMap<>();
        for (var record : all(topic)) {
            String key = new String(record.key());
            if (key.startsWith("key")) {
                offsets.put(offsets.containsKey(key) ? key + "@" + record.offset() : key, record.offset());
            }
        }
        return offsets;
    }

    private int offsetsCount(String topic) {
        return offsetsOf(topic).size();
    }

    /** Everything up to the end of the topic, which a tick stands at. */
    private List<ConsumerRecord<byte[], byte[]>> all(String topic) {
        TopicPartition partition = new TopicPartition(topic, 0);
        List<ConsumerRecord<byte[], byte[]>> records = new java.util.ArrayList<>();
        try (var consumer = consumer(Map.of())) {
            consumer.assign(List.of(partition));
            long end = consumer.endOffsets(List.of(partition)).get(partition);
            consumer.seekToBeginning(List.of(partition));
            while (consumer.position(partition) < end) {
                consumer.poll(Duration.ofMillis(200)).forEach(records::add);
            }
        }
        return records;
    }

    private static byte[] bytes(String text) {
        return text == null ? null : text.getBytes();
    }
}
