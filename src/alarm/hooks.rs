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

/// The hooks with the tasks that send.
#[derive(Debug)]
pub struct Hooks {
    active: Vec<(Arc<NamedTarget>, Hook)>,
    /// Also those that no more alarms go to, until they have sent what they had.
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

    /// Alarms go to these from now on. A hook that stays keeps its queue; one that does not sends what it has.
    pub fn replace(&mut self, wanted: &[Arc<NamedTarget>]) {
        while let Some(ended) = self.tasks.try_join_next() {
            report(ended);
        }
        let mut before = std::mem::take(&mut self.active);
        for named in wanted {
            let is_it = |(known, _): &(Arc<NamedTarget>, Hook)| {
                known.name == named.name && known.target.is_same(&named.target)
            };
            let hook = match before.iter().position(is_it) {
                Some(at) => before.swap_remove(at).1,
                None => self.start(named),
            };
            self.active.push((Arc::clone(named), hook));
        }
    }

    fn start(&mut self, named: &NamedTarget) -> Hook {
        let (name, target) = (named.name.clone(), named.target.clone());
        let (hook, task) = Hook::new(name, target, self.metrics.clone(), self.clock.clone());
        self.tasks.spawn(task.run(self.stop.clone()));
        hook
    }

    /// Queues the alarms of a check for everyone. Never waits.
    pub(super) fn queue(&self, messages: &[AlarmMessage]) {
        for (_, hook) in &self.active {
            hook.queue(messages);
        }
    }

    /// Waits until everything is sent or given up.
    pub(super) async fn ended(mut self) {
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
