//! Naming producers.

use std::collections::BTreeSet;

use super::{Cluster, error};
use chronik_core::controller::{PRODUCER_IDS_PER_BLOCK, ProducerIdBlock};
use chronik_core::wire::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

fn init(cluster: &mut Cluster, block: &mut ProducerIdBlock, request: &InitProducerIdRequest) -> InitProducerIdResponse {
    let decision = cluster.controller.init_producer_id(block, request);
    cluster.commit(decision)
}

#[test]
fn no_two_producers_have_one_id_across_blocks_and_restarts() {
    let mut cluster = Cluster::new();
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        cluster.start();
        let mut block = ProducerIdBlock::default();
        for _ in 0..PRODUCER_IDS_PER_BLOCK + 10 {
            let response = init(&mut cluster, &mut block, &InitProducerIdRequest::default());
            assert_eq!((response.error_code, response.producer_epoch), (0, 0));
            assert!(seen.insert(response.producer_id), "{} is new", response.producer_id);
        }
    }
    assert_eq!(cluster.controller.image().next_producer_id().0, 6 * PRODUCER_IDS_PER_BLOCK);
}

#[test]
fn the_log_is_written_once_a_block() {
    let mut cluster = Cluster::new();
    let mut block = ProducerIdBlock::default();
    let before = cluster.index;
    for _ in 0..PRODUCER_IDS_PER_BLOCK {
        init(&mut cluster, &mut block, &InitProducerIdRequest::default());
    }
    assert_eq!(cluster.index, before + 1);
}

#[test]
fn a_producer_that_asks_for_its_next_epoch_gets_a_new_id() {
    let mut cluster = Cluster::new();
    let mut block = ProducerIdBlock::default();
    let first = init(&mut cluster, &mut block, &InitProducerIdRequest::default());
    let request = InitProducerIdRequest { producer_id: first.producer_id, producer_epoch: 0, ..Default::default() };
    let second = init(&mut cluster, &mut block, &request);
    assert_eq!((second.error_code, second.producer_epoch), (0, 0));
    assert_ne!(second.producer_id, first.producer_id);
}

#[test]
fn half_an_identity_and_transactions_are_refused() {
    let mut cluster = Cluster::new();
    let mut block = ProducerIdBlock::default();
    let mut refused = |request: InitProducerIdRequest| {
        let response = init(&mut cluster, &mut block, &request);
        assert_eq!((response.producer_id, response.producer_epoch), (-1, -1));
        error(response.error_code)
    };
    let with = |producer_id, producer_epoch, transactional_id: Option<&str>| InitProducerIdRequest {
        producer_id,
        producer_epoch,
        transactional_id: transactional_id.map(Into::into),
        ..Default::default()
    };
    assert_eq!(refused(with(5, -1, None)), "INVALID_REQUEST");
    assert_eq!(refused(with(-1, 5, None)), "INVALID_REQUEST");
    assert_eq!(refused(with(-1, -1, Some(""))), "INVALID_REQUEST");
    assert_eq!(refused(with(-1, -1, Some("payments"))), "TRANSACTIONAL_ID_AUTHORIZATION_FAILED");
}
