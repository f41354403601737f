//! The door for other nodes on the core gRPC port: everything goes to the relay, one after the other.

use std::hash::{BuildHasher, Hasher, RandomState};

use oap_proto::cluster as proto;
use proto::exchange_server::{Exchange, ExchangeServer};
use proto::remote::remote_service_server::RemoteServiceServer;
use tokio::sync::{mpsc, oneshot};
use tonic::service::interceptor::InterceptedService;
use tonic::service::{Interceptor, Routes};
use tonic::{Request, Response, Status};

use super::peer::MAX_MESSAGE_BYTES;
use super::relay::{Dependencies, Order, Relay, RelayOptions};
use super::remote::{self, Remote};
use crate::telemetry::Throttle;

/// Orders that may wait for the relay.
const ORDERS: usize = 64;

/// The relay and the services that other nodes call. `check` is what calls of members must pass; nodes of the original send no
/// token, so that theirs have none to pass; `log` is for rows of theirs that are refused.
pub fn connect<C>(
    deps: Dependencies,
    options: RelayOptions,
    check: C,
    log: Throttle,
) -> (Relay, Routes)
where
    C: Interceptor + Clone + Send + Sync + 'static,
{
    let (sender, orders) = mpsc::channel(ORDERS);
    let epoch = new_epoch();
    let remote = Remote {
        orders: sender.clone(),
        plan: deps.plan.clone(),
        metrics: deps.metrics.clone(),
        log,
    };
    let door = ExchangeServer::new(Door(sender)).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let routes = Routes::default()
        .add_service(InterceptedService::new(door, check))
        .add_service(
            RemoteServiceServer::new(remote).max_decoding_message_size(remote::MAX_MESSAGE_BYTES),
        );
    (Relay::new(deps, options, orders, epoch), routes)
}

/// A number for a process; 0 stands for none.
pub(super) fn new_epoch() -> u64 {
    let mut random = RandomState::new().build_hasher();
    random.write_u8(0);
    random.finish().max(1)
}

#[derive(Debug)]
struct Door(mpsc::Sender<Order>);

#[tonic::async_trait]
impl Exchange for Door {
    async fn sync(
        &self,
        status: Request<proto::Status>,
    ) -> Result<Response<proto::Answer>, Status> {
        let (answer, answered) = oneshot::channel();
        let order = Order::Sync(status.into_inner(), answer);
        ask(&self.0, order, answered).await
    }

    async fn push(&self, batch: Request<proto::Batch>) -> Result<Response<proto::Taken>, Status> {
        let (answer, answered) = oneshot::channel();
        let order = Order::Push(batch.into_inner(), answer);
        ask(&self.0, order, answered).await
    }
}

/// Hands an order over and waits for what comes of it.
async fn ask<T>(
    orders: &mpsc::Sender<Order>,
    order: Order,
    answered: oneshot::Receiver<T>,
) -> Result<Response<T>, Status> {
    let gone = |_| Status::unavailable("the server is shutting down");
    orders.send(order).await.map_err(gone)?;
    let busy = |_| Status::unavailable("the server has no room now, or is shutting down");
    answered.await.map(Response::new).map_err(busy)
}
