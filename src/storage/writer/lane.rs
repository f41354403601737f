//! The way into a lane: whether it has room, and what becomes of rows that find none.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus::Histogram;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::put_off::PutOff;
use super::{Order, Until, WriterMetrics, locked};
use crate::model::row::{Cell, Row, RowKey};
use crate::telemetry::ledger::End;
use crate::telemetry::{Stay, Throttle};

/// Room kept so that those who saw it at the same time can all use it.
const SPARE_ORDERS: usize = 256;
/// How long a full lane of a working store may hold up who must not be held up for long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks for room.
const STEP: Duration = Duration::from_millis(20);

/// The way into one lane. Cheap to clone.
#[derive(Clone)]
pub struct Lane {
    pub(super) name: &'static str,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) queued: Arc<AtomicUsize>,
    /// Told whenever rows have left the lane.
    pub(super) drained: Arc<Notify>,
    pub(super) is_away: Arc<AtomicBool>,
    pub(super) put_off: Arc<Mutex<PutOff>>,
    pub(super) max_bytes: usize,
    pub(super) metrics: WriterMetrics,
    pub(super) shed_log: Arc<Throttle>,
    pub(super) wait: Option<Histogram>,
    pub(super) stay: Option<Histogram>,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Lane {
    /// Whether the lane is below its bounds.
    pub fn has_room(&self) -> bool {
        self.queued.load(Ordering::Relaxed) < self.max_bytes
            && self.orders.capacity() > SPARE_ORDERS
    }

    /// Waits until the lane is below its bounds.
    pub async fn room(&self) {
        let began = Instant::now();
        loop {
            let drained = self.drained.notified();
            if self.has_room() {
                return self.waited(began);
            }
            drained.await;
        }
    }

    /// Queues rows whatever the bound: for whoever asks [`Lane::has_room`] first.
    pub async fn write(&self, rows: Vec<Row>) {
        if rows.is_empty() {
            return;
        }
        let bytes = rows.iter().map(row_bytes).sum();
        self.queued.fetch_add(bytes, Ordering::Relaxed);
        let gauge = self.metrics.queued.with_label_values(&[self.name]);
        gauge.set(self.queued.load(Ordering::Relaxed) as i64);
        let stay = Stay::begin(self.stay.as_ref());
        let order = self.orders.send(Order::Write(rows, bytes, stay)).await;
        if let Err(SendError(Order::Write(rows, ..))) = order {
            for row in &rows {
                self.metrics.end(&row.model, 1, End::Dropped("writer_gone"));
            }
            tracing::error!(lane = self.name, "writer is gone, rows are lost");
        }
    }

    /// Queues rows when there is room, which holds up whoever brings them as long as the store works. If it is away and there
    /// is no room, rows are shed and counted.
    pub async fn write_when_room(&self, rows: Vec<Row>) {
        self.offer(rows, None).await;
    }

    /// Like [`Lane::write_when_room`], for who must not be held up for more than some seconds.
    pub async fn write_or_shed(&self, rows: Vec<Row>) {
        self.offer(rows, Some(PATIENCE)).await;
    }

    async fn offer(&self, rows: Vec<Row>, patience: Option<Duration>) {
        let began = Instant::now();
        let mut waited = Duration::ZERO;
        while !self.has_room() {
            if self.is_away.load(Ordering::Relaxed) {
                return self.shed(&rows, "store_away");
            }
            if patience.is_some_and(|patience| waited >= patience) {
                return self.shed(&rows, "lane_full");
            }
            tokio::time::sleep(STEP).await;
            waited += STEP;
        }
        self.waited(began);
        self.write(rows).await;
    }

    fn shed(&self, rows: &[Row], reason: &str) {
        for row in rows {
            let shed = &self.metrics.shed;
            shed.with_label_values(&[&row.model.name, reason]).inc();
            self.metrics.end(&row.model, 1, End::Dropped(reason));
        }
        if let Some(held_back) = self.shed_log.admit() {
            tracing::warn!(
                lane = self.name,
                rows = rows.len(),
                reason,
                held_back,
                "rows given up, the store does not keep up and the memory budget (-Xmx) has no more room for them"
            );
        }
    }

    /// The newest version of a row, if it waits because the store does not take it.
    pub fn held(&self, key: &RowKey) -> Option<Row> {
        let put_off = locked(&self.put_off);
        (!put_off.is_empty()).then(|| put_off.find(key)).flatten()
    }

    /// Measures how long those who fill the lane wait for room, and rows until the lane writes them, the first of each batch
    /// until it has.
    pub fn measuring(self, wait: Histogram, stay: Histogram) -> Lane {
        Lane {
            wait: Some(wait),
            stay: Some(stay),
            ..self
        }
    }

    /// Bytes of the rows in it, read when asked; this does not keep the lane open.
    pub fn depth(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let queued = Arc::clone(&self.queued);
        move || queued.load(Ordering::Relaxed) as u64
    }

    fn waited(&self, began: Instant) {
        if let Some(wait) = &self.wait {
            wait.observe(began.elapsed().as_secs_f64());
        }
    }

    /// Answers when everything queued before is stored.
    pub async fn notify(&self, done: oneshot::Sender<()>) {
        self.order(Order::Notify(done, Until::Stored)).await;
    }

    /// Answers when everything queued before is stored or given up, or waits where [`Lane::held`] finds it.
    pub async fn notify_settled(&self, done: oneshot::Sender<()>) {
        self.order(Order::Notify(done, Until::Settled)).await;
    }

    async fn order(&self, order: Order) {
        if self.orders.send(order).await.is_err() {
            tracing::error!(lane = self.name, "writer is gone");
        }
    }

    /// Waits until everything queued before is stored.
    pub async fn drained(&self) {
        let (done, is_done) = oneshot::channel();
        self.notify(done).await;
        if is_done.await.is_err() {
            tracing::error!(lane = self.name, "writer is gone");
        }
    }
}

/// Bytes of memory of a row, about.
pub(super) fn row_bytes(row: &Row) -> usize {
    let cells: usize = row
        .cells
        .iter()
        .map(|cell| match cell {
            Cell::Text(text) => text.len(),
            Cell::Bytes(bytes) => bytes.len(),
            _ => 0,
        })
        .sum();
    size_of::<Row>() + row.id.len() + size_of_val(row.cells.as_slice()) + cells
}
