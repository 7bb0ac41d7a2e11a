//! A broker's end of a connection: the shell's byte stream over the wires, to a client or to another broker.
//!
//! It takes no more than the window has room for, sends nothing before it is flushed, and hands out bytes in the pieces
//! in which they arrived.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::calls::{CallId, Side};
use super::wire::Conn;
use super::world::{World, lock};
use crate::engine::chance::Chance;
use crate::engine::net::Pipe;
use crate::engine::node::PEER_PORT;
use crate::plan::CLIENT_PORT;

/// What a broker holds of a connection.
#[derive(Debug, Default)]
pub(super) struct End {
    /// Bytes that have arrived and are not read.
    pub(super) inbox: VecDeque<Bytes>,
    /// Nothing comes after these.
    pub(super) is_ended: bool,
    /// The end was no orderly one.
    pub(super) is_reset: bool,
    /// What was written and not flushed.
    unflushed: VecDeque<Bytes>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Calls of write so far.
    writes: u64,
}

/// An end, and the pipes that lead to it and away.
struct Way<'a> {
    end: &'a mut End,
    arriving: &'a mut Pipe,
    leaving: &'a mut Pipe,
    window_bytes: u32,
    /// Where a write takes a part only, what draws how much.
    splits: Option<Chance>,
}

/// See the module.
pub(super) struct ServerStream {
    world: Arc<World>,
    place: Place,
    /// Keeps the address in use for as long as the connection is.
    _socket: TcpStream,
}

/// Whose stream it is.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// A client's, by its connection.
    Client(usize),
    /// One side of a call between brokers.
    Call(CallId, Side),
    /// Nobody's: a process ended before it was accepted.
    Nobody,
}

impl End {
    /// Has its task look again.
    pub(super) fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

impl ServerStream {
    /// The stream of a connection of the broker on a machine: of one that it accepted, or that it has dialled.
    pub(super) fn new(world: Arc<World>, machine: usize, socket: TcpStream, peer: SocketAddr) -> ServerStream {
        let local = socket.local_addr().expect("a connected socket has an address");
        let place = if local.port() == CLIENT_PORT {
            lock(&world.wires).arriving.accepted(machine, peer).map(Place::Client)
        } else if local.port() == PEER_PORT {
            lock(&world.calls).arriving.accepted(machine, peer).map(|call| Place::Call(call, Side::Acceptor))
        } else {
            Some(Place::Call(world.dialled(machine, local, peer), Side::Dialler))
        };
        ServerStream { world, place: place.unwrap_or(Place::Nobody), _socket: socket }
    }

    /// Does something with the connection, which is gone where the process is on its way out.
    fn with<T>(&self, act: impl FnOnce(Way<'_>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let gone = Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        match self.place {
            Place::Client(conn) => {
                let wires = &mut *lock(&self.world.wires);
                let Conn { seat, link, server, to_server, to_client, .. } = &mut wires.conns[conn];
                let Some(end) = server else { return gone };
                let is_fragmenting = wires.weather[*seat].is_fragmenting;
                act(Way {
                    end,
                    arriving: to_server,
                    leaving: to_client,
                    window_bytes: self.world.plan.network.window_bytes,
                    splits: is_fragmenting.then(|| self.world.conn_chance(*seat, *link, 3)),
                })
            }
            Place::Call(call, side) => {
                let calls = &mut *lock(&self.world.calls);
                let window_bytes = calls.network.window_bytes;
                let Some((end, arriving, leaving)) = calls.end(call, side) else { return gone };
                act(Way { end, arriving, leaving, window_bytes, splits: None })
            }
            Place::Nobody => gone,
        }
    }
}

impl AsyncRead for ServerStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.with(|Way { end, arriving, .. }| {
            let Some(front) = end.inbox.front_mut() else {
                if end.is_reset {
                    return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
                }
                if end.is_ended {
                    return Poll::Ready(Ok(()));
                }
                end.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            let count = front.len().min(buf.remaining());
            buf.put_slice(&front[..count]);
            front.advance(count);
            if front.is_empty() {
                end.inbox.pop_front();
            }
            arriving.read(count);
            self.world.wires_changed.notify_one();
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|Way { end, leaving, window_bytes, splits, .. }| {
            if end.is_reset {
                return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
            }
            let held = leaving.unsent() + end.unflushed.iter().map(Bytes::len).sum::<usize>();
            let mut room = (window_bytes.max(1) as usize).saturating_sub(held);
            if room == 0 {
                end.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            if let Some(splits) = splits {
                // A kernel takes what it has room for, which need not be all.
                end.writes += 1;
                let draw = splits.keyed(end.writes).below(room as u64);
                room = 1 + usize::try_from(draw).expect("no more than the window");
            }
            let mut taken = BytesMut::new();
            for slice in slices {
                let part = slice.len().min(room - taken.len());
                taken.extend_from_slice(&slice[..part]);
            }
            let count = taken.len();
            end.unflushed.push_back(taken.freeze());
            Poll::Ready(Ok(count))
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|Way { end, leaving, .. }| {
            for bytes in end.unflushed.drain(..).filter(|bytes| !bytes.is_empty()) {
                leaving.push(bytes);
            }
            self.world.wires_changed.notify_one();
            Poll::Ready(Ok(()))
        })
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

impl Drop for ServerStream {
    fn drop(&mut self) {
        match self.place {
            Place::Client(conn) => self.world.server_gone(conn),
            Place::Call(call, side) => self.world.left(call, side),
            Place::Nobody => {}
        }
    }
}
