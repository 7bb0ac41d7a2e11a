import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidTimestampException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.TransactionalIdAuthorizationException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.header.internals.RecordHeader;

/**
 * Kafka's own Java client against the broker: the producer as it comes (idempotent, acks=all), the consumer on assigned
 * partitions, the admin client. It asks for the highest version of every API, which the other clients do not.
 *
 * <p>Called with the bootstrap address and a suffix for topic names; prints one JSON object per check.
 */
public final class Checks extends Program {
    private Checks(String bootstrap, String suffix) {
        super(bootstrap, suffix);
    }

    public static void main(String[] arguments) {
        new Checks(arguments[0], arguments[1]).run();
    }

    @Override
    void all() {
        check("the default producer is idempotent and keeps order", this::producesIdempotently);
        check("acks 0, 1 and all", this::honoursAcks);
        check("codecs gzip, snappy, lz4, zstd", this::passesCodecs);
        check("topics with a codec of their own", this::storesCodecs);
        check("keys, headers and null values", this::keepsAllParts);
        check("assign, seek, position, beginning and end offsets", this::seeks);
        check("offsets for times", this::findsOffsetsForTimes);
        check("one consumer of many partitions", this::consumesManyPartitions);
        check("read_committed sees what is not transactional", this::readsCommitted);
        check("a transactional producer fails at once", this::refusesTransactions);
        check("a large record, and one that is refused", this::limitsRecords);
        check("a timestamp from far ahead is refused", this::limitsTimestamps);
        check("a topic is created by producing to it", this::createsByProducing);
        check("admin: create, describe, delete topics", this::administersTopics);
        check("admin: a topic created again is a new one", this::recreates);
        check("admin: list offsets of every kind", this::listsOffsets);
        check("admin: configs of topics and brokers", this::administersConfigs);
        check("admin: more partitions", this::addsPartitions);
        check("admin: delete records", this::deletesRecords);
        check("admin: cluster, features, log dirs, producers", this::describes);
    }

    private void producesIdempotently() throws Exception {
        String topic = create("idempotent", 3);
        for (int partition = 0; partition < 3; partition++) {
            List<RecordMetadata> acknowledged = produce(topic, partition, values(1000), Map.of());
            for (int i = 0; i < 1000; i++) {
                equal(acknowledged.get(i).offset(), (long) i, "offset");
            }
            equal(read(topic, partition, 0, 1000), values(1000), "records");
        }
    }

    private void honoursAcks() throws Exception {
        String topic = create("acks", 3);
        int partition = 0;
        for (String acks : List.of("0", "1", "all")) {
            produce(topic, partition, values(200), Map.of("acks", acks, "enable.idempotence", "false"));
            equal(read(topic, partition++, 0, 200), values(200), "acks=" + acks);
        }
    }

    private void passesCodecs() throws Exception {
        String topic = create("codecs", 4);
        int partition = 0;
        for (String codec : List.of("gzip", "snappy", "lz4", "zstd")) {
            produce(topic, partition, values(500), Map.of("compression.type", codec));
            equal(read(topic, partition++, 0, 500), values(500), codec);
        }
    }

    private void storesCodecs() throws Exception {
        for (String codec : List.of("uncompressed", "gzip", "snappy", "lz4", "zstd")) {
            String topic = create("stored-" + codec, 2, Map.of("compression.type", codec));
            produce(topic, 0, values(500), Map.of());
            equal(read(topic, 0, 0, 500), values(500), codec);
            produce(topic, 1, values(500), Map.of("compression.type", "gzip"));
            equal(read(topic, 1, 0, 500), values(500), codec + " from gzip");
        }
    }

    private void keepsAllParts() throws Exception {
        String topic = create("parts", 1);
        long now = System.currentTimeMillis();
        try (var producer = producer(Map.of())) {
            var record = new ProducerRecord<byte[], byte[]>(topic, 0, now, "k".getBytes(), null);
            record.headers().add(new RecordHeader("a", "1".getBytes())).add(new RecordHeader("a", "2".getBytes()));
            producer.send(record).get();
        }
        ConsumerRecord<byte[], byte[]> found = records(topic, 0, 0, 1).get(0);
        equal(new String(found.key()), "k", "key");
        equal(found.value(), null, "value");
        equal(found.timestamp(), now, "timestamp");
        equal(found.headers().toArray().length, 2, "headers of one name");
    }

    private void seeks() throws Exception {
        String topic = create("seek", 1);
        produce(topic, 0, values(300), Map.of());
        TopicPartition partition = new TopicPartition(topic, 0);
        try (var consumer = consumer(Map.of())) {
            consumer.assign(List.of(partition));
            equal(consumer.beginningOffsets(List.of(partition)), Map.of(partition, 0L), "beginning");
            equal(consumer.endOffsets(List.of(partition)), Map.of(partition, 300L), "end");
            consumer.seek(partition, 250);
            equal(poll(consumer, 50).get(0).offset(), 250L, "after seek");
            equal(consumer.position(partition), 300L, "position");
            consumer.seekToEnd(List.of(partition));
            equal(consumer.position(partition), 300L, "position at the end");
            consumer.seekToBeginning(List.of(partition));
            equal(poll(consumer, 300).get(0).offset(), 0L, "after seek to the beginning");
        }
    }

    private void findsOffsetsForTimes() throws Exception {
        String topic = create("times", 1);
        long begin = System.currentTimeMillis() - 60_000;
        for (String codec : List.of("none", "lz4")) {
            try (var producer = producer(Map.of("compression.type", codec, "linger.ms", "100"))) {
                for (int i = 0; i < 100; i++) {
                    producer.send(new ProducerRecord<>(topic, 0, begin + 10L * i, null, new byte[] {1}));
                }
            }
            begin += 10_000;
        }
        TopicPartition partition = new TopicPartition(topic, 0);
        try (var consumer = consumer(Map.of())) {
            var inside = consumer.offsetsForTimes(Map.of(partition, begin - 20_000 + 495)).get(partition);
            equal(inside.offset(), 50L, "offset inside a batch");
            equal(inside.timestamp(), begin - 20_000 + 500, "its timestamp");
            var compressed = consumer.offsetsForTimes(Map.of(partition, begin - 10_000 + 495)).get(partition);
            equal(compressed.offset(), 150L, "offset inside a compressed batch");
            equal(consumer.offsetsForTimes(Map.of(partition, begin)).get(partition), null, "after the end");
        }
    }

    private void consumesManyPartitions() throws Exception {
        String topic = create("many", 20);
        List<TopicPartition> partitions = IntStream.range(0, 20).mapToObj(p -> new TopicPartition(topic, p)).toList();
        try (var consumer = consumer(Map.of("max.partition.fetch.bytes", "1000")); var producer = producer(Map.of())) {
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            // Several rounds keep one fetch session alive while its partitions get data in turns.
            for (int round = 0; round < 5; round++) {
                for (int i = 0; i < 400; i++) {
                    producer.send(new ProducerRecord<>(topic, i % 20, null, ("round " + round).getBytes()));
                }
                producer.flush();
                equal(poll(consumer, 400).size(), 400, "records of round " + round);
            }
            for (TopicPartition partition : partitions) {
                equal(consumer.position(partition), 100L, "position of " + partition);
            }
        }
    }

    private void readsCommitted() throws Exception {
        String topic = create("committed", 1);
        produce(topic, 0, values(100), Map.of());
        TopicPartition partition = new TopicPartition(topic, 0);
        try (var consumer = consumer(Map.of("isolation.level", "read_committed"))) {
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            equal(poll(consumer, 100).size(), 100, "records");
            equal(consumer.endOffsets(List.of(partition)).get(partition), 100L, "last stable offset");
        }
    }

    private void limitsRecords() throws Exception {
        String topic = create("large", 1, Map.of("max.message.bytes", "3000000"));
        Map<String, String> wide = Map.of("max.request.size", "8000000", "buffer.memory", "33554432");
        byte[] large = new byte[2_500_000];
        try (var producer = producer(wide)) {
            producer.send(new ProducerRecord<>(topic, 0, null, large)).get();
            refused(RecordTooLargeException.class, producer.send(new ProducerRecord<>(topic, 0, null, new byte[3_500_000])));
        }
        equal(records(topic, 0, 0, 1).get(0).value().length, large.length, "size of the record");
    }

    /** As long as transactions are not served: whoever asks for them must be told, and neither wait nor try again. */
    private void refusesTransactions() throws Exception {
        long begun = System.nanoTime();
        try (var producer = producer(Map.of("transactional.id", "java-" + suffix))) {
            try {
                producer.initTransactions();
                throw new IllegalStateException("a transactional producer was let in");
            } catch (TransactionalIdAuthorizationException asItShould) {
                // The client keeps it: whatever is tried next fails too.
                try {
                    producer.beginTransaction();
                    throw new IllegalStateException("a transaction was begun");
                } catch (KafkaException fatal) {
                    equal(fatal.getCause() instanceof TransactionalIdAuthorizationException, true, "the same reason, not " + fatal);
                }
            }
        }
        long tookMs = (System.nanoTime() - begun) / 1_000_000;
        equal(tookMs < 5_000, true, "at once, not after " + tookMs + " ms");
    }

    private void limitsTimestamps() throws Exception {
        String topic = create("ahead", 1);
        long tomorrow = System.currentTimeMillis() + 86_400_000;
        try (var producer = producer(Map.of())) {
            refused(InvalidTimestampException.class, producer.send(new ProducerRecord<>(topic, 0, tomorrow, null, new byte[1])));
        }
    }

    private void createsByProducing() throws Exception {
        String topic = "java-auto-" + suffix;
        equal(produce(topic, 0, values(1), Map.of()).get(0).offset(), 0L, "offset");
    }

    private void administersTopics() throws Exception {
        String topic = create("admin", 3);
        var description = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
        equal(description.partitions().size(), 3, "partitions");
        equal(admin.listTopics().names().get().contains(topic), true, "listed");
        refused(TopicExistsException.class, admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all());
        var byId = admin.describeTopics(org.apache.kafka.common.TopicCollection.ofTopicIds(List.of(description.topicId())));
        equal(byId.allTopicIds().get().get(description.topicId()).name(), topic, "name by id");
        var ids = org.apache.kafka.common.TopicCollection.ofTopicIds(List.of(description.topicId()));
        admin.deleteTopics(ids).all().get();
        await(() -> !admin.listTopics().names().get().contains(topic), "the topic is no longer listed");
        refused(UnknownTopicOrPartitionException.class, admin.deleteTopics(List.of(topic)).all());
    }

    private void recreates() throws Exception {
        String topic = create("again", 1);
        produce(topic, 0, values(100), Map.of());
        var first = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).topicId();
        admin.deleteTopics(List.of(topic)).all().get();
        await(() -> !admin.listTopics().names().get().contains(topic), "the topic is no longer listed");
        create("again", 1);
        var second = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).topicId();
        equal(first.equals(second), false, "the same topic id");
        equal(produce(topic, 0, values(5), Map.of()).get(0).offset(), 0L, "first offset");
        equal(read(topic, 0, 0, 5), values(5), "records");
    }

    private void listsOffsets() throws Exception {
        String topic = create("offsets", 1);
        TopicPartition partition = new TopicPartition(topic, 0);
        produce(topic, 0, values(100), Map.of());
        equal(offset(partition, OffsetSpec.earliest()), 0L, "earliest");
        equal(offset(partition, OffsetSpec.latest()), 100L, "latest");
        equal(offset(partition, OffsetSpec.earliestLocal()), 0L, "earliest local");
        equal(offset(partition, OffsetSpec.forTimestamp(0)), 0L, "at the beginning of time");
        long newest = offset(partition, OffsetSpec.maxTimestamp());
        equal(newest >= 0 && newest < 100, true, "an offset with the maximum timestamp");
    }

    private void administersConfigs() throws Exception {
        String topic = create("configs", 1, Map.of("retention.ms", "86400000"));
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        equal(config(resource, "retention.ms").value(), "86400000", "as created");
        equal(config(resource, "retention.ms").source(), ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, "source");
        equal(config(resource, "segment.bytes").source(), ConfigEntry.ConfigSource.DEFAULT_CONFIG, "source of a default");
        change(resource, "retention.ms", "3600000", AlterConfigOp.OpType.SET);
        equal(config(resource, "retention.ms").value(), "3600000", "as set");
        change(resource, "retention.ms", null, AlterConfigOp.OpType.DELETE);
        equal(config(resource, "retention.ms").value(), "604800000", "Kafka's default");
        equal(config(resource, "message.timestamp.after.max.ms").value(), "3600000", "Kafka's default");
        var node = admin.describeCluster().nodes().get().iterator().next();
        ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, node.idString());
        equal(config(broker, "auto.create.topics.enable").value(), "true", "of the broker");
    }

    private void addsPartitions() throws Exception {
        String topic = create("grow", 1);
        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all().get();
        await(() -> admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size() == 3, "3 partitions");
        produce(topic, 2, values(10), Map.of());
        equal(read(topic, 2, 0, 10), values(10), "records");
    }

    private void deletesRecords() throws Exception {
        String topic = create("delete-records", 1);
        TopicPartition partition = new TopicPartition(topic, 0);
        produce(topic, 0, values(100), Map.of());
        var deleted = admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(60)));
        equal(deleted.lowWatermarks().get(partition).get().lowWatermark(), 60L, "low watermark");
        equal(offset(partition, OffsetSpec.earliest()), 60L, "earliest");
        equal(records(topic, 0, 60, 40).get(0).offset(), 60L, "first record");
        try (var consumer = consumer(Map.of("auto.offset.reset", "earliest"))) {
            consumer.assign(List.of(partition));
            consumer.seek(partition, 10);
            equal(poll(consumer, 40).get(0).offset(), 60L, "where an offset that is gone is reset to");
        }
    }

    private void describes() throws Exception {
        String topic = create("describe", 1);
        produce(topic, 0, values(100), Map.of());
        var cluster = admin.describeCluster();
        equal(cluster.nodes().get().size(), 1, "nodes");
        equal(cluster.clusterId().get().isEmpty(), false, "an empty cluster id");
        int node = cluster.controller().get().id();
        admin.describeFeatures().featureMetadata().get();
        var dirs = admin.describeLogDirs(Set.of(node)).allDescriptions().get().get(node);
        long size = dirs.values().stream().flatMap(d -> d.replicaInfos().entrySet().stream())
            .filter(e -> e.getKey().topic().equals(topic)).mapToLong(e -> e.getValue().size()).sum();
        equal(size > 0, true, "a size of the partition");
        TopicPartition partition = new TopicPartition(topic, 0);
        var producers = admin.describeProducers(List.of(partition)).partitionResult(partition).get().activeProducers();
        equal(producers.size(), 1, "producers");
        equal(producers.get(0).lastSequence(), 99, "last sequence");
    }
}
