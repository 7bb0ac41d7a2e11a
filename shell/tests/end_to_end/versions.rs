//! ApiVersions, and what happens to versions and keys that the broker does not serve.

use std::fs;
use std::path::Path;

use bytes::Buf as _;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, MetadataResponse, ResponseHeader,
};
use kafka_protocol::protocol::Decodable as _;

use crate::support::broker::Broker;
use crate::support::client::framed;
use crate::support::code;
use crate::support::topic::text;

/// Every API that is served, with its lowest and highest version. Produce is served from version 3, and announced from
/// 0 because librdkafka before 2.6 would otherwise not compress (KAFKA-18659).
const SERVED: &[(i16, i16, i16)] = &[
    (0, 0, 13),
    (1, 4, 18),
    (2, 1, 11),
    (3, 0, 13),
    (8, 2, 10),
    (9, 1, 10),
    (10, 0, 6),
    (11, 0, 9),
    (12, 0, 4),
    (13, 0, 5),
    (14, 0, 5),
    (15, 0, 6),
    (16, 0, 5),
    (18, 0, 4),
    (19, 2, 7),
    (20, 1, 6),
    (21, 0, 2),
    (22, 0, 5),
    (23, 2, 4),
    (32, 1, 4),
    (33, 0, 2),
    (35, 1, 5),
    (37, 0, 3),
    (42, 0, 2),
    (43, 0, 2),
    (44, 0, 1),
    (45, 0, 1),
    (46, 0, 0),
    (47, 0, 0),
    (55, 0, 2),
    (57, 0, 2),
    (60, 0, 2),
    (61, 0, 0),
    (64, 0, 0),
    (68, 0, 1),
    (69, 0, 1),
    (75, 0, 0),
    (80, 0, 1),
    (81, 0, 0),
];

/// The last version of an API that is served and that our second codec does not know: nothing judges those behind it.
const UNKNOWN_TO_THE_CODEC: &[(i16, i16)] = &[(2, 10), (35, 4), (80, 0)];

/// All sources in this folder and below.
fn sources(folder: &Path) -> String {
    let entries = fs::read_dir(folder).expect("the tests' own sources");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry of a folder").path()).collect();
    paths.sort();
    let texts = paths.iter().map(|path| match path.is_dir() {
        true => sources(path),
        false => fs::read_to_string(path).expect("a source is text"),
    });
    texts.collect()
}

#[test]
fn every_api_that_is_served_is_called_in_every_version_that_the_codec_knows() {
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end"));
    let mut judged_up_to = Vec::new();
    for &(key, _, highest) in SERVED {
        let api = ApiKey::try_from(key).unwrap_or_else(|()| panic!("the codec does not know API {key}"));
        let loops = format!("client.versions::<{api:?}Request>()");
        let known = api.valid_versions().max;
        assert!(sources.contains(&loops), "no test goes through the versions of {api:?}: `{loops}`");
        if known < highest {
            judged_up_to.push((key, known));
        }
    }
    assert_eq!(judged_up_to, UNKNOWN_TO_THE_CODEC);
}

#[test]
fn advertises_exactly_what_it_serves() {
    let broker = Broker::start();
    let advertised = broker.client().call(0, &ApiVersionsRequest::default());
    let mut found: Vec<_> =
        advertised.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
    found.sort_unstable();
    if !broker.is_own() {
        found.retain(|(key, ..)| SERVED.iter().any(|(served, ..)| served == key));
    }
    assert_eq!(found, SERVED);
}

#[test]
fn answers_api_versions_in_every_version() {
    let broker = Broker::start();
    let mut client = broker.client();
    let in_version_0 = client.call(0, &ApiVersionsRequest::default());
    for version in client.versions::<ApiVersionsRequest>() {
        let mut request = ApiVersionsRequest::default();
        if version >= 3 {
            request = request.with_client_software_name(text("end-to-end")).with_client_software_version(text("1.0"));
        }
        let response = client.call(version, &request);
        assert_eq!(response.error_code, code::NONE, "version {version}");
        let ranges = |response: &ApiVersionsResponse| -> Vec<_> {
            response.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect()
        };
        assert_eq!(ranges(&response), ranges(&in_version_0), "version {version}");
    }
}

#[test]
fn a_client_name_that_is_not_a_name_is_refused() {
    let broker = Broker::start();
    for (name, version) in [("", "1.0"), ("end to end", "1.0"), ("end-to-end", "-1")] {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(text(name))
            .with_client_software_version(text(version));
        assert_eq!(broker.client().call(3, &request).error_code, code::INVALID_REQUEST, "{name:?} {version:?}");
    }
}

#[test]
fn an_api_versions_request_from_the_future_is_answered_in_version_0_and_may_be_repeated() {
    let broker = Broker::start();
    let mut client = broker.client();
    // Key 18, version 99, correlation id 7, a client id, no tags, then a body that nobody can know yet.
    let request = [0, 18, 0, 99, 0, 0, 0, 7, 0, 1, b'x', 0, 0xde, 0xad];
    client.send_bytes(&framed(&request)).expect("the connection is open");
    let mut frame = client.receive_frame().expect("an answer");
    assert_eq!(ResponseHeader::decode(&mut frame, 0).expect("a header").correlation_id, 7);
    let response = ApiVersionsResponse::decode(&mut frame, 0).expect("a body in version 0");
    assert_eq!(frame.remaining(), 0);
    assert_eq!(response.error_code, code::UNSUPPORTED_VERSION);
    let own = response.api_keys.iter().find(|api| api.api_key == 18).expect("its own range");
    assert_eq!((own.min_version, own.max_version), (0, 4));
    assert_eq!(client.call(0, &ApiVersionsRequest::default()).error_code, code::NONE);
}

#[test]
fn a_known_api_in_an_unknown_version_ends_the_connection() {
    let broker = Broker::start();
    let mut client = broker.client();
    client.send_bytes(&framed(&[0, 3, 0, 99, 0, 0, 0, 7, 0, 1, b'x', 0xde, 0xad])).expect("the connection is open");
    // Kafka closes without a word; we say why first, in the highest version that we do know.
    if broker.is_own() {
        let mut frame = client.receive_frame().expect("an answer");
        assert_eq!(ResponseHeader::decode(&mut frame, 1).expect("a header").correlation_id, 7);
        let response = MetadataResponse::decode(&mut frame, 13).expect("a body in version 13");
        assert_eq!(response.error_code, code::UNSUPPORTED_VERSION);
    }
    assert!(client.is_closed());
    broker.client().call(1, &MetadataRequest::default());
}

#[test]
fn an_unknown_api_ends_the_connection() {
    let broker = Broker::start();
    let mut client = broker.client();
    client.send_bytes(&framed(&[0x70, 0, 0, 0, 0, 0, 0, 7, 0, 1, b'x'])).expect("the connection is open");
    assert!(client.is_closed());
}
