//! Order of the spans of a trace (query spec 2.8): each root by its start, then depth first in stored order.

use std::collections::{HashMap, HashSet};

use super::trace::Span;

/// Segment id and span id.
type Key = (String, i64);

fn own_key(span: &Span) -> Key {
    (span.segment_id.clone(), span.span_id)
}

/// The parent in the segment, or the caller that the last reference names.
fn parent_key(span: &Span) -> Key {
    match span.refs.last() {
        Some(r) => (r.parent_segment_id.clone(), r.parent_span_id),
        None => (span.segment_id.clone(), span.parent_span_id),
    }
}

/// Sorts the spans of a trace. Every span appears once, also spans that reference each other in a circle, which the
/// original leaves out: they follow at the end.
pub(super) fn sort(spans: Vec<Span>) -> Vec<Span> {
    let present: HashSet<Key> = spans.iter().map(own_key).collect();
    let mut children: HashMap<Key, Vec<usize>> = HashMap::new();
    let mut roots = Vec::new();
    for (at, span) in spans.iter().enumerate() {
        let parent = parent_key(span);
        if present.contains(&parent) {
            children.entry(parent).or_default().push(at);
        } else {
            roots.push(at);
        }
    }
    let start_of = |at: &usize| spans.get(*at).map_or(0, |s| s.start_time);
    roots.sort_by_key(start_of);

    let mut order = Vec::with_capacity(spans.len());
    let mut is_done = vec![false; spans.len()];
    for root in roots.into_iter().chain(0..spans.len()) {
        let mut stack = vec![root];
        while let Some(at) = stack.pop() {
            let (Some(span), Some(is_done)) = (spans.get(at), is_done.get_mut(at)) else {
                continue;
            };
            if std::mem::replace(is_done, true) {
                continue;
            }
            order.push(at);
            // Spans with the same id share their children, who are visited once.
            let below = children.remove(&own_key(span));
            stack.extend(below.into_iter().flatten().rev());
        }
    }
    let mut spans: Vec<Option<Span>> = spans.into_iter().map(Some).collect();
    let take = |at: usize| spans.get_mut(at)?.take();
    order.into_iter().filter_map(take).collect()
}

#[cfg(test)]
mod tests {
    use super::super::trace::{Ref, RefType};
    use super::*;

    fn span(segment: &str, id: i64, parent: i64, start: i64, refs: &[(&str, i64)]) -> Span {
        let r = |(segment, span): &(&str, i64)| Ref {
            trace_id: "t".into(),
            parent_segment_id: (*segment).into(),
            parent_span_id: *span,
            ty: RefType::CrossProcess,
        };
        Span {
            segment_id: segment.into(),
            span_id: id,
            parent_span_id: parent,
            start_time: start,
            refs: refs.iter().map(r).collect(),
            ..Span::default()
        }
    }

    fn sorted(spans: Vec<Span>) -> Vec<(String, i64)> {
        sort(spans).iter().map(own_key).collect()
    }

    #[test]
    fn children_follow_their_caller_in_stored_order() {
        let spans = vec![
            span("b", 0, -1, 20, &[("x", 9), ("a", 1)]),
            span("a", 2, 0, 12, &[]),
            span("a", 1, 0, 11, &[]),
            span("a", 0, -1, 10, &[]),
            span("c", 0, -1, 5, &[("lost", 3)]),
        ];
        let want = [("c", 0), ("a", 0), ("a", 2), ("a", 1), ("b", 0)];
        assert_eq!(sorted(spans), want.map(|(s, i)| (s.to_owned(), i)));
    }

    #[test]
    fn doubles_do_not_multiply_their_children() {
        let doubles = (0..30_000).map(|_| span("a", 0, -1, 1, &[]));
        let children = (0..30_000).map(|_| span("a", 1, 0, 2, &[]));
        let own_parents = (0..30_000).map(|_| span("b", 5, 5, 2, &[]));
        let spans = doubles.chain(children).chain(own_parents).collect();
        assert_eq!(sort(spans).len(), 90_000);
    }

    #[test]
    fn circles_and_doubles_end_and_lose_nothing() {
        let spans = vec![
            span("a", 0, -1, 1, &[("b", 0)]),
            span("b", 0, -1, 2, &[("a", 0)]),
            span("c", 0, -1, 3, &[]),
            span("c", 0, -1, 3, &[]),
            span("c", 1, 0, 3, &[]),
        ];
        assert_eq!(sorted(spans).len(), 5);
    }

    #[test]
    fn a_chain_of_any_depth_is_no_problem() {
        let spans = (0..200_000).map(|i| span("a", i, i - 1, i, &[])).collect();
        assert_eq!(sorted(spans).len(), 200_000);
    }
}
