import java.io.IOException;
import java.net.Socket;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** A program of checks against one broker: what it reports, and what every such program does with a client. */
abstract class Program {
    interface Body {
        void run() throws Exception;
    }

    /** Where the broker can be killed; `null` where it is not ours. */
    static final String KILL = System.getenv("CHRONIK_COMPAT_KILL");

    /** Part of the claims that are checked. */
    private static final String ONLY = System.getenv().getOrDefault("CHRONIK_COMPAT_ONLY", "");

    final String bootstrap;
    final String suffix;
    final Admin admin;
    private boolean failed;

    /** `suffix` sets the names of topics and groups apart from those of earlier runs on the same broker. */
    Program(String bootstrap, String suffix) {
        this.bootstrap = bootstrap;
        this.suffix = suffix;
        this.admin = Admin.create(properties());
    }

    /** Runs every check, then ends the process. */
    final void run() {
        all();
        admin.close();
        System.exit(failed ? 1 : 0);
    }

    abstract void all();

    String create(String name, int partitions) throws Exception {
        return create(name, partitions, Map.of());
    }

    String create(String name, int partitions, Map<String, String> configs) throws Exception {
        String topic = "java-" + name + "-" + suffix;
        admin.createTopics(List.of(new NewTopic(topic, Optional.of(partitions), Optional.empty()).configs(configs))).all().get();
        await(() -> {
            try {
                return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().stream()
                    .allMatch(p -> p.leader() != null);
            } catch (ExecutionException notYet) {
                return false;
            }
        }, "the topic has leaders");
        return topic;
    }

    List<RecordMetadata> produce(String topic, int partition, List<String> values, Map<String, String> config)
            throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (var producer = producer(config)) {
            for (String value : values) {
                sent.add(producer.send(new ProducerRecord<>(topic, partition, null, value.getBytes())));
            }
        }
        List<RecordMetadata> acknowledged = new ArrayList<>();
        for (Future<RecordMetadata> future : sent) {
            acknowledged.add(future.get());
        }
        return acknowledged;
    }

    List<String> read(String topic, int partition, long offset, int count) {
        return records(topic, partition, offset, count).stream().map(r -> new String(r.value())).toList();
    }

    List<ConsumerRecord<byte[], byte[]>> records(String topic, int partition, long offset, int count) {
        TopicPartition assigned = new TopicPartition(topic, partition);
        try (var consumer = consumer(Map.of())) {
            consumer.assign(List.of(assigned));
            consumer.seek(assigned, offset);
            return poll(consumer, count);
        }
    }

    static List<ConsumerRecord<byte[], byte[]>> poll(KafkaConsumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
        long deadline = System.nanoTime() + 15_000_000_000L;
        while (records.size() < count && System.nanoTime() < deadline) {
            consumer.poll(Duration.ofMillis(200)).forEach(records::add);
        }
        equal(records.size(), count, "records read");
        return records;
    }

    long offset(TopicPartition partition, OffsetSpec spec) throws Exception {
        return admin.listOffsets(Map.of(partition, spec)).partitionResult(partition).get().offset();
    }

    ConfigEntry config(ConfigResource resource, String name) throws Exception {
        ConfigEntry entry = admin.describeConfigs(List.of(resource)).all().get().get(resource).get(name);
        equal(entry != null, true, "there is a config " + name);
        return entry;
    }

    void change(ConfigResource resource, String name, String value, AlterConfigOp.OpType how) throws Exception {
        var change = new AlterConfigOp(new ConfigEntry(name, value), how);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).all().get();
    }

    Properties properties() {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("default.api.timeout.ms", "20000");
        properties.put("request.timeout.ms", "15000");
        return properties;
    }

    KafkaProducer<byte[], byte[]> producer(Map<String, String> config) {
        Properties properties = properties();
        properties.put("delivery.timeout.ms", "25000");
        properties.putAll(config);
        return new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer());
    }

    KafkaConsumer<byte[], byte[]> consumer(Map<String, String> config) {
        Properties properties = properties();
        properties.put("enable.auto.commit", "false");
        properties.putAll(config);
        return new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static List<String> values(int count) {
        return IntStream.range(0, count).mapToObj(i -> "value " + i).collect(Collectors.toList());
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    static void await(Condition condition, String claim) throws Exception {
        await(condition, () -> claim);
    }

    static void await(Condition condition, Supplier<String> claim) throws Exception {
        long deadline = System.nanoTime() + 20_000_000_000L;
        while (!condition.holds()) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError("not within 20 s: " + claim.get());
            }
            Thread.sleep(20);
        }
    }

    /** Kills the broker, without warning, and returns when its next process listens. */
    static void killBroker() throws IOException {
        String[] address = KILL.split(":");
        try (Socket connection = new Socket(address[0], Integer.parseInt(address[1]))) {
            connection.setSoTimeout(250_000);
            equal(connection.getInputStream().read(), -1, "what the kill switch says");
        }
    }

    static void refused(Class<? extends Exception> wanted, Future<?> answer) throws Exception {
        try {
            answer.get();
        } catch (ExecutionException error) {
            if (wanted.isInstance(error.getCause())) {
                return;
            }
            throw error;
        }
        throw new AssertionError("accepted where " + wanted.getSimpleName() + " was due");
    }

    static void equal(Object found, Object wanted, String what) {
        if (found == null ? wanted != null : !found.equals(wanted)) {
            throw new AssertionError(what + ": expected " + wanted + ", found " + found);
        }
    }

    void check(String claim, Body body) {
        if (!claim.contains(ONLY)) {
            return;
        }
        long begun = System.nanoTime();
        String why = "";
        try {
            body.run();
        } catch (Throwable error) { // Whatever a client throws is a failed check, and the next one still runs.
            failed = true;
            why = error + (error.getStackTrace().length > 0 ? " at " + place(error) : "");
        }
        double seconds = (System.nanoTime() - begun) / 1e9;
        System.out.printf("{\"check\": \"%s\", \"seconds\": %.3f, \"why\": \"%s\"}%n", claim, seconds, escape(why));
    }

    static String place(Throwable error) {
        for (StackTraceElement frame : error.getStackTrace()) {
            if (!frame.getClassName().contains(".") && !frame.getMethodName().equals("equal")) {
                return frame.getMethodName() + ":" + frame.getLineNumber();
            }
        }
        return error.getStackTrace()[0].toString();
    }

    static String escape(String text) {
        return text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n").replace("\r", "").replace("\t", " ");
    }
}
