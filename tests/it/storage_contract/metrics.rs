//! Aggregates and top lists.

use anyhow::{Result, ensure};
use oap::model::id;
use oap::model::row::{Cell, Row};
use oap::storage::{Backend, BucketRange, Order, TopNFilter};

use super::{DAY, MINUTE, NEXT_DAY, Store, ensure_invalid, text};

const HOUR: u64 = MINUTE / 100;

fn range(start: u64, end: u64) -> BucketRange {
    BucketRange { start, end }
}

/// A row of a metric whose value column is `value`.
fn value<B: Backend>(
    store: &Store<B>,
    metric: &str,
    entity: &str,
    bucket: u64,
    value: Cell,
) -> Result<Row> {
    let cells = [("entity_id", text(entity)), ("value", value)];
    store.row(metric, &id::metrics_id(bucket, entity), bucket, &cells)
}

pub async fn values_are_combined_within_one_precision<B: Backend>(store: &Store<B>) -> Result<()> {
    let mut rows = vec![];
    for (metric, entity) in [("service_cpm", "a.1"), ("service_sum", "a.1")] {
        for (bucket, n) in [
            (MINUTE, 10),
            (MINUTE + 1, 25),
            (HOUR, 1000),
            (HOUR + 1, 3000),
            (DAY, 7),
            (NEXT_DAY, 8),
            (NEXT_DAY * 10_000, 90),
        ] {
            rows.push(value(store, metric, entity, bucket, Cell::Long(n))?);
        }
        rows.push(value(store, metric, "b.1", MINUTE, Cell::Long(500))?);
    }
    rows.push(value(
        store,
        "instance_cpu",
        "i",
        MINUTE,
        Cell::Double(0.5),
    )?);
    rows.push(value(
        store,
        "instance_cpu",
        "i",
        MINUTE + 1,
        Cell::Double(2.25),
    )?);
    store.write(&rows).await?;
    for (metric, entity, start, end, expected) in [
        ("service_cpm", "a.1", MINUTE, MINUTE + 1, Some(17.5)),
        ("service_sum", "a.1", MINUTE, MINUTE + 1, Some(35.0)),
        ("service_sum", "a.1", MINUTE, MINUTE, Some(10.0)),
        ("service_sum", "a.1", MINUTE + 1, MINUTE + 9, Some(25.0)),
        ("service_sum", "a.1", HOUR, HOUR + 1, Some(4000.0)),
        ("service_sum", "a.1", DAY, NEXT_DAY, Some(15.0)),
        ("service_sum", "a.1", MINUTE, NEXT_DAY * 10_000, Some(125.0)),
        ("service_sum", "b.1", MINUTE, MINUTE + 1, Some(500.0)),
        ("service_sum", "c.1", MINUTE, MINUTE + 1, None),
        ("service_sum", "a.1", MINUTE + 2, MINUTE + 9, None),
        ("service_sum", "a.1", 20_190_101, 20_190_131, None),
        ("instance_cpu", "i", MINUTE, MINUTE + 1, Some(1.375)),
    ] {
        let model = store.model(metric)?;
        let answer = store
            .backend
            .aggregate(model, entity, range(start, end))
            .await?;
        ensure!(
            answer == expected,
            "{metric} of {entity} {start}..{end}: {answer:?}, not {expected:?}"
        );
    }
    let (model, minutes) = (store.model("service_sum")?, range(MINUTE, MINUTE + 1));
    let others: Vec<String> = (0..1100).map(|i| format!("other-{i}.1")).collect();
    let mut ids: Vec<&str> = others.iter().map(String::as_str).collect();
    ids.extend(["b.1", "c.1", "a.1", "b.1"]);
    let answers = store.backend.aggregates(model, &ids, minutes).await?;
    let expected = [Some(500.0), None, Some(35.0), Some(500.0)];
    ensure!(answers[others.len()..] == expected, "{answers:?}");
    ensure!(answers[..others.len()].iter().all(Option::is_none));
    let nothing = store.backend.aggregates(model, &[], minutes).await?;
    ensure!(nothing.is_empty(), "{nothing:?}");
    Ok(())
}

pub async fn what_cannot_be_averaged_is_an_error_or_nothing<B: Backend>(
    store: &Store<B>,
) -> Result<()> {
    let all = store.row(
        "all_cpm",
        &id::metrics_id(MINUTE, ""),
        MINUTE,
        &[("value", Cell::Long(7)), ("total", Cell::Long(7))],
    )?;
    let labeled = value(
        store,
        "service_percentile",
        "a.1",
        MINUTE,
        text("0,10|1,20"),
    )?;
    store.write(&[all, labeled]).await?;
    let minutes = range(MINUTE, MINUTE + 1);
    let model = store.model("all_cpm")?;
    let answer = store.backend.aggregate(model, "", minutes).await?;
    ensure!(answer.is_none(), "no entities: {answer:?}");
    let model = store.model("service_percentile")?;
    let answer = store.backend.aggregate(model, "a.1", minutes).await;
    ensure_invalid("labeled", answer)
}

pub async fn the_top_is_sorted_by_average_then_entity<B: Backend>(store: &Store<B>) -> Result<()> {
    let mut rows = vec![];
    // (entity, service, values in successive minutes)
    for (entity, service, values) in [
        ("s1_d", "s1", vec![10, 30]),
        ("s1_b", "s1", vec![20]),
        ("s0_a", "s0", vec![20, 20]),
        ("s1_c", "s1", vec![5, 6]),
        ("s0_e", "s0", vec![1000]),
    ] {
        for (bucket, n) in (MINUTE..).zip(values) {
            let cells = [
                ("entity_id", text(entity)),
                ("service_id", text(service)),
                ("value", Cell::Long(n)),
            ];
            let id = id::metrics_id(bucket, entity);
            rows.push(store.row("endpoint_avg", &id, bucket, &cells)?);
        }
    }
    rows.push(value(store, "endpoint_avg", "s1_b", HOUR, Cell::Long(1))?);
    store.write(&rows).await?;
    let minutes = range(MINUTE, MINUTE + 5);
    let desc = Order::Descending;
    let asc = Order::Ascending;
    for (name, service, range, order, limit, expected) in [
        (
            "descending",
            None,
            minutes,
            desc,
            10,
            vec![
                ("s0_e", 1000.0),
                ("s0_a", 20.0),
                ("s1_b", 20.0),
                ("s1_d", 20.0),
                ("s1_c", 5.5),
            ],
        ),
        (
            "ascending, ties still by entity ascending",
            None,
            minutes,
            asc,
            10,
            vec![
                ("s1_c", 5.5),
                ("s0_a", 20.0),
                ("s1_b", 20.0),
                ("s1_d", 20.0),
                ("s0_e", 1000.0),
            ],
        ),
        (
            "cut",
            None,
            minutes,
            desc,
            2,
            vec![("s0_e", 1000.0), ("s0_a", 20.0)],
        ),
        (
            "of a service",
            Some("s1"),
            minutes,
            desc,
            10,
            vec![("s1_b", 20.0), ("s1_d", 20.0), ("s1_c", 5.5)],
        ),
        (
            "of an unknown service",
            Some("s9"),
            minutes,
            desc,
            10,
            vec![],
        ),
        (
            "second minute only",
            None,
            range(MINUTE + 1, MINUTE + 1),
            desc,
            10,
            vec![("s1_d", 30.0), ("s0_a", 20.0), ("s1_c", 6.0)],
        ),
        (
            "hours",
            None,
            range(HOUR, HOUR),
            desc,
            10,
            vec![("s1_b", 1.0)],
        ),
    ] {
        let filter = TopNFilter {
            service_id: service.map(str::to_owned),
            range,
            limit,
            order,
        };
        let model = store.model("endpoint_avg")?;
        let answer = store.backend.top_n(model, &filter).await?;
        let top: Vec<(&str, f64)> = answer
            .iter()
            .map(|e| (e.entity_id.as_str(), e.value))
            .collect();
        ensure!(top == expected, "{name}: {top:?}");
    }
    for limit in [0, -1] {
        let filter = TopNFilter {
            service_id: None,
            range: minutes,
            limit,
            order: desc,
        };
        let model = store.model("endpoint_avg")?;
        ensure_invalid("limit", store.backend.top_n(model, &filter).await)?;
    }
    Ok(())
}

pub async fn sampled_records_are_sorted_by_latency<B: Backend>(store: &Store<B>) -> Result<()> {
    let mut rows = vec![];
    let second = 20_200_915_105_930;
    for (at, statement, latency, service) in [
        (second, Some("select 1"), 100, "s1"),
        (second + 1, None, 300, "s1"),
        (second + 2, Some("select 'ü'"), 200, "s2"),
        (second + 60_000, Some("late"), 900, "s1"),
    ] {
        let trace = format!("trace {latency}");
        rows.push(store.row(
            "top_n_database_statement",
            &trace,
            at,
            &[
                ("statement", statement.map_or(Cell::Null, text)),
                ("latency", Cell::Long(latency)),
                ("trace_id", text(&trace)),
                ("service_id", text(service)),
            ],
        )?);
    }
    store.write(&rows).await?;
    let seconds = range(20_200_915_105_900, 20_200_915_105_999);
    for (name, service, order, limit, expected) in [
        (
            "descending",
            None,
            Order::Descending,
            10,
            vec![300, 200, 100],
        ),
        ("ascending", None, Order::Ascending, 2, vec![100, 200]),
        ("of a service", Some("s1"), Order::Descending, 1, vec![300]),
        ("of nobody", Some("s9"), Order::Descending, 1, vec![]),
    ] {
        let filter = TopNFilter {
            service_id: service.map(str::to_owned),
            range: seconds,
            limit,
            order,
        };
        let model = store.model("top_n_database_statement")?;
        let answer = store.backend.sampled_records(model, &filter).await?;
        let latencies: Vec<i64> = answer.iter().map(|r| r.latency).collect();
        ensure!(latencies == expected, "{name}: {answer:?}");
        for record in answer {
            let statement = match record.latency {
                100 => Some("select 1"),
                200 => Some("select 'ü'"),
                _ => None,
            };
            ensure!(record.statement.as_deref() == statement, "{record:?}");
            let trace = format!("trace {}", record.latency);
            ensure!(record.trace_id == Some(trace), "{record:?}");
        }
    }
    Ok(())
}
