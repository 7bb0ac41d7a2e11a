//! The side that dials, and from then on speaks.

use bytes::Bytes;
use smallvec::SmallVec;

use super::greeting::check_answerer;
use super::stream::Frames;
use super::{Begun, Ended, HELLO_BYTES_MAX, Hello, Message, decode, encode};
use crate::boundary::PeerInput;
use crate::ids::{NodeId, Uuid};
use crate::wire::Writer;

/// One connection that this broker has dialled: what is said, out; one answer, in. No socket, no clock.
///
/// | state | it sends | it receives | then |
/// |---|---|---|---|
/// | greeting | [`Dialler::hello`], first | `Welcome` of whom was meant | speaking, [`PeerInput::Connected`] |
/// | speaking | [`Dialler::begun`], first | | |
/// | | | anything else | [`Ended`] |
/// | | what is [said](Dialler::say), in its order | anything | [`Ended`] |
///
/// A driver closes the stream when it has ended, and gives a greeting that is not answered only so much time.
#[derive(Debug)]
pub struct Dialler {
    me: Hello,
    to: NodeId,
    directory_id: Option<Uuid>,
    frames: Frames,
    is_speaking: bool,
}

impl Dialler {
    /// A connection to node `to`, of which the data folder may be known, by a broker that introduces itself as `me`.
    pub fn new(me: Hello, to: NodeId, directory_id: Option<Uuid>) -> Dialler {
        Dialler { me, to, directory_id, frames: Frames::default(), is_speaking: false }
    }

    /// What is sent first.
    pub fn hello(&self, writer: &mut Writer) -> SmallVec<[Bytes; 4]> {
        encode(&Message::Hello(self.me.clone()), writer)
    }

    /// What is sent first when the answer has come: after [`PeerInput::Connected`] was handed on, since the other side
    /// counts on answers from then on.
    pub fn begun(&self, writer: &mut Writer) -> SmallVec<[Bytes; 4]> {
        encode(&Message::Begun(Begun), writer)
    }

    /// Takes bytes as the stream delivered them. [`PeerInput::Connected`] comes once.
    ///
    /// # Errors
    /// Where the connection must be closed.
    pub fn receive(&mut self, mut bytes: &[u8]) -> Result<Option<PeerInput>, Ended> {
        if bytes.is_empty() {
            return Ok(None);
        }
        if self.is_speaking {
            return Err(Ended::OutOfTurn);
        }
        let Some((header, body)) = self.frames.next(&mut bytes, HELLO_BYTES_MAX)? else { return Ok(None) };
        match decode(&header, body)? {
            Message::Welcome(peer) => {
                check_answerer(&peer, &self.me, self.to, self.directory_id).map_err(Ended::RefusedHere)?;
                self.is_speaking = true;
                match bytes {
                    [] => Ok(Some(PeerInput::Connected(peer))),
                    _ => Err(Ended::OutOfTurn),
                }
            }
            Message::Refused(refused) => Err(Ended::RefusedThere(refused)),
            _ => Err(Ended::NotGreeted),
        }
    }

    /// Whether the other side has introduced itself.
    pub fn is_speaking(&self) -> bool {
        self.is_speaking
    }

    /// The frames of a message, as slices one after another. Ones with much data are several.
    ///
    /// # Panics
    /// Before the other side has introduced itself, and where a single partition's data is more than a frame takes.
    pub fn say(&self, message: Message, writer: &mut Writer, into: &mut impl Extend<Bytes>) {
        assert!(self.is_speaking, "nothing is said before the greeting is answered");
        message.into_frames(&mut |message| into.extend(encode(&message, writer)));
    }
}
