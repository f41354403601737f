//! Everyone who is told about alarms, which may change while the server runs.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::hook::{Hook, HookMetrics};
use super::message::AlarmMessage;
use super::target::Target;
use crate::util::clock::Clock;

/// A receiver with the name of its hook in counters and the log.
#[derive(Debug, Clone)]
pub struct NamedTarget {
    pub name: String,
    pub target: Target,
}

#[derive(Debug)]
struct Active {
    named: Arc<NamedTarget>,
    hook: Hook,
    /// Ends its task.
    stop: CancellationToken,
}

/// The hooks with the tasks that send.
#[derive(Debug)]
pub struct Hooks {
    active: Vec<Active>,
    /// Also those that no more alarms go to, for some seconds.
    tasks: JoinSet<()>,
    metrics: HookMetrics,
    clock: Clock,
    stop: CancellationToken,
}

impl Hooks {
    /// None yet. After `stop` what is queued has some seconds to be sent.
    pub fn new(metrics: HookMetrics, clock: Clock, stop: CancellationToken) -> Hooks {
        Hooks {
            active: Vec::new(),
            tasks: JoinSet::new(),
            metrics,
            clock,
            stop,
        }
    }

    /// Alarms go to these from now on. A hook that stays keeps its queue; one that does not has some seconds to send what is
    /// in it, which is then dropped and counted: nobody could reach a dead one any more.
    pub fn replace(&mut self, wanted: &[Arc<NamedTarget>]) {
        while let Some(ended) = self.tasks.try_join_next() {
            report(ended);
        }
        let mut before = std::mem::take(&mut self.active);
        for named in wanted {
            let is_it = |known: &Active| {
                known.named.name == named.name && known.named.target.is_same(&named.target)
            };
            let active = match before.iter().position(is_it) {
                Some(at) => before.swap_remove(at),
                None => self.start(named),
            };
            self.active.push(active);
        }
        for gone in before {
            gone.hook.removed();
            gone.stop.cancel();
        }
    }

    fn start(&mut self, named: &Arc<NamedTarget>) -> Active {
        let (name, target) = (named.name.clone(), named.target.clone());
        let (hook, task) = Hook::new(name, target, self.metrics.clone(), self.clock.clone());
        let stop = self.stop.child_token();
        self.tasks.spawn(task.run(stop.clone()));
        Active {
            named: Arc::clone(named),
            hook,
            stop,
        }
    }

    /// Queues the alarms of a check for everyone. Never waits.
    pub fn queue(&self, messages: &[AlarmMessage]) {
        for active in &self.active {
            active.hook.queue(messages);
        }
    }

    /// Waits until everything is sent or given up.
    pub async fn ended(mut self) {
        self.active.clear();
        while let Some(ended) = self.tasks.join_next().await {
            report(ended);
        }
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a hook for alarms failed, what it had is lost");
    }
}
