//! Accepting connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chronik_core::ids::{ConnId, ListenerId};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::admission::{Admission, Refusal};
use super::connection::{Client, Shared};
use super::stream::ByteStream;

/// How long to wait after a connection could not be accepted: whatever was short, descriptors or memory, is short for a
/// while, and asking again at once would only burn the processor that could free it.
pub(super) const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What the listeners share.
#[derive(Debug)]
pub(super) struct Doors {
    pub(super) shared: Arc<Shared>,
    pub(super) admission: Arc<Admission>,
    /// The number of the next connection.
    next: AtomicU64,
}

impl Doors {
    pub(super) fn new(shared: Arc<Shared>, admission: Arc<Admission>) -> Doors {
        Doors { shared, admission, next: AtomicU64::new(0) }
    }

    /// Accepts connections until the task is dropped. `wrap` makes the stream that the connection uses.
    pub(super) async fn accept<S: ByteStream>(
        self: Arc<Self>,
        listener: TcpListener,
        id: ListenerId,
        wrap: impl Fn(TcpStream, SocketAddr) -> S,
    ) {
        let mut complaint = Complaint::default();
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    complaint.over();
                    if let Err(error) = self.open(stream, peer, id, &wrap) {
                        debug!(%peer, %error, "a connection was lost before it began");
                    }
                }
                // The client gave up while it waited: its own affair.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    complaint.make(&error);
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    fn open<S: ByteStream>(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        listener: ListenerId,
        wrap: impl Fn(TcpStream, SocketAddr) -> S,
    ) -> io::Result<()> {
        let place = match self.admission.admit(peer.ip()) {
            Ok(place) => place,
            Err(refusal) => {
                refuse(peer.ip(), refusal);
                return Ok(());
            }
        };
        // Answers are written whole: waiting for more to send along would only delay them.
        stream.set_nodelay(true)?;
        notice_silence(&stream)?;
        let conn = ConnId(self.next.fetch_add(1, Ordering::Relaxed));
        debug!(conn = conn.0, %peer, listener = listener.0, "connection accepted");
        let client = Client::new(wrap(stream, peer), peer, conn, listener, self.shared.clone());
        tokio::spawn(async move {
            client.await;
            drop(place);
        });
        Ok(())
    }
}

/// Has the system notice a client whose machine has vanished, and would keep its place for as long as a
/// connection may be idle. When it looks is up to the system's settings, as with Kafka.
#[cfg(not(madsim))]
fn notice_silence(stream: &TcpStream) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_keepalive(stream, true)?)
}

/// Simulated sockets have no such setting.
#[cfg(madsim)]
fn notice_silence(_: &TcpStream) -> io::Result<()> {
    Ok(())
}

fn refuse(ip: IpAddr, refusal: Refusal) {
    match refusal {
        Refusal::TooMany => info!(%ip, "connection refused: max.connections are open"),
        Refusal::TooManyFromAddress => info!(%ip, "connection refused: max.connections.per.ip are open from there"),
    }
}

/// Says once that connections cannot be accepted, and once that they can again.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    is_made: bool,
}

impl Complaint {
    pub(super) fn make(&mut self, error: &io::Error) {
        if !self.is_made {
            warn!(%error, "connections cannot be accepted; retrying (where files ran out, raise RLIMIT_NOFILE)");
            self.is_made = true;
        }
    }

    pub(super) fn over(&mut self) {
        if self.is_made {
            info!("connections are accepted again");
            self.is_made = false;
        }
    }
}

#[cfg(all(test, not(madsim)))]
mod tests {
    use super::*;
    use chronik_core::limits::Limits;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn a_client_whose_machine_vanishes_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let admission = Arc::new(Admission::new(1));
        admission.allow(1, 1);
        let doors = Arc::new(Doors::new(Arc::new(Shared::new(Limits::default(), None)), admission));
        let (told, mut hear) = mpsc::unbounded_channel();
        let accepting = tokio::spawn(doors.accept(listener, ListenerId(0), move |stream: TcpStream, _| {
            let is_kept_alive = rustix::net::sockopt::socket_keepalive(&stream);
            told.send(is_kept_alive.expect("a socket has this option")).expect("the test waits for it");
            stream
        }));
        let _client = TcpStream::connect(address).await.expect("the listener is there");
        assert_eq!(hear.recv().await, Some(true));
        accepting.abort();
    }
}
