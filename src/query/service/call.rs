//! Calls of a topology: what each side reported about one edge, put together.

use std::collections::HashMap;

use serde::Serialize;

/// Which side reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum DetectPoint {
    Client,
    Server,
}

/// An edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// Id of the relation.
    pub id: String,
    pub source: String,
    pub target: String,
    pub source_components: Vec<String>,
    pub target_components: Vec<String>,
    pub detect_points: Vec<DetectPoint>,
}

/// Edges in the order of their first report, one per id.
#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: Vec<Call>,
    by_id: HashMap<String, usize>,
}

impl Calls {
    /// A report of the caller. Two reports can fall together when addresses stand for the same service; the first counts.
    pub(super) fn seen_by_client(&mut self, id: String, ends: (&str, &str), component: &str) {
        if self.by_id.contains_key(&id) {
            return;
        }
        let call = self.entry(id, ends);
        call.detect_points.push(DetectPoint::Client);
        call.source_components.push(component.to_owned());
    }

    /// A report of the called side, with its component where the relation has one.
    pub(super) fn seen_by_server(
        &mut self,
        id: String,
        ends: (&str, &str),
        component: Option<&str>,
    ) {
        let call = self.entry(id, ends);
        if call.detect_points.contains(&DetectPoint::Server) {
            return;
        }
        call.detect_points.push(DetectPoint::Server);
        call.target_components.extend(component.map(str::to_owned));
    }

    pub(super) fn into_vec(self) -> Vec<Call> {
        self.calls
    }

    fn entry(&mut self, id: String, (source, target): (&str, &str)) -> &mut Call {
        let next = self.calls.len();
        let at = *self.by_id.entry(id.clone()).or_insert(next);
        if at == next {
            self.calls.push(Call {
                id,
                source: source.to_owned(),
                target: target.to_owned(),
                source_components: vec![],
                target_components: vec![],
                detect_points: vec![],
            });
        }
        &mut self.calls[at]
    }
}
