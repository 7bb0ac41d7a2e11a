//! What passes between the node's task and the others: one mailbox towards the node, one letterbox for each connection
//! back.
//!
//! Both are a vector under a lock that is held for a few instructions. A channel would hand over one message at a time;
//! here a connection puts all requests of one read, the node takes everything at once, and each side is woken once.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use chronik_core::boundary::{Done, ReplyTo, Request};
use chronik_core::ids::ConnId;
use chronik_core::wire::Response;
use std::sync::Arc;
use tokio::sync::oneshot;

use super::peers::PeerArrival;

/// Something for the node's task.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A connection begins; this is where its answers go.
    Opened(Arc<Letterbox>),
    /// A client asks for something.
    Request(ReplyTo, Request),
    /// A connection has ended.
    Closed(ConnId),
    /// The answer to the request at this place has left.
    Sent(ConnId, u64),
    /// The disk has finished something.
    Disk(Done),
    /// Something happened between this broker and another one. Boxed, since it is rare beside requests.
    Peer(Box<PeerArrival>),
    /// The process is asked to stop.
    Stop,
    /// Somebody wants to see the counters.
    Scrape(oneshot::Sender<String>),
    /// Somebody wants to know whether clients may rely on this broker.
    AskReady(oneshot::Sender<bool>),
}

/// Towards the node.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    arrivals: Vec<Arrival>,
    node: Option<Waker>,
}

impl Mailbox {
    /// Puts one thing in.
    pub(super) fn put(&self, arrival: Arrival) {
        let mut inside = lock(&self.inside);
        inside.arrivals.push(arrival);
        wake(inside, |inside| inside.node.take());
    }

    /// Puts all requests in, in their order, and leaves `requests` empty.
    pub(super) fn put_requests(&self, requests: &mut Vec<(ReplyTo, Request)>) {
        if requests.is_empty() {
            return;
        }
        let mut inside = lock(&self.inside);
        inside.arrivals.extend(requests.drain(..).map(|(to, request)| Arrival::Request(to, request)));
        wake(inside, |inside| inside.node.take());
    }

    /// Swaps what has arrived into `taken`, which is empty. Pending where nothing has.
    pub(super) fn poll_take(&self, cx: &mut Context<'_>, taken: &mut Vec<Arrival>) -> Poll<()> {
        debug_assert!(taken.is_empty());
        let mut inside = lock(&self.inside);
        if inside.arrivals.is_empty() {
            register(&mut inside.node, cx);
            return Poll::Pending;
        }
        std::mem::swap(&mut inside.arrivals, taken);
        Poll::Ready(())
    }
}

/// That a connection is to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closing {
    pub(super) why: &'static str,
    /// Whether it does not wait until its answers have been sent.
    pub(super) is_at_once: bool,
}

/// A response, and the request it belongs to; `None` where there is nothing to send.
pub(super) type Answer = (ReplyTo, Option<Response>);

/// Room for so many answers is kept where there are none, in each of two vectors of thousands of connections: what a busy
/// client gets at a time, and not what one got that had a thousand requests in flight once.
const ANSWERS_KEPT: usize = 64;

/// Towards one connection.
#[derive(Debug)]
pub(super) struct Letterbox {
    /// Whose.
    pub(super) conn: ConnId,
    inside: Mutex<Letters>,
}

#[derive(Debug, Default)]
struct Letters {
    answers: Vec<Answer>,
    closing: Option<Closing>,
    connection: Option<Waker>,
}

impl Closing {
    /// After all answers.
    pub(super) fn after_answers(why: &'static str) -> Closing {
        Closing { why, is_at_once: false }
    }

    /// Whatever is owed.
    pub(super) fn at_once(why: &'static str) -> Closing {
        Closing { why, is_at_once: true }
    }

    /// What two wishes come to: the first, unless only the second is in a hurry.
    pub(super) fn sooner(first: Option<Closing>, second: Option<Closing>) -> Option<Closing> {
        match (first, second) {
            (Some(first), Some(second)) if second.is_at_once && !first.is_at_once => Some(second),
            (first, second) => first.or(second),
        }
    }
}

impl Letterbox {
    pub(super) fn new(conn: ConnId) -> Letterbox {
        Letterbox { conn, inside: Mutex::default() }
    }

    /// Puts all answers in, and leaves `answers` empty; the connection is to end if `closing` says why.
    pub(super) fn put(&self, answers: &mut Vec<Answer>, closing: Option<Closing>) {
        let mut inside = lock(&self.inside);
        if inside.answers.is_empty() {
            std::mem::swap(&mut inside.answers, answers);
        } else {
            inside.answers.append(answers);
        }
        inside.closing = Closing::sooner(inside.closing, closing);
        wake(inside, |inside| inside.connection.take());
        keep_little(answers);
    }

    /// Swaps what has been put in into `taken`, which is empty, and says why to close, if that was asked for.
    pub(super) fn take(&self, cx: &mut Context<'_>, taken: &mut Vec<Answer>) -> Option<Closing> {
        debug_assert!(taken.is_empty());
        keep_little(taken);
        let mut inside = lock(&self.inside);
        std::mem::swap(&mut inside.answers, taken);
        register(&mut inside.connection, cx);
        inside.closing
    }
}

/// Gives back what a vector that is empty by now has needed.
fn keep_little(answers: &mut Vec<Answer>) {
    if answers.capacity() > ANSWERS_KEPT {
        answers.shrink_to(ANSWERS_KEPT);
    }
}

fn register(waker: &mut Option<Waker>, cx: &Context<'_>) {
    match waker {
        Some(known) if known.will_wake(cx.waker()) => {}
        _ => *waker = Some(cx.waker().clone()),
    }
}

/// Wakes the reader after the lock is released, so that it does not run into it.
fn wake<T>(mut inside: MutexGuard<'_, T>, reader: impl Fn(&mut T) -> Option<Waker>) {
    let reader = reader(&mut inside);
    drop(inside);
    if let Some(reader) = reader {
        reader.wake();
    }
}

/// A thread that panics while it holds one of these has at most lost the message that it was about to put in.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::ids::ListenerId;

    #[test]
    fn what_very_many_answers_needed_is_given_back() {
        const MANY: u64 = 1_000;
        let letterbox = Letterbox::new(ConnId(1));
        let mut cx = Context::from_waker(Waker::noop());
        let (mut seat, mut taken) = (Vec::new(), Vec::new());
        let answer = |sequence| (ReplyTo { conn: ConnId(1), sequence, version: 0, listener: ListenerId(0) }, None);
        for round in 0..3 {
            // The first time they are swapped in, the second time they are put behind those.
            for _ in 0..2 {
                seat.extend((0..MANY).map(answer));
                letterbox.put(&mut seat, None);
                assert!(seat.is_empty() && seat.capacity() <= ANSWERS_KEPT, "round {round}: {}", seat.capacity());
            }
            letterbox.take(&mut cx, &mut taken);
            assert_eq!(taken.drain(..).len() as u64, 2 * MANY);
            letterbox.take(&mut cx, &mut taken);
            let kept = [lock(&letterbox.inside).answers.capacity(), taken.capacity()];
            assert!(kept.iter().all(|&kept| kept <= ANSWERS_KEPT), "round {round}: {kept:?}");
        }
    }
}
