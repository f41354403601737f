//! The store as a whole: restarts, killed processes, expiry, damage, readers beside a writer.

use super::testing::{metric, row, schema};
use super::*;
use crate::model::row::Cell;

fn range(start: u64, end: u64) -> BucketRange {
    BucketRange { start, end }
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let schema = schema();
    let model = |name: &str| Arc::clone(schema.model(name).unwrap());
    let template = UiTemplate {
        name: "APM".to_owned(),
        ty: "DASHBOARD".to_owned(),
        configuration: "{}".to_owned(),
        is_activated: true,
        is_disabled: false,
    };
    {
        let store = Embedded::open(dir.path()).unwrap();
        store.install(&schema).await.unwrap();
        store.ping().await.unwrap();
        let rows = [
            metric(&model("service_cpm"), "a", 202_009_150_000, 4),
            row(
                &model("segment"),
                "s",
                20_200_915_000_000,
                &[("trace_id", Cell::text("t"))],
            ),
        ];
        assert_eq!(
            store.write(&rows).await.unwrap(),
            [WriteOutcome::Stored, WriteOutcome::Stored]
        );
        assert!(store.add_ui_template(&template).await.unwrap());
        store.completed();
    }
    let mut names: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "lock",
            "meta.db",
            "metrics-20200915.db",
            "records-20200915.db"
        ]
    );

    let store = Embedded::open(dir.path()).unwrap();
    store.install(&schema).await.unwrap();
    let minutes = range(202_009_150_000, 202_009_150_001);
    assert_eq!(
        store
            .aggregate(&model("service_cpm"), "a", minutes)
            .await
            .unwrap(),
        Some(4.0)
    );
    assert_eq!(
        store
            .trace(&TraceFilter::first("t", 9))
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    assert_eq!(store.ui_templates(false).await.unwrap(), [template]);
}

#[tokio::test]
async fn what_a_killed_process_leaves_has_every_acknowledged_batch() {
    let dir = tempfile::tempdir().unwrap();
    let left = tempfile::tempdir().unwrap();
    let schema = schema();
    let cpm = schema.model("service_cpm").unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    for n in 0..10 {
        let rows = [metric(cpm, "a", 202_009_150_000 + n, 7)];
        store.write(&rows).await.unwrap();
    }
    // Nothing is closed: the batches are in the write-ahead log only.
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e != "db-shm") {
            std::fs::copy(&path, left.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let after = Embedded::open(left.path()).unwrap();
    let all = range(202_009_150_000, 202_009_150_009);
    let count = schema.model("service_count").unwrap();
    assert_eq!(after.aggregate(cpm, "a", all).await.unwrap(), Some(7.0));
    let keys: Vec<_> = (0..10)
        .map(|n| RowKey {
            model: Arc::clone(cpm),
            id: format!("{}_a", 202_009_150_000u64 + n),
            time_bucket: None,
        })
        .collect();
    assert!(after.load(&keys).await.unwrap().iter().all(Option::is_some));
    assert_eq!(after.aggregate(count, "a", all).await.unwrap(), None);
}

#[tokio::test]
async fn expired_days_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let schema = schema();
    let cpm = schema.model("service_cpm").unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    let minute = |day: u64| day * 10_000;
    let days = [20_200_913, 20_200_914, 20_200_915];
    let rows = days.map(|day| metric(cpm, "a", minute(day), 1));
    store.write(&rows).await.unwrap();
    let all = range(minute(days[0]), minute(days[2]));
    let count = schema.model("service_count").unwrap();
    assert_eq!(store.aggregate(cpm, "a", all).await.unwrap(), Some(1.0));

    assert!(
        store
            .remove_days_before(Family::Records, 20_210_101)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        store
            .remove_days_before(Family::Metrics, days[2])
            .await
            .unwrap(),
        days[..2]
    );
    assert!(!dir.path().join("metrics-20200914.db").exists());
    let old = range(minute(days[0]), minute(days[1]));
    assert_eq!(store.aggregate(cpm, "a", old).await.unwrap(), None);

    // A late row of a deleted day starts a new file.
    store
        .write(&[metric(count, "a", minute(days[0]), 5)])
        .await
        .unwrap();
    assert_eq!(store.aggregate(count, "a", all).await.unwrap(), Some(5.0));
    assert_eq!(store.aggregate(cpm, "a", old).await.unwrap(), None);
}

#[tokio::test]
async fn a_directory_that_is_gone_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    dir.close().unwrap();
    let error = store.ping().await.unwrap_err();
    assert!(
        matches!(&error, StorageError::Unavailable(e) if e.contains(PROBE)),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_stored_can_be_read_where_nothing_more_can_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let schema = schema();
    let cpm = schema.model("service_cpm").unwrap();
    let minute = 202_009_140_000;
    drop_written(&dir, &[metric(cpm, "a", minute, 4)]).await;
    let store = Arc::new(Embedded::open(dir.path()).unwrap());
    // What connections share cannot be created, as on a full disk.
    let shared = dir.path().join("metrics-20200914.db-shm");
    std::os::unix::fs::symlink("nowhere", shared).unwrap();
    assert!(
        store
            .pool
            .files
            .open_reader(FileKey::Day(Family::Metrics, 20_200_914))
            .is_err()
    );
    let asking = (0..8).map(|_| {
        let (store, cpm) = (Arc::clone(&store), Arc::clone(cpm));
        tokio::spawn(async move { store.aggregate(&cpm, "a", range(minute, minute)).await })
    });
    for asked in asking.collect::<Vec<_>>() {
        assert_eq!(asked.await.unwrap().unwrap(), Some(4.0));
    }
}

fn is_there(dir: &Path, name: &str) -> bool {
    dir.join(name).exists()
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_at_the_start_and_other_days_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let schema = schema();
    let cpm = schema.model("service_cpm").unwrap();
    let minutes = [202_009_140_000, 202_009_150_000];
    {
        let store = Embedded::open(dir.path()).unwrap();
        let rows = minutes.map(|minute| metric(cpm, "a", minute, 4));
        store.write(&rows).await.unwrap();
    }
    let name = "metrics-20200914.db";
    for n in 1..=2 {
        std::fs::write(dir.path().join(name), "garbage ".repeat(999)).unwrap();
        let store = Embedded::open(dir.path()).unwrap();
        assert!(is_there(dir.path(), &format!("{name}.damaged-{n}")));
        assert!(!is_there(dir.path(), name));
        for (minute, want) in [(minutes[0], None), (minutes[1], Some(4.0))] {
            let value = store.aggregate(cpm, "a", range(minute, minute)).await;
            assert_eq!(value.unwrap(), want);
        }
        // Its day starts anew.
        let row = metric(cpm, "a", minutes[0], 5);
        assert_eq!(store.write(&[row]).await.unwrap(), [WriteOutcome::Stored]);
    }
    // What was set aside goes when its day expires.
    let store = Embedded::open(dir.path()).unwrap();
    let gone = store.remove_days_before(Family::Metrics, 20_200_915).await;
    assert_eq!(gone.unwrap(), [20_200_914]);
    for n in 1..=2 {
        assert!(!is_there(dir.path(), &format!("{name}.damaged-{n}")));
    }
}

#[tokio::test]
async fn a_damaged_file_of_settings_is_set_aside_and_the_days_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let schema = schema();
    let cpm = schema.model("service_cpm").unwrap();
    let template = schema.model("ui_template").unwrap();
    let minute = 202_009_150_000;
    let rows = [metric(cpm, "a", minute, 4), row(template, "t", 0, &[])];
    drop_written(&dir, &rows).await;
    std::fs::write(dir.path().join("meta.db"), "garbage ".repeat(999)).unwrap();
    let all = range(minute, minute);
    {
        let store = Embedded::open_to_read(dir.path()).unwrap();
        assert_eq!(store.aggregate(cpm, "a", all).await.unwrap(), Some(4.0));
        assert!(store.ui_templates(true).await.unwrap().is_empty());
        assert!(!is_there(dir.path(), "meta.db.damaged-1"));
    }
    let store = Embedded::open(dir.path()).unwrap();
    assert!(is_there(dir.path(), "meta.db.damaged-1"));
    assert_eq!(store.aggregate(cpm, "a", all).await.unwrap(), Some(4.0));
    let row = row(template, "t", 0, &[]);
    assert_eq!(store.write(&[row]).await.unwrap(), [WriteOutcome::Stored]);
    assert_eq!(store.ui_templates(true).await.unwrap().len(), 1);
    drop(store);

    // Damage behind the first page.
    spoil(&dir.path().join("meta.db"));
    let store = Embedded::open(dir.path()).unwrap();
    store.ui_templates(true).await.ok();
    assert!(is_there(dir.path(), "meta.db.damaged-2"));
    assert!(store.ui_templates(true).await.unwrap().is_empty());
}

#[tokio::test]
async fn only_who_says_that_everything_is_written_leaves_no_unclean_day() {
    let dir = tempfile::tempdir().unwrap();
    let schema = schema();
    let cpm = schema.model("service_cpm").unwrap();
    let rows = [metric(cpm, "a", 202_009_150_000, 4)];
    drop_written(&dir, &rows).await;
    let store = Embedded::open(dir.path()).unwrap();
    assert_eq!(store.unclean_days(), [20_200_915]);
    store.forget_unclean_days();
    store.write(&rows).await.unwrap();
    store.completed();
    drop(store);
    assert!(
        Embedded::open(dir.path())
            .unwrap()
            .unclean_days()
            .is_empty()
    );
    assert!(!is_there(dir.path(), "unclean"));
}

/// Spoils everything in a file but its first page.
fn spoil(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    assert!(bytes.len() > 8192);
    bytes[8192..].fill(b'x');
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_file_that_is_damaged_while_in_use_is_named_and_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let schema = schema();
    let cpm = schema.model("service_cpm").unwrap();
    let template = schema.model("ui_template").unwrap();
    let rows = [
        metric(cpm, "a", 202_009_140_000, 4),
        metric(cpm, "a", 202_009_150_000, 4),
        row(template, "t", 0, &[]),
    ];
    drop_written(&dir, &rows).await;
    let store = Embedded::open(dir.path()).unwrap();
    for name in ["metrics-20200914.db", "meta.db"] {
        spoil(&dir.path().join(name));
    }
    let day = range(202_009_140_000, 202_009_142_359);
    let error = store.aggregate(cpm, "a", day).await.unwrap_err();
    assert!(
        matches!(&error, StorageError::Damaged(e) if e.contains("metrics-20200914.db")),
        "{error}"
    );
    assert!(is_there(dir.path(), "metrics-20200914.db.damaged-1"));
    assert_eq!(store.aggregate(cpm, "a", day).await.unwrap(), None);
    let other = range(202_009_150_000, 202_009_150_000);
    assert_eq!(store.aggregate(cpm, "a", other).await.unwrap(), Some(4.0));

    store.ui_templates(true).await.unwrap_err();
    assert!(store.ui_templates(true).await.unwrap().is_empty());
    let template = UiTemplate {
        name: "APM".to_owned(),
        ty: "DASHBOARD".to_owned(),
        configuration: "{}".to_owned(),
        is_activated: true,
        is_disabled: false,
    };
    assert!(store.add_ui_template(&template).await.unwrap());
}

/// Writes with a store of its own, which is closed then.
async fn drop_written(dir: &tempfile::TempDir, rows: &[Row]) {
    let store = Embedded::open(dir.path()).unwrap();
    let outcomes = store.write(rows).await.unwrap();
    assert!(outcomes.iter().all(|o| *o == WriteOutcome::Stored));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_whole_batches_while_a_writer_writes() {
    let dir = tempfile::tempdir().unwrap();
    let schema = schema();
    let model = Arc::clone(schema.model("service_cpm").unwrap());
    let store = Arc::new(Embedded::open(dir.path()).unwrap());
    let minute = 202_009_150_000;
    let writing = {
        let (store, model) = (Arc::clone(&store), Arc::clone(&model));
        tokio::spawn(async move {
            for value in 1..=50 {
                let rows: Vec<_> = (0..20)
                    .map(|n| metric(&model, &format!("e{n}"), minute, value))
                    .collect();
                store.write(&rows).await.unwrap();
            }
        })
    };
    let filter = TopNFilter {
        service_id: None,
        range: range(minute, minute),
        limit: 20,
        order: Order::Ascending,
    };
    let mut last = 0.0;
    while last < 50.0 {
        let top = store.top_n(&model, &filter).await.unwrap();
        let Some(first) = top.first() else { continue };
        assert!(top.iter().all(|e| e.value == first.value) && top.len() == 20);
        assert!(first.value >= last);
        last = first.value;
    }
    writing.await.unwrap();
}

#[tokio::test]
async fn what_sqlite_holds_can_be_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    store.limit_memory(32 << 20).await.unwrap();
    let limit = store
        .pool
        .query(FileKey::Meta, |conn| {
            conn.pragma_query_value(None, "soft_heap_limit", |row| row.get::<_, i64>(0))
        })
        .unwrap();
    // It is one of the process; other tests do not change it.
    assert_eq!(limit, Some(32 << 20));
}
