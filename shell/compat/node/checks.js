// KafkaJS against the broker: producer (plain, idempotent, gzip) and admin client.
// Called with the bootstrap address and a suffix for topic names; prints one JSON object per check.

const assert = require("node:assert/strict");
const { CompressionTypes, ConfigResourceTypes, Kafka, Partitioners, logLevel } = require("kafkajs");
const { run } = require("./run");

const [bootstrap, suffix] = process.argv.slice(2);
const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.NOTHING, retry: { retries: 3 } });
const admin = kafka.admin();

const name = (topic) => `node-${topic}-${suffix}`;

async function create(topic, numPartitions = 1, configEntries = []) {
  await admin.createTopics({ topics: [{ topic: name(topic), numPartitions, configEntries }], waitForLeaders: true });
  return name(topic);
}

async function produce(topic, count, options = {}, sending = {}) {
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner, ...options });
  await producer.connect();
  const messages = Array.from({ length: count }, (_, i) => ({ value: `value ${i}`, partition: 0, headers: { a: "1" } }));
  const [answer] = await producer.send({ topic, messages, ...sending });
  await producer.disconnect();
  return answer;
}

async function offsets(topic) {
  const [partition] = await admin.fetchTopicOffsets(topic);
  return { low: Number(partition.low), high: Number(partition.high) };
}

async function config(topic, key) {
  const { resources } = await admin.describeConfigs({
    includeSynonyms: false,
    resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }],
  });
  return resources[0].configEntries.find((entry) => entry.configName === key)?.configValue;
}

const checks = {
  "produces, acks 1 and all": async () => {
    const topic = await create("plain");
    assert.equal((await produce(topic, 100, {}, { acks: -1 })).baseOffset, "0");
    assert.equal((await produce(topic, 100, {}, { acks: 1 })).baseOffset, "100");
    assert.deepEqual(await offsets(topic), { low: 0, high: 200 });
  },
  "idempotent producer": async () => {
    const topic = await create("idempotent");
    const producer = kafka.producer({ idempotent: true, createPartitioner: Partitioners.DefaultPartitioner });
    await producer.connect();
    for (let i = 0; i < 20; i++) {
      const [answer] = await producer.send({ topic, messages: [{ value: "a" }, { value: "b" }] });
      assert.equal(answer.baseOffset, String(2 * i));
    }
    await producer.disconnect();
    assert.deepEqual(await offsets(topic), { low: 0, high: 40 });
  },
  "codec gzip": async () => {
    const topic = await create("gzip");
    await produce(topic, 100, {}, { compression: CompressionTypes.GZIP });
    assert.deepEqual(await offsets(topic), { low: 0, high: 100 });
  },
  "a topic is created by producing to it": async () => {
    await produce(name("auto"), 1, { allowAutoTopicCreation: true });
    assert.ok((await admin.listTopics()).includes(name("auto")));
  },
  "admin: create, list, describe, delete topics": async () => {
    const topic = await create("admin", 3);
    assert.ok((await admin.listTopics()).includes(topic));
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
    assert.equal(topics[0].partitions.length, 3);
    assert.equal(await admin.createTopics({ topics: [{ topic }] }), false);
    await admin.deleteTopics({ topics: [topic] });
    for (let i = 0; i < 100 && (await admin.listTopics()).includes(topic); i++);
    assert.ok(!(await admin.listTopics()).includes(topic));
  },
  "admin: more partitions": async () => {
    const topic = await create("grow");
    await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] });
    // Apache Kafka answers before its new partitions have leaders.
    const ask = () => admin.fetchTopicOffsets(topic).catch(() => []);
    let found = await ask();
    for (let i = 0; i < 100 && found.length !== 3; i++) found = await ask();
    assert.equal(found.length, 3);
  },
  "admin: configs": async () => {
    const topic = await create("configs", 1, [{ name: "retention.ms", value: "86400000" }]);
    assert.equal(await config(topic, "retention.ms"), "86400000");
    await admin.alterConfigs({
      validateOnly: false,
      resources: [
        { type: ConfigResourceTypes.TOPIC, name: topic, configEntries: [{ name: "retention.ms", value: "3600000" }] },
      ],
    });
    assert.equal(await config(topic, "retention.ms"), "3600000");
  },
  "admin: offsets, by timestamp, delete records": async () => {
    const topic = await create("offsets");
    await produce(topic, 100);
    const [at] = await admin.fetchTopicOffsetsByTimestamp(topic, 0);
    assert.equal(at.offset, "0");
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: "60" }] });
    assert.deepEqual(await offsets(topic), { low: 60, high: 100 });
  },
  "admin: cluster": async () => {
    const cluster = await admin.describeCluster();
    assert.equal(cluster.brokers.length, 1);
    assert.ok(cluster.clusterId);
  },
};

async function main() {
  await admin.connect();
  await run(checks);
  await admin.disconnect();
}

main();
