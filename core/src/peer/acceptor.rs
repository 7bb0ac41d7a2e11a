//! The side that is dialled, and from then on listens.

use bytes::buf::Limit;
use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::greeting::check_caller;
use super::stream::Frames;
use super::{
    Append, Batches, DAMAGED_MAX, EPOCHS_MAX, Ended, FRAME_BYTES_MAX, HELLO_BYTES_MAX, Hello, MEMBERS_MAX, Message,
};
use super::{decode, encode};
use crate::batch::verify_placed;
use crate::boundary::{Neighbours, PeerInput};
use crate::ids::NodeId;
use crate::limits::BATCH_BYTES_MAX;
use crate::wire::Writer;

/// A partition's batches are copied out of their frame where they are less than half of it, so that they do not keep all
/// of it in memory while they wait in a cache. Not out of frames of up to so many bytes, which are worth one allocation.
const SHARED_BYTES: usize = 16 * 1024;

/// One connection that a peer has dialled: its bytes in, what the node is told of it out; one answer back. No socket, no
/// clock.
///
/// | state | receives | sends | then |
/// |---|---|---|---|
/// | waiting | `Hello` of a broker that may talk, at most [`HELLO_BYTES_MAX`] long | `Welcome` | welcoming |
/// | | `Hello` of another | `Refused` | [`Ended`], when that has been sent |
/// | | anything else | | [`Ended`] |
/// | welcoming | `Begun`: the answer was heard | | listening, [`PeerInput::Arrived`] |
/// | | anything else | | [`Ended`] |
/// | listening | what is said | | [`PeerInput::Heard`], one for each step of the node |
/// | | what cannot be read, or is not for it | | [`Ended`] |
///
/// A driver gives a peer that has not introduced itself only so much time, and closes the stream when it has ended.
///
/// It does the work per byte: frames are cut, their sums and those of all batches in them checked. A frame takes memory as
/// it arrives, not as it is announced, and what is decoded is bounded by it.
#[derive(Debug, Default)]
pub struct Acceptor {
    frames: Frames,
    /// Who has introduced itself.
    peer: Option<Hello>,
    /// Whether it has heard the answer.
    has_begun: bool,
    answer: Option<Message>,
}

impl Acceptor {
    /// A connection of which nothing has been read.
    pub fn new() -> Acceptor {
        Acceptor::default()
    }

    /// Takes bytes as the stream delivered them, and pushes what they tell the node. `neighbours` are those of now; who
    /// dials may be none of them. `bytes` are empty where they went to [`Acceptor::large_frame`].
    ///
    /// # Errors
    /// Where the connection must be closed, after [`Acceptor::answer`] has been sent if there is one. What was pushed
    /// before counts.
    pub fn receive(
        &mut self,
        mut bytes: &[u8],
        neighbours: &Neighbours,
        heard: &mut Vec<PeerInput>,
    ) -> Result<(), Ended> {
        if let Some(peer) = &self.peer {
            // The cluster's id or a folder may have become known since.
            check_caller(peer, neighbours).map_err(Ended::RefusedHere)?;
        }
        loop {
            let limit = if self.peer.is_some() { FRAME_BYTES_MAX } else { HELLO_BYTES_MAX };
            let Some((header, body)) = self.frames.next(&mut bytes, limit)? else { return Ok(()) };
            let message = decode(&header, body)?;
            match &self.peer {
                None => self.greet(message, neighbours)?,
                Some(peer) if !self.has_begun => match message {
                    Message::Begun(_) => {
                        self.has_begun = true;
                        heard.push(PeerInput::Arrived(peer.clone()));
                    }
                    _ => return Err(Ended::OutOfTurn),
                },
                Some(peer) => listen((peer.node_id, peer.process), message, header.body_bytes, heard)?,
            }
        }
    }

    fn greet(&mut self, message: Message, neighbours: &Neighbours) -> Result<(), Ended> {
        let Message::Hello(peer) = message else { return Err(Ended::NotGreeted) };
        match check_caller(&peer, neighbours) {
            Ok(()) => {
                self.answer = Some(Message::Welcome(neighbours.me.clone()));
                self.peer = Some(peer);
                Ok(())
            }
            Err(refused) => {
                self.answer = Some(Message::Refused(refused.clone()));
                Err(Ended::RefusedHere(refused))
            }
        }
    }

    /// What is to be sent now, once.
    pub fn answer(&mut self, writer: &mut Writer) -> Option<SmallVec<[Bytes; 4]>> {
        Some(encode(&self.answer.take()?, writer))
    }

    /// Where to read the rest of a large frame to, followed by [`Acceptor::receive`] without bytes. `None` where no frame
    /// is under way, or one that is cheaper to copy together.
    pub fn large_frame(&mut self) -> Option<Limit<&mut BytesMut>> {
        self.frames.large()
    }

    /// Whether a part of a frame has arrived, and the rest has not.
    pub fn is_mid_frame(&self) -> bool {
        self.frames.under_way().is_some()
    }

    /// Who has introduced itself.
    pub fn peer(&self) -> Option<&Hello> {
        self.peer.as_ref()
    }
}

/// Takes something that a process of a peer said in a frame of so many bytes.
pub(crate) fn listen(
    (from, process): (NodeId, u64),
    message: Message,
    frame_bytes: usize,
    heard: &mut Vec<PeerInput>,
) -> Result<(), Ended> {
    let message = match message {
        Message::Hello(_) | Message::Welcome(_) | Message::Refused(_) | Message::Begun(_) => {
            return Err(Ended::OutOfTurn);
        }
        Message::Append(parts) => {
            let verified: Result<_, Ended> = parts.into_iter().map(|part| verified(part, frame_bytes)).collect();
            Message::Append(verified?)
        }
        Message::Epochs(parts) if parts.iter().any(|part| part.epochs.len() > EPOCHS_MAX) => {
            return Err(Ended::ListTooLong);
        }
        Message::AlterInSync(alter) if alter.partitions.iter().any(|part| part.members.len() > MEMBERS_MAX) => {
            return Err(Ended::ListTooLong);
        }
        Message::Heartbeat(heartbeat) if heartbeat.damaged.len() > DAMAGED_MAX => return Err(Ended::ListTooLong),
        other => other,
    };
    message.into_steps(&mut |message| heard.push(PeerInput::Heard { from, process, message }));
    Ok(())
}

fn verified(part: Append, frame_bytes: usize) -> Result<Append, Ended> {
    let run = part.batches.to_bytes();
    let is_small = frame_bytes > SHARED_BYTES && run.len() < frame_bytes / 2;
    let run = if is_small { Bytes::copy_from_slice(&run) } else { run };
    match verify_placed(&run, part.leader_epoch, BATCH_BYTES_MAX as usize) {
        Ok(placed) => Ok(Append { batches: Batches::of(run, placed), ..part }),
        Err(why) => Err(Ended::Batches { partition: part.partition, why }),
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::batch::BatchBuilder;
    use crate::ids::{LeaderEpoch, Offset, Session, TopicPartition, Uuid};
    use crate::time::Timestamp;

    #[test]
    fn batches_keep_at_most_twice_their_size_alive() {
        fn check(value_bytes: usize, frame_bytes: usize, expect_shared: bool) {
            let value = vec![7; value_bytes];
            let batch = BatchBuilder::new().place(Offset(0), LeaderEpoch(1)).record(Timestamp(1), None, Some(&value));
            let frame = Bytes::from([batch.build().to_vec(), vec![0; frame_bytes]].concat());
            let part = Append {
                partition: TopicPartition { topic: Uuid([7; 16]), partition: 0 },
                leader_epoch: LeaderEpoch(1),
                session: Session(1),
                previous_end: Offset(0),
                high_watermark: Offset(0),
                start: Offset(0),
                batches: Batches::new(smallvec![frame.slice(..frame.len() - frame_bytes)]),
            };
            let part = verified(part, frame.len()).expect("a sound batch");
            let is_shared = frame.as_ptr_range().contains(&part.batches.placed()[0].bytes().as_ptr());
            assert_eq!(is_shared, expect_shared, "{value_bytes} bytes and {frame_bytes} others");
        }
        check(10, 0, true);
        check(10, 10_000, true);
        check(10, SHARED_BYTES, false);
        check(60_000, SHARED_BYTES, true);
        check(60_000, 70_000, false);
    }
}
