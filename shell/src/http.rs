//! The operator's page: `/metrics`, `/health` and `/ready` over HTTP/1.1.
//!
//! One answer a connection, and no more of HTTP than scrapers, load balancers and `curl` need: a request's head is
//! read within a bound of bytes and time, its body never, and the connection is closed after the answer. That is less
//! than a tenth of what an HTTP library brings into the binary, and it runs on the few socket calls that the simulated
//! network has too.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

/// How far the node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It recovers what the disk holds.
    Starting,
    /// It serves clients.
    Serving,
    /// It finishes what it has begun and takes nothing new.
    Stopping,
}

/// Connections answered at once; further ones wait in the listener's queue.
const CONNECTIONS_MAX: usize = 16;
/// Bytes of a request's head. A scrape sends about 300.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// For one request and its answer, from accepting the connection to closing it.
const EXCHANGE_TIME_MAX: Duration = Duration::from_secs(10);
/// Before trying again where a connection could not be accepted: descriptors run out for a while, not for a moment.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What is asked of the broker. Each answer is one of the node's loop, once there is one.
pub trait Broker: Clone + Send + Sync + 'static {
    /// The text of `/metrics`.
    fn metrics(&self) -> impl Future<Output = String> + Send;

    /// Whether clients may rely on it.
    fn is_ready(&self) -> impl Future<Output = bool> + Send;
}

/// Answers on `listener` until the task is dropped.
///
/// `/health` has the node's loop turn once, and no answer where that does not; `/ready` is 200 while the broker is in the
/// stage for it, and says that it is.
pub async fn serve(listener: TcpListener, stage: watch::Receiver<Stage>, broker: impl Broker) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(why) => {
                warn!(%why, "could not accept a connection to the metrics address");
                sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let (stage, broker) = (stage.clone(), broker.clone());
        tokio::spawn(async move {
            match timeout(EXCHANGE_TIME_MAX, exchange(stream, stage, broker)).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => debug!(%why, "a request to the metrics address was cut short"),
                Err(_) => debug!("a request to the metrics address took too long"),
            }
            drop(place);
        });
    }
}

async fn exchange(mut stream: TcpStream, stage: watch::Receiver<Stage>, broker: impl Broker) -> io::Result<()> {
    let Some(head) = read_head(&mut stream).await? else { return Ok(()) };
    let stage = *stage.borrow();
    let answer = match Wanted::read(&head) {
        Ok(wanted) => wanted.answer(stage, broker).await,
        Err(refused) => Answer::plain(refused, false),
    };
    stream.write_all(&answer.encode()).await?;
    stream.flush().await?;
    stream.shutdown().await
}

/// The bytes up to the end of the head, cut at the bound; nothing where the peer closes before it has said anything.
async fn read_head(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let count = stream.read(&mut piece).await?;
        if count == 0 {
            return Ok(if head.is_empty() { None } else { Some(head) });
        }
        // The end of the head may straddle two pieces.
        let from = head.len().saturating_sub(3);
        head.extend_from_slice(&piece[..count]);
        if head[from..].windows(4).any(|end| end == b"\r\n\r\n") || head.len() >= HEAD_BYTES_MAX {
            return Ok(Some(head));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Ok,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    HeadTooLarge,
    Unavailable,
}

impl Status {
    /// Code and reason, as the status line has them (RFC 9110 section 15).
    fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::HeadTooLarge => "431 Request Header Fields Too Large",
            Status::Unavailable => "503 Service Unavailable",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Metrics,
    Health,
    Ready,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    page: Page,
    /// HEAD: the answer without its body.
    head_only: bool,
}

impl Wanted {
    fn read(head: &[u8]) -> Result<Wanted, Status> {
        let Some(end) = head.windows(4).position(|end| end == b"\r\n\r\n") else {
            return Err(if head.len() >= HEAD_BYTES_MAX { Status::HeadTooLarge } else { Status::BadRequest });
        };
        let head = std::str::from_utf8(&head[..end]).map_err(|_| Status::BadRequest)?;
        let mut words = head.lines().next().unwrap_or_default().split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Status::BadRequest);
        };
        if !version.starts_with("HTTP/1.") {
            return Err(Status::BadRequest);
        }
        let head_only = match method {
            "GET" => false,
            "HEAD" => true,
            _ => return Err(Status::MethodNotAllowed),
        };
        let path = target.split_once('?').map_or(target, |(path, _query)| path);
        let page = match path {
            "/metrics" => Page::Metrics,
            "/health" => Page::Health,
            "/ready" => Page::Ready,
            _ => return Err(Status::NotFound),
        };
        Ok(Wanted { page, head_only })
    }

    async fn answer(self, stage: Stage, broker: impl Broker) -> Answer {
        let is_ready = self.page != Page::Metrics && broker.is_ready().await;
        match self.page {
            Page::Metrics => Answer {
                status: Status::Ok,
                kind: "text/plain; version=0.0.4; charset=utf-8",
                body: broker.metrics().await,
                head_only: self.head_only,
            },
            Page::Health => Answer::plain(Status::Ok, self.head_only),
            Page::Ready if stage == Stage::Serving && is_ready => Answer::plain(Status::Ok, self.head_only),
            Page::Ready => Answer::plain(Status::Unavailable, self.head_only),
        }
    }
}

struct Answer {
    status: Status,
    kind: &'static str,
    body: String,
    head_only: bool,
}

impl Answer {
    /// A status that is its own text.
    fn plain(status: Status, head_only: bool) -> Answer {
        Answer { status, kind: "text/plain; charset=utf-8", body: format!("{}\n", status.line()), head_only }
    }

    fn encode(&self) -> Vec<u8> {
        let Answer { status, kind, body, head_only } = self;
        let allow = if *status == Status::MethodNotAllowed { "allow: GET, HEAD\r\n" } else { "" };
        let mut text = format!(
            "HTTP/1.1 {}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n{allow}connection: close\r\n\r\n",
            status.line(),
            body.len()
        );
        if !head_only {
            text.push_str(body);
        }
        text.into_bytes()
    }
}

#[cfg(all(test, not(madsim)))]
mod tests {
    use super::*;

    /// A broker that is ready, or not.
    #[derive(Clone, Copy)]
    struct Fake(bool);

    impl Broker for Fake {
        async fn metrics(&self) -> String {
            "chronik_up 1\n".to_owned()
        }

        async fn is_ready(&self) -> bool {
            self.0
        }
    }

    /// Sends `request` to a page in `stage` and answers all that comes back.
    fn ask(stage: Stage, request: &[u8]) -> String {
        ask_of(Fake(true), stage, request)
    }

    fn ask_of(broker: Fake, stage: Stage, request: &[u8]) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("a bound address");
            let (_sender, stage) = watch::channel(stage);
            tokio::spawn(serve(listener, stage, broker));
            let mut client = TcpStream::connect(address).await.expect("the page listens");
            client.write_all(request).await.expect("the page reads");
            client.shutdown().await.expect("the page is still there");
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.expect("an answer to its end");
            String::from_utf8(answer).expect("text")
        })
    }

    #[test]
    fn who_serves_and_is_not_relied_on_is_healthy_and_not_ready() {
        for (page, status) in [("/ready", "HTTP/1.1 503"), ("/health", "HTTP/1.1 200")] {
            let answer = ask_of(Fake(false), Stage::Serving, format!("GET {page} HTTP/1.1\r\n\r\n").as_bytes());
            assert!(answer.starts_with(status), "{page}: {answer}");
        }
    }

    fn check(stage: Stage, request: &str, status: &str, body: &str) {
        let answer = ask(stage, request.as_bytes());
        let (head, seen) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert_eq!(head.lines().next(), Some(status), "for {request:?}");
        assert_eq!(seen, body, "for {request:?}");
        assert!(head.contains("connection: close"), "{head}");
    }

    #[test]
    fn ready_is_said_only_while_serving_and_health_always() {
        for (stage, ready) in [
            (Stage::Starting, "503 Service Unavailable"),
            (Stage::Serving, "200 OK"),
            (Stage::Stopping, "503 Service Unavailable"),
        ] {
            check(stage, "GET /ready HTTP/1.1\r\n\r\n", &format!("HTTP/1.1 {ready}"), &format!("{ready}\n"));
            check(stage, "GET /health HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 200 OK", "200 OK\n");
        }
    }

    #[test]
    fn metrics_are_drawn_up_when_they_are_asked_for() {
        check(Stage::Serving, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 200 OK", "chronik_up 1\n");
        check(Stage::Serving, "GET /metrics?name[]=x HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK", "chronik_up 1\n");
        check(Stage::Serving, "HEAD /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK", "");
    }

    #[test]
    fn what_is_not_served_is_refused_by_its_kind() {
        check(Stage::Serving, "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found", "404 Not Found\n");
        check(
            Stage::Serving,
            "DELETE /metrics HTTP/1.1\r\n\r\n",
            "HTTP/1.1 405 Method Not Allowed",
            "405 Method Not Allowed\n",
        );
        for nonsense in
            ["hello\r\n\r\n", "GET /metrics\r\n\r\n", "GET /metrics HTTP/2\r\n\r\n", "GET /metrics HTTP/1.1\r\n"]
        {
            check(Stage::Serving, nonsense, "HTTP/1.1 400 Bad Request", "400 Bad Request\n");
        }
        assert_eq!(ask(Stage::Serving, b""), "", "a peer that says nothing is told nothing");
    }

    #[test]
    fn an_endless_head_is_cut_at_the_bound() {
        let mut head = b"GET /metrics HTTP/1.1\r\nx: ".to_vec();
        head.resize(HEAD_BYTES_MAX, b'y');
        assert_eq!(Wanted::read(&head), Err(Status::HeadTooLarge));
    }
}
