//! Deleting topics: DeleteTopics 1-6 (KIP-4), by name, and by id from version 6 (KIP-516).

use std::collections::{BTreeMap, BTreeSet};

use super::records::MetadataRecord;
use super::{Controller, Decision, Refused};
use crate::ids::{TopicId, Uuid};
use crate::wire::delete_topics::{DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse};
use crate::wire::{ErrorCode, Str};

impl Controller {
    /// Deletes topics. Each succeeds or fails by itself.
    pub fn delete_topics(&self, version: i16, request: &DeleteTopicsRequest) -> Decision<DeleteTopicsResponse> {
        // The older versions have names only, version 6 names or ids: one list serves both.
        let named = request.topic_names.iter().map(|name| (Some(name), Uuid::ZERO));
        let asked: Vec<(Option<&Str>, TopicId)> =
            named.chain(request.topics.iter().map(|topic| (topic.name.as_ref(), topic.topic_id))).collect();
        let mut counts: BTreeMap<(Option<&Str>, TopicId), usize> = BTreeMap::new();
        for one in &asked {
            *counts.entry(*one).or_default() += 1;
        }
        let mut deleted = BTreeSet::new();
        let mut responses = Vec::new();
        for one in &asked {
            // What is asked for twice is answered once, and refused.
            let Some(count) = counts.remove(one) else { continue };
            let (name, id) = *one;
            let found = match self.config.delete_topic_enable {
                true => self.deletable(name, id, count > 1),
                false => Err(deletion_disabled(version)),
            };
            let found = found.and_then(|(id, name)| match deleted.insert(id) {
                true => Ok((id, name)),
                false => {
                    Err(Refused::new(ErrorCode::InvalidRequest, "The topic is named by its name and its id both."))
                }
            });
            responses.push(match found {
                Ok((topic_id, name)) => DeletableTopicResult { name: Some(name), topic_id, ..Default::default() },
                Err(refused) => DeletableTopicResult {
                    name: name.cloned(),
                    topic_id: id,
                    error_code: refused.error.code(),
                    error_message: Some(refused.message.into()),
                },
            });
        }
        let records = deleted.into_iter().map(|id| MetadataRecord::RemoveTopic { id }).collect();
        Decision { records, response: DeleteTopicsResponse { throttle_time_ms: 0, responses } }
    }

    fn deletable(&self, name: Option<&Str>, id: TopicId, is_duplicate: bool) -> Result<(TopicId, Str), Refused> {
        let invalid = |message: &str| Err(Refused::new(ErrorCode::InvalidRequest, message));
        match (name, id) {
            (None, Uuid::ZERO) => invalid("Neither topic name nor id were specified."),
            (Some(_), id) if id != Uuid::ZERO => invalid("You may not specify both topic name and topic id."),
            (Some(_), _) if is_duplicate => invalid("Duplicate topic name."),
            (None, _) if is_duplicate => invalid("Duplicate topic id."),
            (Some(name), _) => self.existing(name).map(|topic| (topic.id, topic.name.clone())),
            (None, id) => self
                .image
                .topic(id)
                .map(|topic| (id, topic.name.clone()))
                .ok_or_else(|| Refused::new(ErrorCode::UnknownTopicId, format!("There is no topic of id {id}."))),
        }
    }
}

/// That deletion is switched off. Clients before version 3 do not know the code made for it.
fn deletion_disabled(version: i16) -> Refused {
    let error = if version < 3 { ErrorCode::InvalidRequest } else { ErrorCode::TopicDeletionDisabled };
    Refused::new(error, "Topic deletion is disabled by delete.topic.enable=false.")
}
