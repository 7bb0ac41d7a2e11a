//! Deleting topics.

use super::{Cluster, error};
use chronik_core::controller::image::Change;
use chronik_core::ids::Uuid;
use chronik_core::wire::Str;
use chronik_core::wire::delete_topics::{DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest};

fn delete(cluster: &mut Cluster, version: i16, topics: &[(Option<&str>, Uuid)]) -> Vec<DeletableTopicResult> {
    let mut request = DeleteTopicsRequest::default();
    for (name, topic_id) in topics {
        match (version, name) {
            (..=5, Some(name)) => request.topic_names.push((*name).into()),
            _ => request.topics.push(DeleteTopicState { name: name.map(Str::from), topic_id: *topic_id }),
        }
    }
    let decision = cluster.controller.delete_topics(version, &request);
    cluster.commit(decision).responses
}

fn errors(results: &[DeletableTopicResult]) -> Vec<&'static str> {
    results.iter().map(|result| error(result.error_code)).collect()
}

#[test]
fn a_topic_is_deleted_by_name_or_by_id() {
    let mut cluster = Cluster::new();
    let a = cluster.create("a", 2, &[]);
    let b = cluster.create("b", 1, &[]);
    let results = delete(&mut cluster, 5, &[(Some("a"), Uuid::ZERO)]);
    assert_eq!((results[0].name.clone(), results[0].topic_id, results[0].error_code), (Some("a".into()), a, 0));
    let results = delete(&mut cluster, 6, &[(None, b)]);
    assert_eq!((results[0].name.clone(), results[0].topic_id, results[0].error_code), (Some("b".into()), b, 0));
    assert_eq!(cluster.controller.image().topic_count(), 0);
}

#[test]
fn deleting_returns_what_is_no_more() {
    let mut cluster = Cluster::new();
    let id = cluster.create("a", 2, &[]);
    let request = DeleteTopicsRequest { topic_names: vec!["a".into()], ..Default::default() };
    let decision = cluster.controller.delete_topics(5, &request);
    let changes = cluster.changes(&decision);
    assert_eq!(changes, [Change::TopicRemoved { id, name: "a".into(), partitions: 2 }]);
}

#[test]
fn what_does_not_exist_is_not_deleted() {
    let mut cluster = Cluster::new();
    let unknown = Uuid([7; 16]);
    let results = delete(&mut cluster, 6, &[(Some("a"), Uuid::ZERO), (None, unknown), (Some("a b"), Uuid::ZERO)]);
    assert_eq!(errors(&results), ["UNKNOWN_TOPIC_OR_PARTITION", "UNKNOWN_TOPIC_ID", "INVALID_TOPIC_EXCEPTION"]);
    assert_eq!(results[1].name, None);
}

#[test]
fn a_topic_is_named_in_one_way_and_once() {
    let mut cluster = Cluster::new();
    let a = cluster.create("a", 1, &[]);
    assert_eq!(errors(&delete(&mut cluster, 6, &[(Some("a"), a)])), ["INVALID_REQUEST"]);
    assert_eq!(errors(&delete(&mut cluster, 6, &[(None, Uuid::ZERO)])), ["INVALID_REQUEST"]);
    assert_eq!(errors(&delete(&mut cluster, 6, &[(None, a), (None, a)])), ["INVALID_REQUEST"]);
    assert_eq!(errors(&delete(&mut cluster, 5, &[(Some("a"), Uuid::ZERO); 2])), ["INVALID_REQUEST"]);
    assert_eq!(cluster.controller.image().topic_count(), 1, "nothing of this deleted it");
    let both = delete(&mut cluster, 6, &[(None, a), (Some("a"), Uuid::ZERO)]);
    assert_eq!(errors(&both), ["NONE", "INVALID_REQUEST"]);
    assert_eq!(cluster.controller.image().topic_count(), 0);
}

#[test]
fn deletion_can_be_disabled() {
    let mut cluster = Cluster::with(&[("delete.topic.enable", "false")]);
    cluster.create("a", 1, &[]);
    assert_eq!(errors(&delete(&mut cluster, 2, &[(Some("a"), Uuid::ZERO)])), ["INVALID_REQUEST"]);
    assert_eq!(errors(&delete(&mut cluster, 3, &[(Some("a"), Uuid::ZERO)])), ["TOPIC_DELETION_DISABLED"]);
    assert_eq!(cluster.controller.image().topic_count(), 1);
}
