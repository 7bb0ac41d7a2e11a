//! What the node says to one peer, on its way to the connection that takes it there.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use chronik_core::ids::NodeId;
use chronik_core::peer::{Hello, Message};

/// How many bytes may wait for a peer that does not read. What is said in order is bounded by credits, far below; a
/// connection that passes this is closed, and what was said begins anew on the next one.
pub(super) const UNSENT_BYTES_MAX: usize = 128 << 20;

/// Towards one connection that this broker has dialled.
#[derive(Debug)]
pub(in crate::server) struct Outgoing {
    /// Who is at its other end.
    pub(super) peer: Hello,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    messages: Vec<Message>,
    /// The bytes of those.
    waiting: usize,
    /// What the connection had taken and not sent when it looked last.
    unsent: usize,
    closing: Option<Closing>,
    connection: Option<Waker>,
}

/// How a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// When all that was said has been sent.
    AfterAll,
    /// At once: more is waiting than may.
    Flooded,
    /// At once: the process at its other end is no more.
    Orphaned,
}

impl Outgoing {
    pub(super) fn new(peer: Hello) -> Outgoing {
        Outgoing { peer, inside: Mutex::default() }
    }

    /// Whom it goes to.
    pub(super) fn to(&self) -> NodeId {
        self.peer.node_id
    }

    /// Another process of the peer than the one at the other end has shown up: nobody is there any more, even if the network
    /// has not noticed.
    pub(super) fn orphan(&self) {
        let mut inside = self.lock();
        inside.closing = Some(Closing::Orphaned);
        wake(inside);
    }

    /// Puts all messages in, and leaves `messages` empty.
    pub(super) fn put(&self, messages: &mut Vec<Message>) {
        let mut inside = self.lock();
        inside.waiting += messages.iter().map(Message::payload_bytes).sum::<usize>();
        if inside.messages.is_empty() {
            std::mem::swap(&mut inside.messages, messages);
        } else {
            inside.messages.append(messages);
        }
        if inside.waiting + inside.unsent > UNSENT_BYTES_MAX {
            inside.messages.clear();
            inside.waiting = 0;
            inside.closing = Some(Closing::Flooded);
        }
        wake(inside);
    }

    /// The connection is to end when all has been sent.
    pub(super) fn close(&self) {
        let mut inside = self.lock();
        inside.closing = inside.closing.or(Some(Closing::AfterAll));
        wake(inside);
    }

    /// Swaps what has been put in into `taken`, which is empty, and says whether to close. Where that is at once, nothing
    /// is taken: it would be said by nobody, or by whichever connection uses `taken` next.
    pub(super) fn take(&self, cx: &Context<'_>, taken: &mut Vec<Message>) -> Option<Closing> {
        debug_assert!(taken.is_empty());
        let mut inside = self.lock();
        if !matches!(inside.closing, Some(Closing::Flooded | Closing::Orphaned)) {
            std::mem::swap(&mut inside.messages, taken);
            inside.unsent += std::mem::take(&mut inside.waiting);
            inside.connection = Some(cx.waker().clone());
        }
        inside.closing
    }

    /// So many bytes of what was taken have not been sent.
    pub(super) fn settle(&self, unsent: usize) {
        self.lock().unsent = unsent;
    }

    /// A thread that panics while it holds this has at most lost the message that it was about to put in.
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the connection after the lock is released, so that it does not run into it.
fn wake(mut inside: MutexGuard<'_, Inside>) {
    let connection = inside.connection.take();
    drop(inside);
    if let Some(connection) = connection {
        connection.wake();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use chronik_core::ids::Uuid;

    use super::*;

    fn outgoing() -> Outgoing {
        Outgoing::new(Hello {
            cluster_id: "c".into(),
            node_id: NodeId(2),
            directory_id: Uuid::ZERO,
            process: 1,
            format_first: 0,
            format_last: 0,
        })
    }

    fn taken(outgoing: &Outgoing) -> (usize, Option<Closing>) {
        let mut taken = Vec::new();
        let closing = outgoing.take(&Context::from_waker(Waker::noop()), &mut taken);
        (taken.len(), closing)
    }

    #[test]
    fn what_a_peer_does_not_read_is_bounded() {
        let outgoing = outgoing();
        let mebibytes = |count: usize| Message::Metadata(Bytes::from(vec![0; count << 20]));
        outgoing.put(&mut vec![mebibytes(60), mebibytes(60)]);
        assert_eq!(taken(&outgoing), (2, None));
        outgoing.put(&mut vec![mebibytes(60)]);
        assert_eq!(taken(&outgoing), (0, Some(Closing::Flooded)), "what was taken counts until it is sent");

        let outgoing = self::outgoing();
        outgoing.put(&mut vec![mebibytes(120)]);
        assert_eq!(taken(&outgoing), (1, None));
        outgoing.settle(20 << 20);
        outgoing.put(&mut vec![mebibytes(60)]);
        assert_eq!(taken(&outgoing), (1, None));
    }

    #[test]
    fn what_was_for_a_process_that_is_no_more_is_not_left_for_another_peer() {
        let outgoing = outgoing();
        outgoing.put(&mut vec![Message::Acked(vec![])]);
        outgoing.orphan();
        assert_eq!(taken(&outgoing), (0, Some(Closing::Orphaned)));
    }

    #[test]
    fn an_orderly_end_lets_all_be_sent() {
        let outgoing = outgoing();
        outgoing.put(&mut vec![Message::Acked(vec![])]);
        outgoing.close();
        assert_eq!(taken(&outgoing), (1, Some(Closing::AfterAll)));
    }
}
