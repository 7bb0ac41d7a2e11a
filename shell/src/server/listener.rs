//! Accepting connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chronik_core::ids::{ConnId, ListenerId};
use chronik_core::limits::Limits;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::admission::{Admission, Refusal};
use super::connection::{Client, Shared};
use super::stream::ByteStream;

/// How long to wait after a connection could not be accepted: whatever was short, descriptors or memory, is short for a
/// while, and asking again at once would only burn the processor that could free it.
pub(super) const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How often a listener tells at most that it refuses connections.
const REFUSALS_TOLD_EVERY: Duration = Duration::from_secs(1);

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
        let mut refusals = Refusals::default();
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    complaint.over();
                    if let Err(error) = self.open(stream, peer, id, &wrap, &mut refusals) {
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
        refusals: &mut Refusals,
    ) -> io::Result<()> {
        let place = match self.admission.admit(peer.ip()) {
            Ok(place) => place,
            Err(refusal) => {
                refusals.tell(peer.ip(), refusal, self.shared.limits.connections_max, Instant::now());
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

/// Says why connections are refused, once a second at most: whoever is refused comes again at once.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    told: Option<Instant>,
    /// How many were refused since.
    untold: u64,
}

impl Refusals {
    /// Takes in one more refusal. How many there were since the last line, this one included, where there is to be one.
    pub(super) fn due(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < REFUSALS_TOLD_EVERY) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }

    /// `room` is how many connections the machine has room for.
    fn tell(&mut self, ip: IpAddr, refusal: Refusal, room: usize, now: Instant) {
        let Some(refused) = self.due(now) else { return };
        match refusal {
            Refusal::TooMany => info!(%ip, refused, "connections refused: max.connections are open"),
            Refusal::TooManyFromAddress => {
                info!(%ip, refused, "connections refused: max.connections.per.ip are open from there");
            }
            Refusal::NoRoom => warn!(%ip, refused, "connections refused: {}", no_room(room)),
        }
    }
}

/// Why there is no room for more than `room` connections, and what to do.
fn no_room(room: usize) -> String {
    if room < Limits::default().connections_max {
        format!(
            "the limit of open files (RLIMIT_NOFILE) leaves room for {room}, which are open: raise its hard limit (ulimit \
             -Hn, LimitNOFILE= of systemd) and start again"
        )
    } else {
        format!(
            "{room} are open, which are as many as one broker serves: have clients share connections, or add brokers"
        )
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
    use tokio::sync::mpsc;

    #[test]
    fn refusals_are_told_once_a_second_with_their_number() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!(refusals.due(start), Some(1));
        for ms in 1..1000 {
            assert_eq!(refusals.due(after(ms)), None, "after {ms} ms");
        }
        assert_eq!(refusals.due(after(1000)), Some(1000));
        assert_eq!(refusals.due(after(1001)), None);
        assert_eq!(refusals.due(after(9000)), Some(2));
    }

    #[test]
    fn the_limit_of_files_is_named_where_it_is_the_cause() {
        let most = Limits::default().connections_max;
        assert!(no_room(100).starts_with("the limit of open files (RLIMIT_NOFILE) leaves room for 100,"));
        assert!(!no_room(most).contains("RLIMIT_NOFILE"));
    }

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
