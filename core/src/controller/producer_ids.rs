//! Who writes: InitProducerId 0-5 (KIP-98, KIP-360) for idempotent producers.
//!
//! Ids come from the log in blocks and are handed out from memory. What a broker forgets of its block when it stops is
//! lost, never reused: the log says where the next block begins, and that no process has two of one id is all that
//! matters (KAFKA-15552). There are 2^63 of them.

use super::records::MetadataRecord;
use super::{Controller, Decision};
use crate::ids::ProducerId;
use crate::wire::ErrorCode;
use crate::wire::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

/// How many ids one record of the log grants.
pub const PRODUCER_IDS_PER_BLOCK: i64 = 1000;

/// The producer ids that this process may hand out; a new process begins with none.
#[derive(Clone, Debug, Default)]
pub struct ProducerIdBlock {
    next: i64,
    end: i64,
}

impl Controller {
    /// Names a producer. Takes the id from `block`, or refills it: then the decision has a record, and every id of the
    /// block may be answered only when that record has committed.
    pub fn init_producer_id(
        &self,
        block: &mut ProducerIdBlock,
        request: &InitProducerIdRequest,
    ) -> Decision<InitProducerIdResponse> {
        if let Err(error) = check(request) {
            let refused = InitProducerIdResponse { error_code: error.code(), producer_epoch: -1, ..Default::default() };
            return Decision { records: Vec::new(), response: refused };
        }
        let mut records = Vec::new();
        if block.next == block.end {
            let ProducerId(first) = self.image.next_producer_id();
            *block = ProducerIdBlock { next: first, end: first + PRODUCER_IDS_PER_BLOCK };
            records.push(MetadataRecord::ProducerIds {
                node_id: self.node_id,
                broker_epoch: self.image.broker(self.node_id).map_or(-1, |broker| broker.broker_epoch),
                next: ProducerId(block.end),
            });
        }
        let producer_id = block.next;
        block.next += 1;
        // Without a transactional id nothing outlives the producer, so that one that asks for the next epoch of its id
        // (KIP-360) is served by a new id at epoch 0.
        Decision { records, response: InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() } }
    }
}

fn check(request: &InitProducerIdRequest) -> Result<(), ErrorCode> {
    match &request.transactional_id {
        Some(id) if id.is_empty() => return Err(ErrorCode::InvalidRequest),
        // Transactions are not served yet. This code is one that the Java client and librdkafka both take as fatal for
        // a transactional producer; at one that they retry, an application would hang instead of failing.
        Some(_) => return Err(ErrorCode::TransactionalIdAuthorizationFailed),
        None => {}
    }
    match (request.producer_id, request.producer_epoch) {
        (-1, -1) => Ok(()),
        (-1, _) | (_, -1) => Err(ErrorCode::InvalidRequest),
        _ => Ok(()),
    }
}
