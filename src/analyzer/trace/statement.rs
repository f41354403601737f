//! Slow database statements become records (8.1.0 spec, B.5).
//!
//! Each is stored at once. The original collects them for minutes first, but keyed by unique ids, so it keeps all too.

use std::sync::Arc;

use super::last_tag;
use super::segment::{Segment, Span};
use super::span::latency;
use crate::analyzer::naming::cut;
use crate::analyzer::{Analyzer, Facts};
use crate::model::id;
use crate::model::row::{Cell, Row};

/// Stands for a statement that the agent reported as empty; such a span has no endpoint name to show instead.
const NO_STATEMENT: &str = "[No statement]/null";

impl Analyzer {
    pub(super) fn slow_statement(
        &self,
        segment: &Segment<'_>,
        span: &Span<'_>,
        second: u64,
        facts: &mut Facts,
    ) {
        let Some(model) = &self.statement_model else {
            return;
        };
        let latency = i64::from(latency(span));
        let mut types = span.tags.iter().filter(|tag| tag.key == "db.type");
        if !types.any(|ty| latency > self.settings.slow_statements.of(ty.value)) {
            return;
        }
        let statement = match last_tag(span, "db.statement") {
            None => Cell::Null,
            Some("") => Cell::text(NO_STATEMENT),
            Some(text) => Cell::text(cut(text, self.settings.max_statement_length)),
        };
        facts.records.push(Row {
            model: Arc::clone(model),
            id: format!("{}-{}", segment.trace_segment_id, span.span_id),
            time_bucket: second,
            cells: vec![
                statement,
                Cell::Long(latency),
                Cell::text(segment.trace_id),
                Cell::text(id::service_id(span.peer, false)),
            ],
        });
    }
}
