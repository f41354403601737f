//! Everyone who is told about alarms, which may change while the server runs.

use std::collections::HashSet;
use std::mem::{discriminant, take};
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::hook::{Hook, HookMetrics};
use super::message::AlarmMessage;
use super::target::Target;
use crate::util::clock::Clock;

/// A receiver with the name that its hook gets in counters and the log, which says where it stands among those of its kind.
#[derive(Debug, Clone)]
pub struct NamedTarget {
    pub name: String,
    pub target: Target,
}

#[derive(Debug)]
struct Active {
    target: Target,
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

    /// Alarms go to these from now on. A hook that stays keeps its queue and its name, wherever it stands now; one that does
    /// not has some seconds to send what is in it, which is then dropped and counted: nobody could reach a dead one any more.
    pub fn replace(&mut self, wanted: &[Arc<NamedTarget>]) {
        while let Some(ended) = self.tasks.try_join_next() {
            report(ended);
        }
        let mut before = take(&mut self.active);
        let mut new = vec![];
        for named in wanted {
            let known = before.iter().position(|k| k.target.is_same(&named.target));
            match known {
                Some(at) => self.active.push(before.remove(at)),
                None => new.push(named),
            }
        }
        for named in new {
            let name = self.free_name(named, wanted);
            self.start(name, named.target.clone());
        }
        for gone in before {
            gone.hook.removed();
            gone.stop.cancel();
        }
    }

    /// The name of a new hook, or if one that was moved has it, another of the same kind: two must not count as one.
    fn free_name(&self, named: &NamedTarget, wanted: &[Arc<NamedTarget>]) -> String {
        let taken: HashSet<&str> = self.active.iter().map(|a| a.hook.name()).collect();
        let kind = discriminant(&named.target);
        let alike = wanted.iter().filter(|w| discriminant(&w.target) == kind);
        let names = std::iter::once(&named.name).chain(alike.map(|w| &w.name));
        // As many names of a kind as hooks of it, so that one is free.
        let mut free = names.filter(|name| !taken.contains(name.as_str()));
        free.next().unwrap_or(&named.name).clone()
    }

    fn start(&mut self, name: String, target: Target) {
        let (metrics, clock) = (self.metrics.clone(), self.clock.clone());
        let (hook, task) = Hook::new(name, target.clone(), metrics, clock);
        let stop = self.stop.child_token();
        self.tasks.spawn(task.run(stop.clone()));
        self.active.push(Active { target, hook, stop });
    }

    /// Queues the alarms of a check for everyone. Never waits.
    pub fn queue(&self, messages: &[AlarmMessage]) {
        let messages: Arc<[AlarmMessage]> = messages.into();
        for active in &self.active {
            active.hook.queue(&messages);
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
