//! Settings of topics and brokers: DescribeConfigs 1-4 (KIP-226, KIP-569), AlterConfigs 0-2, and
//! IncrementalAlterConfigs 0-1 (KIP-339).
//!
//! Every resource of a request succeeds or fails by itself. Broker settings can be changed on the broker that they
//! belong to, or for all at once under the empty name, if they are dynamic. Log levels, client metrics and groups have
//! settings in Kafka; here they have none yet.

use std::collections::BTreeSet;

use super::figures::{MIN_INSYNC_REPLICAS, forget_eligible};
use super::records::{MetadataRecord, Resource};
use super::{Controller, Decision, Draft, Refused, name};
use crate::config::{
    BrokerConfig, BrokerKey, ConfigError, Effect, Kind, Layer, Setting, Source, TOPIC_KEYS, TopicKey, Update,
    broker_key, broker_keys, excerpt, parts, topic_key,
};
use crate::ids::NodeId;
use crate::wire::alter_configs::{AlterConfigsRequest, AlterConfigsResponse};
use crate::wire::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use crate::wire::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use crate::wire::{ErrorCode, Str, alter_configs, incremental_alter_configs};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

impl Controller {
    /// Changes single settings of resources.
    pub fn incremental_alter_configs(
        &self,
        request: &IncrementalAlterConfigsRequest,
    ) -> Decision<IncrementalAlterConfigsResponse> {
        let repeated = repeated(request.resources.iter().map(|r| (r.resource_type, r.resource_name.as_str())));
        let mut draft = Draft::new(self);
        let responses = request
            .resources
            .iter()
            .map(|resource| {
                let altered = self.alter_incrementally(&mut draft, resource, &repeated);
                let (error_code, error_message) = Refused::fields(altered);
                incremental_alter_configs::AlterConfigsResourceResponse {
                    error_code,
                    error_message,
                    resource_type: resource.resource_type,
                    resource_name: resource.resource_name.clone(),
                }
            })
            .collect();
        draft.decide(request.validate_only, IncrementalAlterConfigsResponse { throttle_time_ms: 0, responses })
    }

    fn alter_incrementally(
        &self,
        draft: &mut Draft<'_>,
        resource: &AlterConfigsResource,
        repeated: &Repeated<'_>,
    ) -> Result<(), Refused> {
        check_resource(resource.resource_type, &resource.resource_name, repeated)?;
        check_names(resource.configs.iter().map(|config| &config.name))?;
        check_values(
            resource
                .configs
                .iter()
                .filter(|config| config.config_operation != DELETE && config.value.is_none())
                .map(|config| &config.name),
        )?;
        let (of, before) = self.resource(resource.resource_type, &resource.resource_name)?;
        let mut after = before.clone();
        for config in &resource.configs {
            apply(&of, &mut after, config)?;
        }
        let named = resource.configs.iter().map(|config| config.name.as_str());
        self.change(draft, of, before, after, named)
    }

    /// Replaces all settings of resources.
    pub fn alter_configs(&self, request: &AlterConfigsRequest) -> Decision<AlterConfigsResponse> {
        let repeated = repeated(request.resources.iter().map(|r| (r.resource_type, r.resource_name.as_str())));
        let mut draft = Draft::new(self);
        let responses = request
            .resources
            .iter()
            .map(|resource| {
                let (error_code, error_message) = Refused::fields(self.replace(&mut draft, resource, &repeated));
                alter_configs::AlterConfigsResourceResponse {
                    error_code,
                    error_message,
                    resource_type: resource.resource_type,
                    resource_name: resource.resource_name.clone(),
                }
            })
            .collect();
        draft.decide(request.validate_only, AlterConfigsResponse { throttle_time_ms: 0, responses })
    }

    fn replace(
        &self,
        draft: &mut Draft<'_>,
        resource: &alter_configs::AlterConfigsResource,
        repeated: &Repeated<'_>,
    ) -> Result<(), Refused> {
        check_resource(resource.resource_type, &resource.resource_name, repeated)?;
        check_names(resource.configs.iter().map(|config| &config.name))?;
        check_values(resource.configs.iter().filter(|config| config.value.is_none()).map(|config| &config.name))?;
        let (of, before) = self.resource(resource.resource_type, &resource.resource_name)?;
        let pairs = resource.configs.iter();
        let after: Layer = pairs
            .filter_map(|config| Some((config.name.to_string(), config.value.as_ref()?.trim().to_owned())))
            .collect();
        let named = resource.configs.iter().map(|config| config.name.as_str());
        self.change(draft, of, before, after, named)
    }

    /// The resource that a request names, and the settings that it has of its own.
    fn resource(&self, resource_type: i8, resource_name: &str) -> Result<(Resource, &Layer), Refused> {
        match resource_type {
            TOPIC => {
                let topic = self.existing(resource_name)?;
                Ok((Resource::Topic(topic.id), &topic.settings))
            }
            BROKER if resource_name.is_empty() => Ok((Resource::Cluster, self.image.cluster_settings())),
            BROKER => {
                let node_id = self.known_broker(resource_name)?;
                Ok((Resource::Broker(node_id), self.image.broker_settings(node_id)))
            }
            other => Err(unserved(other)),
        }
    }

    /// The broker called `name`: this one, or another one that is registered.
    fn known_broker(&self, name: &str) -> Result<NodeId, Refused> {
        match name.parse().map(NodeId) {
            Ok(id) if id == self.node_id || self.image.broker(id).is_some() => Ok(id),
            Ok(id) => Err(self.another_broker(id)),
            Err(_) => {
                let message = format!("A broker's id must be an integer, but it is: {}.", excerpt(name));
                Err(Refused::new(ErrorCode::InvalidRequest, message))
            }
        }
    }

    fn another_broker(&self, id: NodeId) -> Refused {
        let message = format!("Unexpected broker id, expected {}, but received {id}.", self.node_id);
        Refused::new(ErrorCode::InvalidRequest, message)
    }

    /// Checks that `of` may have the settings `after`, and adds the records that make it have them. `named` are the
    /// settings that the request names: only these need to be changeable.
    fn change<'n>(
        &self,
        draft: &mut Draft<'_>,
        of: Resource,
        before: &Layer,
        after: Layer,
        mut named: impl Iterator<Item = &'n str>,
    ) -> Result<(), Refused> {
        let invalid = |error: ConfigError| Refused::new(ErrorCode::InvalidConfig, error.to_string());
        match of {
            Resource::Topic(_) => self.config.check_topic(&after).map_err(invalid)?,
            Resource::Cluster | Resource::Broker(_) => {
                // What is there stays: an earlier version may have taken a value that this one refuses.
                let changed = after.iter().filter(|(name, value)| before.get(*name) != Some(value));
                BrokerConfig::check_dynamic(changed).map_err(invalid)?;
                named.try_for_each(|name| check_dynamic(&of, name))?;
            }
        }
        let record = |name: &str, value: Option<&String>| MetadataRecord::Config {
            of: of.clone(),
            name: name.into(),
            value: value.map(|value| value.as_str().into()),
        };
        let set = after.iter().filter(|(name, value)| before.get(*name) != Some(value));
        let unset = before.keys().filter(|name| !after.contains_key(*name));
        let set = set.map(|(name, value)| record(name, Some(value)));
        let forget =
            forget_eligible(&of, before, &after).filter(|_| !self.image.partition_index().with_eligible.is_empty());
        draft.add(set.chain(unset.map(|name| record(name, None))).chain(forget).collect())
    }

    /// Describes settings.
    pub fn describe_configs(&self, request: &DescribeConfigsRequest) -> DescribeConfigsResponse {
        let results = request.resources.iter().map(|resource| self.describe_resource(request, resource));
        DescribeConfigsResponse { throttle_time_ms: 0, results: results.collect() }
    }

    /// Describes one of the resources that `request` names: the whole answer takes about 10 µs for each.
    pub fn describe_resource(
        &self,
        request: &DescribeConfigsRequest,
        resource: &DescribeConfigsResource,
    ) -> DescribeConfigsResult {
        let result = DescribeConfigsResult {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            ..DescribeConfigsResult::default()
        };
        // Old clients send an empty list where they mean all.
        let keys = resource.configuration_keys.as_deref().filter(|keys| !keys.is_empty());
        let keys: Option<BTreeSet<&str>> = keys.map(|keys| keys.iter().map(Str::as_str).collect());
        match self.settings(resource) {
            Ok(settings) => DescribeConfigsResult {
                configs: settings
                    .into_iter()
                    .filter(|setting| keys.as_ref().is_none_or(|keys| keys.contains(setting.key.name)))
                    .map(|setting| described_setting(setting, request))
                    .collect(),
                ..result
            },
            Err(refused) => DescribeConfigsResult {
                error_code: refused.error.code(),
                error_message: Some(refused.message.into()),
                ..result
            },
        }
    }

    /// One setting of a topic as it stands, which was created with so many replicas.
    pub(super) fn topic_setting(&self, known: &'static TopicKey, own: &Layer, replication_factor: usize) -> Setting {
        let setting = self.config.topic_setting(known, own);
        if known.key.name != MIN_INSYNC_REPLICAS {
            return setting;
        }
        let by_default = self.config.election_rules(own).least(replication_factor);
        setting.with_default(by_default.to_string())
    }

    fn broker_setting(&self, known: &'static BrokerKey) -> Setting {
        let setting = self.config.setting(known);
        match known.key.name {
            "default.replication.factor" => setting.with_default(self.default_replication_factor().to_string()),
            _ => setting,
        }
    }

    fn settings(&self, resource: &DescribeConfigsResource) -> Result<Vec<Setting>, Refused> {
        let (of, own) = self.resource(resource.resource_type, &resource.resource_name)?;
        let topic = self.image.topic_named(&resource.resource_name);
        let replication_factor = topic.map_or(1, |topic| topic.replication_factor);
        Ok(match of {
            Resource::Topic(_) => TOPIC_KEYS
                .iter()
                .filter(|known| !known.internal || own.contains_key(known.key.name))
                .map(|known| self.topic_setting(known, own, replication_factor))
                .collect(),
            // Another one has a file of its own, which only that one knows.
            Resource::Broker(id) if id != self.node_id => return Err(self.another_broker(id)),
            Resource::Broker(_) => broker_keys().map(|known| self.broker_setting(known)).collect(),
            Resource::Cluster => self.config.cluster_settings().collect(),
        })
    }
}

/// Applies one change to `settings`.
fn apply(of: &Resource, settings: &mut Layer, config: &AlterableConfig) -> Result<(), Refused> {
    let name = config.name.as_str();
    let value = config.value.as_deref().unwrap_or_default().trim();
    match config.config_operation {
        SET => _ = settings.insert(name.to_owned(), value.to_owned()),
        DELETE => _ = settings.remove(name),
        APPEND | SUBTRACT => {
            let key = match of {
                Resource::Topic(_) => topic_key(name).map(|known| &known.key),
                Resource::Cluster | Resource::Broker(_) => broker_key(name).map(|known| &known.key),
            };
            // An unknown name is found out later, together with all other settings.
            let Some(key) = key else {
                settings.insert(name.to_owned(), value.to_owned());
                return Ok(());
            };
            let is_append = config.config_operation == APPEND;
            if key.kind != Kind::List {
                let operation = if is_append { "APPEND" } else { "SUBTRACT" };
                let message = format!("Can't {operation} to key {name} because its type is not LIST.");
                return Err(Refused::new(ErrorCode::InvalidConfig, message));
            }
            let current = settings.get(name).map_or(key.default.unwrap_or_default(), String::as_str);
            let mut list: Vec<&str> = parts(current).collect();
            // Sets, since both lists can be as long as a request.
            if is_append {
                let mut there: BTreeSet<&str> = list.iter().copied().collect();
                list.extend(parts(value).filter(|part| there.insert(part)));
            } else {
                let gone: BTreeSet<&str> = parts(value).collect();
                list.retain(|part| !gone.contains(part));
            }
            let list = list.join(",");
            settings.insert(name.to_owned(), list);
        }
        other => return Err(Refused::new(ErrorCode::InvalidRequest, format!("Unknown operation type {other}."))),
    }
    Ok(())
}

/// What one request names more than once.
type Repeated<'a> = BTreeSet<(i8, &'a str)>;

fn repeated<'a>(resources: impl Iterator<Item = (i8, &'a str)>) -> Repeated<'a> {
    let mut seen = BTreeSet::new();
    resources.filter(|resource| !seen.insert(*resource)).collect()
}

/// Checks that a request may name this resource, and named it once.
fn check_resource(resource_type: i8, resource_name: &str, repeated: &Repeated<'_>) -> Result<(), Refused> {
    let refuse = |message: &str| Err(Refused::new(ErrorCode::InvalidRequest, message));
    match resource_type {
        _ if repeated.contains(&(resource_type, resource_name)) => refuse("Each resource must appear at most once."),
        TOPIC if resource_name.is_empty() => refuse("Default topic resources are not allowed."),
        TOPIC => name::check(resource_name),
        _ => Ok(()),
    }
}

fn check_names<'a>(names: impl Iterator<Item = &'a Str>) -> Result<(), Refused> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            let message = format!("The config key {} is given twice.", excerpt(name));
            return Err(Refused::new(ErrorCode::InvalidRequest, message));
        }
    }
    Ok(())
}

/// Checks that no name is left without a value: `nulls` are those that are.
fn check_values<'a>(mut nulls: impl Iterator<Item = &'a Str>) -> Result<(), Refused> {
    match nulls.next() {
        None => Ok(()),
        Some(name) => {
            let message = format!("Null value not supported for {}.", excerpt(name));
            Err(Refused::new(ErrorCode::InvalidRequest, message))
        }
    }
}

/// Checks that a client may change the broker setting `name` of `of` (KIP-226).
fn check_dynamic(of: &Resource, name: &str) -> Result<(), Refused> {
    let message = match broker_key(name).map(|known| known.update) {
        Some(Update::ReadOnly) => {
            format!("Cannot update {name} dynamically: set it in the configuration file and start the broker again.")
        }
        Some(Update::PerBroker) if *of == Resource::Cluster => {
            format!("Cannot update {name} at default cluster level: name a broker.")
        }
        Some(Update::ForAll) if matches!(of, Resource::Broker(_)) => {
            format!(
                "Cannot update {name} for one broker: all of them must go by one value. Name none (--entity-default)."
            )
        }
        _ => return Ok(()),
    };
    Err(Refused::new(ErrorCode::InvalidRequest, message))
}

fn unserved(resource_type: i8) -> Refused {
    let message = match resource_type {
        BROKER_LOGGER => "Log levels are set by --log-level, not by clients.".to_owned(),
        CLIENT_METRICS => "Client metrics are not served.".to_owned(),
        GROUP => "Groups have no configs yet.".to_owned(),
        other => format!("Unknown resource type {other}."),
    };
    Refused::new(ErrorCode::InvalidRequest, message)
}

fn described_setting(setting: Setting, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let key = setting.key;
    let synonyms = setting.synonyms.into_iter().filter(|_| request.include_synonyms);
    let documentation = || match key.effect {
        Effect::Obeyed => key.doc.to_owned(),
        Effect::Without(why) if key.doc.is_empty() => format!("Without effect: {why}."),
        Effect::Without(why) => format!("{} Without effect: {why}.", key.doc),
    };
    DescribeConfigsResourceResult {
        name: Str::from_static(key.name),
        value: setting.value.map(Str::from),
        read_only: setting.is_read_only,
        config_source: setting.source.id(),
        is_sensitive: key.is_sensitive(),
        synonyms: synonyms
            .map(|(name, value, source): (&'static str, Option<String>, Source)| DescribeConfigsSynonym {
                name: Str::from_static(name),
                value: value.map(Str::from),
                source: source.id(),
            })
            .collect(),
        config_type: key.kind.id(),
        documentation: request.include_documentation.then(|| documentation().into()),
    }
}
