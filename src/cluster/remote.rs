//! Rows that nodes of the original send during a rolling update (8.1.0 spec, G.1): taken in as increments.
//!
//! The original sends each increment once, to the node that it takes for the owner, and does not resend; so this merges what
//! comes and answers when it has it.

use std::collections::HashMap;
use std::sync::Arc;

use oap_proto::cluster::remote as proto;
use prost::Message as _;
use proto::remote_service_server::RemoteService;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt;
use tonic::{Request, Response, Status, Streaming};

use super::codec::{from_columns, node_type};
use super::metrics::ClusterMetrics;
use super::relay::Order;
use crate::model::entity::{Entity, EntityField};
use crate::model::fact::{AddressAlias, Fact};
use crate::model::id;
use crate::model::metrics::Value;
use crate::model::row::Cell;
use crate::model::schema::ColumnType;
use crate::model::scope::{NodeType, Scope};
use crate::stream::{Increment, Plan, Portion};
use crate::telemetry::Throttle;
use crate::util::text::{SHOWN_BYTES, head};

/// What the original appends to the name of a stream.
const RECEIVER: &str = "_rec";
const INSTANCES: &str = "instance_traffic";
/// Where rows of instances have what is said about them.
const PROPERTIES: usize = 2;
/// Rows handed on at once.
const LOT: usize = 1000;
/// Bytes of messages after which they are handed on, however few rows they are.
const LOT_BYTES: usize = 2 << 20;
/// Of one message, which is one row: some hundred bytes, with a full table some hundred KiB. The original has no bound but
/// `maxMessageSize`.
pub(super) const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// Names and ids of one row together. Relations of endpoints have the longest: below 4 KiB, if all names are as long as the
/// settings that 8.1.0 comes with allow and have three bytes a character.
const MAX_TEXT_BYTES: usize = 8 << 10;
/// Properties of an instance; the column of the original takes 50,000 characters.
const MAX_PROPERTY_BYTES: usize = 64 << 10;
/// Streams whose place in the plan is remembered, and how long their names may be.
const MAX_PLACES: usize = 1000;
const MAX_STREAM_BYTES: usize = 256;

/// The service of the original.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) plan: Arc<Plan>,
    pub(super) metrics: ClusterMetrics,
    pub(super) log: Throttle,
}

impl Remote {
    /// Counts a row that was not taken.
    fn refuse(&self, stream: &str, outcome: Outcome) {
        let reason = match outcome {
            Outcome::Read => return,
            Outcome::Unknown => {
                self.metrics.remote.unknown.inc();
                "java_unknown"
            }
            Outcome::TooLong => {
                if let Some(held_back) = self.log.admit() {
                    tracing::warn!(
                        stream = head(stream, SHOWN_BYTES),
                        held_back,
                        "rows of nodes of the original have names and ids of more than 8 KiB, or properties of more than \
                         64 KiB, and are given up"
                    );
                }
                "java_too_long"
            }
        };
        self.metrics.shed.with_label_values(&[reason]).inc();
    }
}

#[tonic::async_trait]
impl RemoteService for Remote {
    async fn call(
        &self,
        messages: Request<Streaming<proto::RemoteMessage>>,
    ) -> Result<Response<proto::Empty>, Status> {
        let mut messages = messages.into_inner();
        let mut lot = Lot::default();
        let mut places = Places::default();
        loop {
            let next = messages.next().await;
            let is_end = next.is_none();
            let mut outcome = Ok(());
            match next {
                Some(Ok(message)) => {
                    let stream = head(&message.next_worker_name, SHOWN_BYTES).to_owned();
                    let outcome = lot.read(&self.plan, &mut places, message);
                    self.refuse(&stream, outcome);
                }
                Some(Err(status)) => {
                    self.metrics.remote.receive_errors.inc();
                    outcome = Err(status);
                }
                None => {}
            }
            let is_last = is_end || outcome.is_err();
            if lot.is_full() || is_last && !lot.portion.is_empty() {
                let (done, is_done) = oneshot::channel();
                let order = Order::Merge(std::mem::take(&mut lot).portion, done);
                let gone = |()| Status::unavailable("the server is shutting down");
                self.orders.send(order).await.map_err(|_| gone(()))?;
                is_done.await.map_err(|_| gone(()))?;
            }
            outcome?;
            if is_end {
                return Ok(Response::new(proto::Empty {}));
            }
        }
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Read,
    /// This server has no use for it.
    Unknown,
    TooLong,
}

/// Rows that are handed on together.
#[derive(Debug, Default)]
struct Lot {
    portion: Portion,
    bytes: usize,
}

impl Lot {
    fn is_full(&self) -> bool {
        self.portion.len() >= LOT || self.bytes >= LOT_BYTES
    }

    /// Adds what a message says.
    fn read(&mut self, plan: &Plan, places: &mut Places, message: proto::RemoteMessage) -> Outcome {
        let bytes = message.encoded_len();
        let Some(name) = message.next_worker_name.strip_suffix(RECEIVER) else {
            return Outcome::Unknown;
        };
        let Some(data) = message.remote_data else {
            return Outcome::Unknown;
        };
        if name.len() > MAX_STREAM_BYTES {
            return Outcome::Unknown;
        }
        if is_too_long(name, &data) {
            return Outcome::TooLong;
        }
        if let Some(known) = known(name, &data) {
            self.portion.known.extend(known);
            self.bytes += bytes;
            return Outcome::Read;
        }
        let place = places.of(plan, name);
        let Some(increment) = place.and_then(|place| increment(plan, place, data)) else {
            return Outcome::Unknown;
        };
        self.portion.increments.push(increment);
        self.bytes += bytes;
        Outcome::Read
    }
}

fn is_too_long(stream: &str, data: &proto::RemoteData) -> bool {
    let lengths = data.data_strings.iter().map(String::len);
    let properties = match stream {
        INSTANCES => data.data_strings.get(PROPERTIES).map_or(0, String::len),
        _ => 0,
    };
    properties > MAX_PROPERTY_BYTES || lengths.sum::<usize>() - properties > MAX_TEXT_BYTES
}

/// Where the plan has the metrics of a stream.
#[derive(Debug, Default)]
struct Places(HashMap<String, Option<(Scope, usize)>>);

impl Places {
    fn of(&mut self, plan: &Plan, name: &str) -> Option<(Scope, usize)> {
        if let Some(place) = self.0.get(name) {
            return *place;
        }
        let place = find(plan, name);
        if self.0.len() < MAX_PLACES {
            self.0.insert(name.to_owned(), place);
        }
        place
    }
}

fn find(plan: &Plan, name: &str) -> Option<(Scope, usize)> {
    let scopes = Scope::SOURCES.iter().map(|(_, scope)| *scope);
    let meters = [
        Scope::ServiceMeter,
        Scope::ServiceInstanceMeter,
        Scope::EndpointMeter,
    ];
    scopes.chain(meters).find_map(|scope| {
        let mut items = plan.items(scope).iter();
        let at = items.position(|item| item.model.name == name)?;
        Some((scope, at))
    })
}

/// A minute bucket; the original merges hours and days only where they are stored.
fn minute(bucket: i64) -> Option<u64> {
    let is_minute = (100_000_000_000..1_000_000_000_000).contains(&bucket);
    u64::try_from(bucket).ok().filter(|_| is_minute)
}

fn increment(
    plan: &Plan,
    (scope, at): (Scope, usize),
    data: proto::RemoteData,
) -> Option<Increment> {
    let items = plan.items(scope);
    let item = items.get(at)?;
    let mut texts = data.data_strings.into_iter();
    let (mut entity_id, mut fields) = (String::new(), Vec::new());
    for (_, field) in &item.model.entity_columns {
        let text = texts.next()?;
        match field {
            None => entity_id = text,
            Some(field) => fields.push((*field, Arc::from(text))),
        }
    }
    let mut longs = data.data_longs.into_iter();
    let mut ints = data.data_integers.into_iter();
    let mut doubles = data.data_doubles.into_iter();
    let mut objects = data.data_object_strings.into_iter();
    let value = from_columns(item.function, |ty| {
        Some(match ty {
            ColumnType::Long => Cell::Long(longs.next()?),
            ColumnType::Int => Cell::Long(ints.next()?.into()),
            ColumnType::Double => Cell::Double(doubles.next()?),
            _ => Cell::text(objects.next()?),
        })
    })?;
    let minute = minute(longs.next()?)?;
    let mut values: Box<[Option<Value>]> = items.iter().map(|_| None).collect();
    *values.get_mut(at)? = Some(value);
    let ty = node_type_of(&entity_id);
    Some(Increment {
        entity: Arc::new(Entity::new(scope, ty, entity_id, fields)),
        minute,
        values,
        is_seen: false,
    })
}

/// Ids only tell whether a service is a real one.
fn node_type_of(id: &str) -> NodeType {
    let service = id.split('_').next().unwrap_or_default();
    match service.ends_with(".1") {
        true => NodeType::Normal,
        false => NodeType::Unrecognized,
    }
}

/// Services, instances, endpoints and addresses. The outer `None` is for other streams, the inner for a row that makes no
/// sense.
fn known(stream: &str, data: &proto::RemoteData) -> Option<Option<Fact>> {
    let text = |at: usize| data.data_strings.get(at).map(String::as_str);
    let long = |at: usize| data.data_longs.get(at).copied();
    let unsigned = |at: usize| long(at).and_then(|n| u64::try_from(n).ok());
    let member = |scope, id: String| {
        let fields = vec![
            (EntityField::ServiceId, Arc::from(text(0)?)),
            (EntityField::Name, Arc::from(text(1)?)),
        ];
        let ty = node_type_of(text(0)?);
        Some(Arc::new(Entity::new(scope, ty, id, fields)))
    };
    let service = || {
        let name = text(0)?;
        let ty = node_type(u32::try_from(*data.data_integers.first()?).ok()?);
        let id = id::service_id(name, ty.is_normal());
        let fields = vec![(EntityField::Name, Arc::from(name))];
        Some(Fact::Service {
            entity: Arc::new(Entity::new(Scope::Service, ty, id, fields)),
            minute: minute(long(0)?)?,
        })
    };
    let endpoint = || {
        let entity = member(Scope::Endpoint, id::endpoint_id(text(0)?, text(1)?))?;
        let minute = minute(long(0)?)?;
        Some(Fact::Endpoint { entity, minute })
    };
    let instance = || {
        let entity = member(Scope::ServiceInstance, id::instance_id(text(0)?, text(1)?))?;
        let properties = text(PROPERTIES).filter(|text| !text.is_empty());
        Some(Fact::Instance {
            entity,
            minute: minute(long(1)?)?,
            last_ping: unsigned(0)?,
            properties: properties.map(Arc::from),
        })
    };
    let address = || {
        let alias = AddressAlias {
            address: text(0)?.to_owned(),
            service_id: text(1)?.to_owned(),
            instance_id: text(2)?.to_owned(),
            last_update: unsigned(0)?,
        };
        Some(Fact::Address {
            alias: Arc::new(alias),
            minute: minute(long(1)?)?,
        })
    };
    Some(match stream {
        "service_traffic" => service(),
        "endpoint_traffic" => endpoint(),
        INSTANCES => instance(),
        "network_address_alias" => address(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
