// Groups of KafkaJS: members that join, leave, die and are replaced, a broker that is killed, and the admin client.
// Called with the bootstrap address and a suffix for names; prints one JSON object per check. Called as
// `groups.js member BOOTSTRAP GROUP TOPIC` it is a member in a process of its own, so that it can be killed.

const assert = require("node:assert/strict");
const { spawn } = require("node:child_process");
const net = require("node:net");
const { Kafka, Partitioners, logLevel } = require("kafkajs");
const { run } = require("./run");

const PARTITIONS = 12;
const isMember = process.argv[2] === "member";
const [bootstrap, suffix, memberTopic] = process.argv.slice(isMember ? 3 : 2);
// A broker that restarts is asked again soon, and for longer than it takes.
const retry = { initialRetryTime: 50, maxRetryTime: 500, retries: 60 };
const kafka = new Kafka({ brokers: bootstrap.split(","), logLevel: logLevel.NOTHING, retry });
const admin = kafka.admin();
// A session of 6 s for those that live; who is to die brings 2 s.
const settings = { sessionTimeout: 6000, rebalanceTimeout: 6000, heartbeatInterval: 200, maxWaitTimeInMs: 100, retry };

const name = (topic) => `node-${topic}-${suffix}`;
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function until(condition, claim) {
  const deadline = Date.now() + 25_000;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `not within 25 s: ${claim()}`);
    await pause(20);
  }
}

// The members of a group and a ledger of what they were given and what they read. KafkaJS commits what it has handed
// out before it asks for more.
class Fleet {
  constructor(topic, subscription = topic) {
    Object.assign(this, { topic, group: topic, subscription, members: [], seen: new Map(), produced: [] });
    this.producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
  }

  static async of(topic) {
    const fleet = new Fleet(topic);
    await fleet.producer.connect();
    return fleet;
  }

  static async create(topic) {
    await admin.createTopics({ topics: [{ topic: name(topic), numPartitions: PARTITIONS }], waitForLeaders: true });
    return Fleet.of(name(topic));
  }

  async join() {
    const consumer = kafka.consumer({ groupId: this.group, ...settings, metadataMaxAge: 500 });
    const member = { consumer, partitions: [], fetched: new Set() };
    this.members.push(member);
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      member.partitions = Object.entries(payload.memberAssignment).flatMap(([t, all]) => all.map((p) => `${t}/${p}`));
    });
    consumer.on(consumer.events.FETCH, ({ payload }) => member.fetched.add(String(payload.nodeId)));
    for (const event of [consumer.events.REBALANCING, consumer.events.DISCONNECT, consumer.events.STOP]) {
      consumer.on(event, () => (member.partitions = []));
    }
    await consumer.connect();
    await consumer.subscribe({ topic: this.subscription, fromBeginning: true });
    await consumer.run({
      eachMessage: async ({ message }) => {
        const value = message.value.toString();
        this.seen.set(value, (this.seen.get(value) ?? 0) + 1);
      },
    });
    return member;
  }

  async leave(member) {
    this.members.splice(this.members.indexOf(member), 1);
    await member.consumer.disconnect();
  }

  // Members share the partitions: each has its part, none has two more than another.
  async balanced(partitions = PARTITIONS) {
    const parts = () => this.members.map((member) => member.partitions.length);
    const isBalanced = () => {
      const places = this.members.flatMap((member) => member.partitions);
      const even = Math.min(...parts()) > 0 && Math.max(...parts()) - Math.min(...parts()) <= 1;
      return even && places.length === partitions && new Set(places).size === partitions;
    };
    await until(isBalanced, () => `${partitions} partitions are shared: ${parts()}`);
  }

  async produce(count, topic = this.topic, partitions = PARTITIONS) {
    const first = this.produced.length;
    const values = Array.from({ length: count }, (_, i) => String(first + i).padStart(6, "0"));
    const messages = values.map((value, i) => ({ value, partition: i % partitions }));
    await this.producer.send({ topic, messages });
    this.produced.push(...values);
    return values;
  }

  async allSeen() {
    const missing = () => this.produced.filter((value) => !this.seen.has(value));
    await until(() => missing().length === 0, () => `${missing().length} records are read by nobody`);
  }

  // A group that is balanced reads each new record once.
  async readsOnce(count, topic, partitions) {
    const values = await this.produce(count, topic, partitions);
    await this.allSeen();
    for (const value of values) assert.equal(this.seen.get(value), 1, `times that record ${value} is read`);
  }

  timesSeen() {
    return [...this.seen.values()].reduce((sum, times) => sum + times, 0);
  }

  async committed(wanted) {
    const sum = async () => {
      const answer = await admin.fetchOffsets({ groupId: this.group, topics: [this.topic] }).catch(() => []);
      return answer.flatMap((t) => t.partitions).reduce((all, p) => all + Math.max(0, Number(p.offset)), 0);
    };
    let found;
    await until(async () => (found = await sum()) === wanted, () => `${wanted} records are committed, not ${found}`);
  }

  // KafkaJS 2.2.4 spins for ever where a consumer is told to stop while it learns of a broker that came or went. Members ask
  // for the brokers twice a second, so those that were gone are known to be: who fetches from all knows that they are back.
  async knowsAllBrokers() {
    const count = bootstrap.split(",").length;
    const areBack = async () => (await admin.describeCluster()).brokers.length === count;
    await until(areBack, () => `${count} brokers are there`);
    for (const { fetched } of this.members) fetched.clear();
    const sizes = () => this.members.map(({ fetched }) => fetched.size);
    await until(() => Math.min(...sizes()) === count, () => `members fetch from ${count} brokers: ${sizes()}`);
  }

  async close() {
    await Promise.all(this.members.map((member) => member.consumer.disconnect()));
    await this.producer.disconnect();
  }
}

// Kills the broker without warning, and returns when its next process listens.
function killBroker() {
  const [host, port] = process.env.CHRONIK_COMPAT_KILL.split(":");
  return new Promise((back, fail) => {
    const connection = net.connect(Number(port), host);
    connection.on("end", back).on("error", fail).resume();
  });
}

const checks = {
  "two, then ten members, then a restart": async () => {
    const fleet = await Fleet.create("share");
    await fleet.produce(600);
    for (const count of [2, 8]) {
      await Promise.all(Array.from({ length: count }, () => fleet.join()));
      await fleet.balanced();
      await fleet.allSeen();
      await fleet.readsOnce(120);
    }
    await fleet.committed(840);
    await fleet.close();
    const restarted = await Fleet.of(fleet.topic);
    await Promise.all([restarted.join(), restarted.join(), restarted.join()]);
    await restarted.balanced();
    await restarted.readsOnce(60);
    assert.equal(restarted.timesSeen(), 60, "a restarted group goes on where the last one stopped");
    await restarted.close();
  },
  "a member joins, leaves, dies": async () => {
    const fleet = await Fleet.create("follow");
    await Promise.all([fleet.join(), fleet.join()]);
    await fleet.balanced();
    const third = await fleet.join();
    await fleet.balanced();
    await fleet.readsOnce(60);
    await fleet.leave(third);
    await fleet.balanced();
    await fleet.readsOnce(60);
    const mortal = spawn(process.execPath, [__filename, "member", bootstrap, fleet.group, fleet.topic]);
    try {
      await fleet.balanced(8);
    } finally {
      mortal.kill("SIGKILL");
    }
    await fleet.produce(60);
    await fleet.balanced();
    await fleet.allSeen();
    await fleet.close();
  },
  "rolling restart of members": async () => {
    const fleet = await Fleet.create("roll");
    await Promise.all([fleet.join(), fleet.join(), fleet.join()]);
    await fleet.balanced();
    for (const old of [...fleet.members]) {
      await fleet.produce(60);
      await fleet.leave(old);
      await fleet.produce(60);
      await fleet.join();
      await fleet.balanced();
    }
    await fleet.readsOnce(60);
    await fleet.committed(420);
    await fleet.close();
  },
  "subscription by a regex": async () => {
    for (const part of ["a", "b", "c"]) {
      await admin.createTopics({ topics: [{ topic: name(`regex-${part}`), numPartitions: 4 }], waitForLeaders: true });
    }
    const fleet = new Fleet(name("regex-a"), new RegExp(`^${name("regex-[ab]")}$`));
    await fleet.producer.connect();
    await Promise.all([fleet.join(), fleet.join()]);
    await fleet.balanced(8);
    await fleet.readsOnce(20, name("regex-a"), 4);
    await fleet.readsOnce(20, name("regex-b"), 4);
    await fleet.close();
  },
  "admin: groups listed, described, deleted": async () => {
    const fleet = await Fleet.create("listed");
    await fleet.join();
    await fleet.balanced();
    await fleet.readsOnce(60);
    await fleet.committed(60);
    const { groups } = await admin.listGroups();
    assert.deepEqual(groups.find(({ groupId }) => groupId === fleet.group)?.protocolType, "consumer");
    const described = (await admin.describeGroups([fleet.group])).groups[0];
    assert.equal(`${described.state} ${described.protocol} ${described.members.length}`, "Stable RoundRobinAssigner 1");
    await assert.rejects(admin.deleteGroups([fleet.group]), ({ groups: [{ error }] }) => error.type === "NON_EMPTY_GROUP");
    await fleet.close();
    await admin.deleteGroups([fleet.group]);
    const left = (await admin.listGroups()).groups.map(({ groupId }) => groupId);
    assert.ok(!left.includes(fleet.group));
  },
  "admin: offsets fetched, set, reset, by timestamp": async () => {
    const topic = name("offsets-of-groups");
    await admin.createTopics({ topics: [{ topic, numPartitions: 1 }], waitForLeaders: true });
    const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
    await producer.connect();
    const begin = Date.now() - 60_000;
    const messages = Array.from({ length: 100 }, (_, i) => ({ value: "x", timestamp: String(begin + 100 * i) }));
    await producer.send({ topic, messages });
    await producer.disconnect();
    const offset = async () => (await admin.fetchOffsets({ groupId: topic, topics: [topic] }))[0].partitions[0].offset;
    assert.equal(await offset(), "-1");
    const partitions = await admin.fetchTopicOffsetsByTimestamp(topic, begin + 6_950);
    await admin.setOffsets({ groupId: topic, topic, partitions });
    assert.equal(await offset(), "70");
    await admin.resetOffsets({ groupId: topic, topic, earliest: true });
    assert.equal(await offset(), "-2", "KafkaJS stores a number that stands for the earliest");
  },
};

if (process.env.CHRONIK_COMPAT_KILL) {
  checks["the broker is killed"] = async () => {
    const fleet = await Fleet.create("killed");
    await Promise.all([fleet.join(), fleet.join(), fleet.join()]);
    await fleet.balanced();
    await fleet.readsOnce(120);
    await fleet.committed(120);
    await killBroker();
    await fleet.committed(120);
    await fleet.produce(120);
    await fleet.allSeen();
    await fleet.balanced();
    await fleet.committed(240);
    await fleet.knowsAllBrokers();
    await fleet.close();
  };
}

async function beMember() {
  const consumer = kafka.consumer({ groupId: suffix, ...settings, sessionTimeout: 2000 });
  await consumer.connect();
  await consumer.subscribe({ topic: memberTopic, fromBeginning: true });
  // It holds partitions, and commits nothing.
  await consumer.run({ autoCommit: false, eachMessage: async () => {} });
}

async function main() {
  await admin.connect();
  await run(checks);
  await admin.disconnect();
  // A check that failed leaves members behind, which would keep the process.
  process.exit();
}

(isMember ? beMember : main)();
