//! What goes in and out on the main paths, as transcripts: how the node works, told by itself.
//!
//! `>` is an input, `<` an effect, indented below the input that brought it about. A change of these files is a change
//! of behaviour: read it as such. `INSTA_UPDATE=always cargo test --package chronik-core transcripts` writes them anew.

use super::*;

impl Rig {
    /// What happened since the last time, a line each.
    fn transcript(&mut self, heading: &str) -> String {
        let lines = std::mem::take(&mut self.lines);
        format!("{heading}\n{}", lines.join("\n"))
    }

    /// Says what a client or the disk does next.
    fn say(&mut self, text: &str) {
        self.lines.push(format!("-- {text}"));
    }
}

/// An input in one line.
pub(super) fn input(input: &Input) -> String {
    let text = match input {
        Input::Request { to, request } => format!("{}: {}", to.sequence, self::request(request)),
        Input::Closed { .. } => "the connection is gone".into(),
        Input::Sent { sequence, .. } => format!("{sequence}: its answer has been sent"),
        Input::Disk(Done::Commit(number, Ok(()))) => format!("commit {number} is durable"),
        Input::Disk(Done::Commit(number, Err(error))) => format!("commit {number} failed: {error}"),
        Input::Disk(Done::Written(number)) => format!("commit {number} is with the operating system"),
        Input::Disk(Done::Read(id, result)) => format!("read {} {}", id.0, outcome(result.is_ok())),
        Input::Disk(Done::Task(id, Ok(()))) => format!("task {} is done", id.0),
        Input::Disk(Done::Task(id, Err(error))) => format!("task {} failed: {error}", id.0),
        Input::Disk(Done::Finding(id, _)) => format!("question {} is answered", id.0),
        Input::Disk(Done::Compacted(_, result)) => format!("a step of compaction: {result:?}"),
        Input::Peer(happened) => format!("{happened:?}"),
        Input::Deadline => "a deadline has come".into(),
        Input::Volume(volume) => format!("the volume has {} bytes left", volume.usable_bytes),
        Input::Stop => "stop".into(),
    };
    format!("> {text}")
}

fn outcome(is_ok: bool) -> &'static str {
    if is_ok { "is done" } else { "failed" }
}

fn request(request: &Request) -> String {
    match request {
        Request::Produce(produce) => {
            let parts =
                produce.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| match &partition.batch {
                    Ok(batch) => {
                        let head = batch.head();
                        let who = match head.producer_id {
                            ProducerId(-1) => String::new(),
                            ProducerId(id) => format!(" of producer {id} from sequence {}", head.base_sequence),
                        };
                        format!("partition {}: {} records{who}", partition.index, head.count)
                    }
                    Err(refused) => format!("partition {}: {:?}", partition.index, refused.code),
                });
            format!("produce, acks {}, {}", produce.acks, parts.collect::<Vec<_>>().join(", "))
        }
        Request::Member { request, .. } => request.api_key().to_string(),
        Request::Other(request) => match &**request {
            wire::Request::Fetch(fetch) => {
                let parts = fetch.topics.iter().flat_map(|topic| &topic.partitions);
                let parts = parts.map(|partition| format!("{} from {}", partition.partition, partition.fetch_offset));
                let parts = parts.collect::<Vec<_>>().join(", ");
                format!("fetch partition {parts}, at least {} bytes within {} ms", fetch.min_bytes, fetch.max_wait_ms)
            }
            other => other.api_key().to_string(),
        },
    }
}

/// An effect in one line.
pub(super) fn effect(effect: &Effect) -> String {
    let text = match effect {
        Effect::Reply { to, response: Some(response) } => format!("{}: {}", to.sequence, self::response(response)),
        Effect::Reply { to, response: None } => format!("{}: no answer is wanted", to.sequence),
        Effect::Close { why, .. } => format!("close the connection: {why}"),
        Effect::Cut { why, .. } => format!("cut the connection: {why}"),
        Effect::Disk(DiskOp::Commit(commit, direct)) => {
            let bodies = match direct.iter().flat_map(|write| &write.pieces).map(|piece| piece.len()).sum::<usize>() {
                0 => String::new(),
                bytes => format!(", after {bytes} bytes straight to segments"),
            };
            format!("commit {} to journal file {}{bodies}", commit.number, commit.slot)
        }
        Effect::Disk(DiskOp::Read(id, _)) => format!("read {} from a segment", id.0),
        Effect::Disk(DiskOp::Task(id, task)) => format!("task {}: {}", id.0, self::task(task)),
        Effect::Disk(DiskOp::Question(id, _)) => format!("question {}", id.0),
        Effect::Disk(DiskOp::Compact(_)) => "a step of compaction".into(),
        Effect::TopicCodecs(_) => "new codecs for connections".into(),
        Effect::Neighbours(neighbours) => format!("keep connections to {} peers", neighbours.peers.len()),
        Effect::Say { to, message } => format!("say to node {to}: {message:?}"),
        Effect::AllowConnections { max, .. } => format!("allow {max} connections"),
        Effect::Log(LogLine { level, text }) => format!("{level:?}: {text}"),
        Effect::Stopped => "stopped".into(),
        Effect::Fatal(why) => format!("the process must end: {why}"),
    };
    format!("    < {text}")
}

fn task(task: &Task) -> String {
    match task {
        Task::ExtendJournal { slot, .. } => format!("make journal file {slot}"),
        Task::Allocate { segment, .. } => format!("reserve blocks of segment {}", segment.base.0),
        Task::Flush { segment, trim, .. } => {
            format!("write to segment {}{}", segment.base.0, if trim.is_some() { ", its last part" } else { "" })
        }
        Task::Sync { segments, .. } => format!("sync {} segments", segments.len()),
        Task::Checkpoint { slot, last, .. } => {
            format!("write to checkpoint {slot}{}", if *last { ", its last part" } else { "" })
        }
        Task::RemoveSegments(segments) => format!("remove {} segments", segments.len()),
        Task::Trim { segment, .. } => format!("give back what segment {} has reserved", segment.base.0),
        Task::RemovePartition(partition) => format!("remove partition {}", partition.partition),
    }
}

fn code(code: i16) -> String {
    match ErrorCode::from_code(code) {
        Some(ErrorCode::None) | None => "done".into(),
        Some(error) => format!("{error:?}"),
    }
}

fn response(response: &Response) -> String {
    let parts: Vec<String> = match response {
        Response::Produce(response) => response
            .responses
            .iter()
            .flat_map(|topic| &topic.partition_responses)
            .map(|partition| match partition.error_code {
                0 => format!("partition {} took it at offset {}", partition.index, partition.base_offset),
                error => format!("partition {}: {}", partition.index, code(error)),
            })
            .collect(),
        Response::Fetch(response) => response
            .responses
            .iter()
            .flat_map(|topic| &topic.partitions)
            .map(|partition| {
                let bytes = partition.records.as_ref().map_or(0, |records| records.len());
                let what = if bytes == 0 { "nothing".into() } else { batches(partition) };
                let at = partition.high_watermark;
                format!(
                    "partition {}: {what}, high watermark {at}, {}",
                    partition.partition_index,
                    code(partition.error_code)
                )
            })
            .collect(),
        Response::CreateTopics(response) => response.topics.iter().map(|topic| code(topic.error_code)).collect(),
        Response::DeleteTopics(response) => response.responses.iter().map(|topic| code(topic.error_code)).collect(),
        other => vec![other.api_key().to_string()],
    };
    parts.join(", ")
}

fn batches(partition: &crate::wire::fetch::PartitionData) -> String {
    let bytes: Vec<u8> = partition.records.as_ref().map_or_else(Vec::new, |records| records.0.concat());
    let found = Scan::checked(&bytes).map(|found| {
        let head = found.expect("whole batches").head;
        format!("{}..={}", head.base_offset.0, head.base_offset.0 + i64::from(head.last_offset_delta))
    });
    format!("offsets {}", found.collect::<Vec<_>>().join(" and "))
}

#[test]
fn a_record_is_acknowledged_when_its_commit_is_durable_and_fetched_from_memory() {
    let mut rig = Rig::new();
    rig.create("orders", 1);
    rig.lines.clear();
    rig.hold = true;
    let records = |rig: &Rig, values: &[&str]| records(rig.now.wall, values);
    rig.say("a consumer waits at the end");
    rig.ask(12, Request::Other(Rig::fetch_request("orders", 0, 1, 500).into()));
    rig.say("two producers; the second comes while the first's commit is under way");
    let batch = records(&rig, &["a", "b"]);
    rig.send("orders", 0, -1, batch);
    let batch = records(&rig, &["c"]);
    rig.send("orders", 0, 1, batch);
    rig.say("the disk reports");
    let commit = rig.held.pop_front().expect("it was begun");
    rig.commit(commit);
    rig.run();
    rig.release();
    rig.say("and the consumer asks again");
    rig.ask(12, Request::Other(Rig::fetch_request("orders", 2, 1, 500).into()));
    insta::assert_snapshot!(rig.transcript("One commit for what came before it, the next for what came meanwhile."));
}

#[test]
fn a_duplicate_is_answered_with_the_first_ones_offset() {
    let mut rig = Rig::new();
    rig.create("orders", 1);
    rig.lines.clear();
    let batch =
        |rig: &Rig, sequence| records(rig.now.wall, &["a", "b"]).producer(ProducerId(7), ProducerEpoch(0), sequence);
    for sequence in [0, 2] {
        let batch = batch(&rig, sequence);
        rig.send("orders", 0, -1, batch);
    }
    rig.say("again, as after a lost answer");
    let again = batch(&rig, 0);
    rig.send("orders", 0, -1, again);
    rig.say("a gap");
    let gap = batch(&rig, 6);
    rig.send("orders", 0, -1, gap);
    insta::assert_snapshot!(rig.transcript("An idempotent producer: sequences 0 and 2, 0 again, then 6."));
}

#[test]
fn a_full_ring_becomes_segments_and_a_checkpoint() {
    let mut rig = Rig::new();
    rig.create("orders", 1);
    rig.lines.clear();
    let value = "x".repeat(15_000);
    while rig.node.counters().checkpoints == 0 {
        rig.produce("orders", &[&value]);
    }
    // What the producer does in between is the same each time.
    rig.lines.retain(|line| line.contains("task") || line.contains("journal file"));
    rig.lines.dedup_by_key(|line| line.split(" to journal file").nth(1).map(str::to_owned).unwrap_or(line.clone()));
    insta::assert_snapshot!(rig.transcript("Write-behind, the sync of segments, the checkpoint, and files made anew."));
}

#[test]
fn a_large_batch_is_written_once() {
    let mut rig = Rig::new();
    rig.create("orders", 1);
    rig.lines.clear();
    for _ in 0..2 {
        rig.produce("orders", &[&"x".repeat(30_000)]);
    }
    rig.produce("orders", &["small"]);
    insta::assert_snapshot!(rig.transcript(
        "Once the segment has blocks reserved, a body goes there and the journal has only its descriptor."
    ));
}

#[test]
fn a_failed_commit_is_the_end() {
    let mut rig = Rig::new();
    rig.create("orders", 1);
    rig.lines.clear();
    rig.hold = true;
    let batch = records(rig.now.wall, &["a"]);
    rig.send("orders", 0, -1, batch);
    let commit = rig.held.pop_front().expect("it was begun");
    let error = DiskError::Io(FileName::Journal(commit.slot), "Input/output error".into());
    rig.step(Input::Disk(Done::Commit(commit.number, Err(error))));
    rig.run();
    insta::assert_snapshot!(rig.transcript("Nobody is answered: what the disk holds is unknown."));
}

#[test]
fn a_topic_is_made_deleted_and_made_again() {
    let mut rig = Rig::new();
    rig.lines.clear();
    rig.create("orders", 1);
    rig.produce("orders", &["old"]);
    rig.say("deleted");
    rig.delete("orders");
    rig.say("and made again");
    rig.create("orders", 1);
    rig.ask(12, Request::Other(Rig::fetch_request("orders", 0, 0, 0).into()));
    insta::assert_snapshot!(rig.transcript("Each answer waits for its record in the journal."));
}

#[test]
fn a_full_disk_refuses_and_resumes() {
    let mut rig = Rig::new();
    rig.create("orders", 1);
    rig.files.set_full(true);
    rig.lines.clear();
    let value = "x".repeat(15_000);
    let mut refused = false;
    for _ in 0..200 {
        let batch = records(rig.now.wall, &[&value]);
        let sequence = rig.send("orders", 0, -1, batch);
        rig.lines.clear();
        if rig.produced(sequence).is_some_and(|answer| answer.error_code != 0) {
            refused = true;
            break;
        }
    }
    assert!(refused, "a disk without room takes no more in the end");
    rig.say("the disk is full, and so is the ring");
    let batch = records(rig.now.wall, &["a"]);
    rig.send("orders", 0, -1, batch);
    rig.say("reads go on");
    rig.ask(12, Request::Other(Rig::fetch_request("orders", 0, 0, 0).into()));
    rig.say("there is room again");
    rig.files.set_full(false);
    rig.pass(5_000);
    let batch = records(rig.now.wall, &["a"]);
    rig.send("orders", 0, -1, batch);
    insta::assert_snapshot!(rig.transcript("Appends are refused, nothing else is, and it passes by itself."));
}

#[test]
fn a_stop_ends_with_a_checkpoint() {
    let mut rig = Rig::new();
    rig.create("orders", 2);
    rig.produce("orders", &["a"]);
    rig.lines.clear();
    rig.stop();
    insta::assert_snapshot!(rig.transcript("What is in flight is finished, then the last checkpoint."));
}
