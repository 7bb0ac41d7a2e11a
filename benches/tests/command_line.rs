//! The binary itself, as a script sees it: what it says on standard error, and how it ends.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, FetchRequest, MetadataRequest, MetadataResponse, RequestHeader, ResponseHeader,
    TopicName,
};
use kafka_protocol::protocol::{Decodable as _, Encodable, Message as _};
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::thread;

const METADATA_VERSION: i16 = 4;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chronik-bench")).args(arguments).output().expect("the binary can be run")
}

/// It ended with this exit code, and one line on standard error that has all of these words.
fn expect_fault(ended: &Output, exit_code: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(exit_code), "{said}");
    let [line] = said.lines().collect::<Vec<_>>()[..] else { panic!("not one line:\n{said}") };
    for word in words.iter().chain(&["chronik-bench: "]) {
        assert!(line.contains(word), "{word:?} is missing from {line:?}");
    }
}

#[test]
fn a_wrong_command_line_is_answered_in_one_line() {
    expect_fault(&run(&["--no-such-flag"]), 2, &["--no-such-flag", "see `chronik-bench --help`"]);
    expect_fault(&run(&["--duration", "soon"]), 2, &["soon", "does not begin with a number"]);
    expect_fault(&run(&["compare"]), 2, &["--floor"]);
    let help = run(&["--help"]);
    assert_eq!((help.status.code(), help.stderr.len()), (Some(0), 0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("Exit codes"));
}

/// Answers one client: what it serves, and of every topic this error code. Gives how often it was asked for a topic.
fn refuse_topics(listener: &TcpListener, error_code: i16) -> usize {
    let (mut stream, _) = listener.accept().expect("a client");
    let mut asked = 0;
    // Until the client is gone.
    while let Ok((header, mut body)) = receive(&mut stream) {
        match ApiKey::try_from(header.request_api_key).expect("an API") {
            ApiKey::ApiVersions => {
                let api = |api_key: i16, version| {
                    ApiVersion::default().with_api_key(api_key).with_min_version(version).with_max_version(version)
                };
                let served = [
                    api(ApiKey::Metadata as i16, METADATA_VERSION),
                    api(ApiKey::Fetch as i16, FetchRequest::VERSIONS.min),
                ];
                answer(&mut stream, &header, 0, &ApiVersionsResponse::default().with_api_keys(served.into()));
            }
            ApiKey::Metadata => {
                asked += 1;
                let request = MetadataRequest::decode(&mut body, METADATA_VERSION).expect("a request");
                let name: Option<TopicName> = request.topics.and_then(|mut topics| topics.remove(0).name);
                let topic = MetadataResponseTopic::default().with_name(name).with_error_code(error_code);
                answer(&mut stream, &header, METADATA_VERSION, &MetadataResponse::default().with_topics(vec![topic]));
            }
            other => panic!("{other:?} was not advertised"),
        }
    }
    asked
}

fn receive(stream: &mut TcpStream) -> io::Result<(RequestHeader, Bytes)> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame)?;
    let mut frame = Bytes::from(frame);
    let header = RequestHeader::decode(&mut frame, 1).expect("a header");
    Ok((header, frame))
}

fn answer(stream: &mut TcpStream, header: &RequestHeader, version: i16, response: &impl Encodable) {
    let mut body = BytesMut::new();
    let head = ResponseHeader::default().with_correlation_id(header.correlation_id);
    head.encode(&mut body, 0).expect("a header");
    response.encode(&mut body, version).expect("a response");
    let frame = [&(body.len() as u32).to_be_bytes()[..], &body].concat();
    stream.write_all(&frame).expect("the client reads");
}

#[test]
fn a_topic_that_the_broker_refuses_for_good_is_asked_for_once() {
    for (error_code, name) in
        [(17, "INVALID_TOPIC_EXCEPTION"), (29, "TOPIC_AUTHORIZATION_FAILED"), (42, "INVALID_REQUEST")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let broker = thread::spawn(move || refuse_topics(&listener, error_code));
        let ended = run(&["--bootstrap-servers", &address, "--topic", "bad topic"]);
        expect_fault(&ended, 4, &["topic bad topic", name]);
        assert_eq!(broker.join().expect("it does not panic"), 1, "{name}");
    }
}
