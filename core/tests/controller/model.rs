//! Any run of requests, also nonsensical ones, leaves an image whose invariants hold and that its snapshot rebuilds,
//! and the topics that a short model says.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Cluster, LISTENER, topic};
use chronik_core::controller::ProducerIdBlock;
use chronik_core::controller::image::{MetadataImage, Snapshot};
use chronik_core::wire::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use chronik_core::wire::create_topics::CreateTopicsRequest;
use chronik_core::wire::delete_topics::DeleteTopicsRequest;
use chronik_core::wire::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use chronik_core::wire::init_producer_id::InitProducerIdRequest;
use chronik_core::wire::metadata::MetadataRequest;

#[derive(Clone, Debug)]
enum Step {
    Start,
    Create(Vec<(&'static str, i32)>),
    Delete(Vec<&'static str>),
    Grow(&'static str, i32),
    Alter(&'static str, &'static str, i8, Option<&'static str>),
    Name,
}

fn step() -> impl Strategy<Value = Step> {
    // Few names, two of which collide and two of which are illegal, so that requests meet what others left.
    let name = || prop::sample::select(vec!["a", "b", "a.b", "a_b", "", ".."]);
    let setting = prop::sample::select(vec!["retention.ms", "cleanup.policy", "log.retention.ms", "no.such"]);
    let value = prop::sample::select(vec![None, Some("1"), Some("delete"), Some("compact"), Some("")]);
    let resource = prop::sample::select(vec!["a", "a.b", "topic:", "1", "2", "broker:"]);
    prop_oneof![
        1 => Just(Step::Start),
        4 => prop::collection::vec((name(), -1..4i32), 1..4).prop_map(Step::Create),
        2 => prop::collection::vec(name(), 1..3).prop_map(Step::Delete),
        2 => (name(), -1..6i32).prop_map(|(name, count)| Step::Grow(name, count)),
        4 => (resource, setting, -1..5i8, value)
            .prop_map(|(resource, setting, operation, value)| Step::Alter(resource, setting, operation, value)),
        1 => Just(Step::Name),
    ]
}

/// The topics by name and how many partitions each has.
type Model = BTreeMap<String, i32>;

fn take(cluster: &mut Cluster, block: &mut ProducerIdBlock, model: &mut Model, step: &Step) {
    match step {
        Step::Start => {
            cluster.start();
            *block = ProducerIdBlock::default();
        }
        Step::Create(topics) => {
            let topics = topics.iter().map(|(name, partitions)| topic(name, *partitions, &[])).collect();
            let request = CreateTopicsRequest { topics, ..Default::default() };
            let decision = cluster.controller.create_topics(&mut cluster.rng, &request);
            for result in cluster.commit(decision).topics.iter().filter(|result| result.error_code == 0) {
                assert_eq!(model.insert(result.name.to_string(), result.num_partitions), None);
            }
        }
        Step::Delete(names) => {
            let topic_names = names.iter().map(|name| (*name).into()).collect();
            let request = DeleteTopicsRequest { topic_names, ..Default::default() };
            let decision = cluster.controller.delete_topics(5, &request);
            for result in cluster.commit(decision).responses.iter().filter(|result| result.error_code == 0) {
                assert!(model.remove(result.name.as_deref().unwrap_or_default()).is_some());
            }
        }
        Step::Grow(name, count) => {
            let topic = CreatePartitionsTopic { name: (*name).into(), count: *count, assignments: None };
            let request = CreatePartitionsRequest { topics: vec![topic], ..Default::default() };
            let decision = cluster.controller.create_partitions(&request);
            if cluster.commit(decision).results[0].error_code == 0 {
                assert!(model.insert((*name).to_owned(), *count).is_some_and(|before| before < *count));
            }
        }
        Step::Alter(resource, setting, operation, value) => {
            let (resource_type, resource_name) = match *resource {
                "topic:" => (2, ""),
                "broker:" => (4, ""),
                number @ ("1" | "2") => (4, number),
                name => (2, name),
            };
            let config =
                AlterableConfig { name: (*setting).into(), config_operation: *operation, value: value.map(Into::into) };
            let resource =
                AlterConfigsResource { resource_type, resource_name: resource_name.into(), configs: vec![config] };
            let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
            let decision = cluster.controller.incremental_alter_configs(&request);
            cluster.commit(decision);
        }
        Step::Name => {
            let decision = cluster.controller.init_producer_id(block, &InitProducerIdRequest::default());
            cluster.commit(decision);
        }
    }
}

proptest! {
    #[test]
    fn any_run_of_requests_keeps_the_image_sound(steps in prop::collection::vec(step(), 1..40)) {
        let mut cluster = Cluster::new();
        let mut block = ProducerIdBlock::default();
        let mut model = Model::new();
        for step in &steps {
            take(&mut cluster, &mut block, &mut model, step);
            let all = MetadataRequest { topics: None, ..Default::default() };
            let described = cluster.controller.metadata(LISTENER, 12, &all).response;
            let told: Model = described.topics.iter().map(|topic| {
                let name = topic.name.as_deref().unwrap_or_default().to_owned();
                (name, i32::try_from(topic.partitions.len()).expect("few"))
            }).collect();
            prop_assert_eq!(&told, &model);
        }
        let image = cluster.controller.image();
        let again = MetadataImage::decode_snapshot(image.index(), &image.encode_snapshot());
        prop_assert_eq!(again.as_ref(), Ok(image));
    }

    #[test]
    fn a_snapshot_in_parts_is_of_the_moment_when_it_began(
        before in prop::collection::vec(step(), 1..30),
        meanwhile in prop::collection::vec((step(), 0..4usize), 1..20),
    ) {
        let mut cluster = Cluster::new();
        let mut block = ProducerIdBlock::default();
        let mut model = Model::new();
        for step in &before {
            take(&mut cluster, &mut block, &mut model, step);
        }
        let image = cluster.controller.image().clone();
        cluster.snapshot = Some(Snapshot::begin(&image));
        let mut bytes = Vec::new();
        for (step, records) in meanwhile.into_iter().chain(std::iter::repeat((Step::Name, 1))) {
            take(&mut cluster, &mut block, &mut model, &step);
            let snapshot = cluster.snapshot.as_mut().expect("it was begun");
            let (part, more) = snapshot.next_part(cluster.controller.image(), records);
            bytes.extend(part);
            if !more {
                break;
            }
        }
        prop_assert_eq!(MetadataImage::decode_snapshot(image.index(), &bytes), Ok(image));
    }
}
