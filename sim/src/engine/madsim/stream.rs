//! The broker's end of a connection: the shell's byte stream over the wires.
//!
//! It takes no more than the window has room for, sends nothing before it is flushed, and hands out bytes in the pieces
//! in which they arrived.

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::wire::Conn;
use super::world::{World, lock};

/// See the module.
pub(super) struct ServerStream {
    world: Arc<World>,
    /// `None` where the process ended before it accepted.
    conn: Option<usize>,
    /// Keeps the address in use for as long as the connection is.
    _socket: TcpStream,
}

impl ServerStream {
    pub(super) fn new(world: Arc<World>, socket: TcpStream, peer: SocketAddr) -> ServerStream {
        let conn = lock(&world.wires).accepted(peer);
        ServerStream { world, conn, _socket: socket }
    }

    /// Does something with the connection, which is gone where the process is on its way out.
    fn with<T>(&self, act: impl FnOnce(&World, &mut Conn, bool) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Some(conn) = self.conn else { return Poll::Ready(Err(ErrorKind::ConnectionAborted.into())) };
        let wires = &mut *lock(&self.world.wires);
        let is_fragmenting = wires.weather[wires.conns[conn].seat].is_fragmenting;
        act(&self.world, &mut wires.conns[conn], is_fragmenting)
    }
}

impl AsyncRead for ServerStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.with(|world, conn, _| {
            let Some(server) = &mut conn.server else { return Poll::Ready(Err(ErrorKind::ConnectionAborted.into())) };
            let Some(front) = server.inbox.front_mut() else {
                if server.is_reset {
                    return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
                }
                if server.is_ended {
                    return Poll::Ready(Ok(()));
                }
                server.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            let count = front.len().min(buf.remaining());
            buf.put_slice(&front[..count]);
            front.advance(count);
            if front.is_empty() {
                server.inbox.pop_front();
            }
            conn.to_server.read(count);
            world.wires_changed.notify_one();
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
        self.with(|world, conn, is_fragmenting| {
            let (seat, link, unsent) = (conn.seat, conn.link, conn.to_client.unsent());
            let Some(server) = &mut conn.server else { return Poll::Ready(Err(ErrorKind::ConnectionAborted.into())) };
            if server.is_reset {
                return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
            }
            let held = unsent + server.unflushed.iter().map(Bytes::len).sum::<usize>();
            let mut room = (world.plan.network.window_bytes.max(1) as usize).saturating_sub(held);
            if room == 0 {
                server.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            if is_fragmenting {
                // A kernel takes what it has room for, which need not be all.
                server.writes += 1;
                let draw = world.conn_chance(seat, link, 3).keyed(server.writes).below(room as u64);
                room = 1 + usize::try_from(draw).expect("no more than the window");
            }
            let mut taken = BytesMut::new();
            for slice in slices {
                let part = slice.len().min(room - taken.len());
                taken.extend_from_slice(&slice[..part]);
            }
            let count = taken.len();
            server.unflushed.push_back(taken.freeze());
            Poll::Ready(Ok(count))
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|world, conn, _| {
            let Some(server) = &mut conn.server else { return Poll::Ready(Err(ErrorKind::ConnectionAborted.into())) };
            for bytes in server.unflushed.drain(..).filter(|bytes| !bytes.is_empty()) {
                conn.to_client.push(bytes);
            }
            world.wires_changed.notify_one();
            Poll::Ready(Ok(()))
        })
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

impl Drop for ServerStream {
    fn drop(&mut self) {
        if let Some(conn) = self.conn {
            self.world.server_gone(conn);
        }
    }
}
