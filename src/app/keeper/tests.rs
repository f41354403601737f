//! Patience and deletion, without waiting for either: time passes when everybody sleeps.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::app::store::{self, Purpose};
use crate::config::{Arguments, ConfigDirs, Environment};
use crate::model::row::{Cell, Row};
use crate::model::time_bucket::Zone;
use crate::telemetry::Registry;
use crate::util::clock::Clock;

/// 2020-09-15 10:59:30 UTC.
const NOW_MS: i64 = 1_600_167_570_000;

async fn keeper(environment: &[(&str, &str)], data: &std::path::Path, clock: Clock) -> Keeper {
    let arguments = Arguments {
        data_dir: data.to_owned(),
        ..Arguments::default()
    };
    let environment: Environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let dirs = ConfigDirs::only(vec![]);
    let configuration = Configuration::load_from(&dirs, &arguments, &environment).unwrap();
    let settings = Arc::new(configuration.settings);
    let zone = Zone::utc();
    let storage = store::open(&settings, &zone, &clock, Purpose::Write)
        .await
        .unwrap();
    Keeper {
        shared: Shared {
            settings,
            zone,
            clock,
            registry: Registry::new("test", 0),
            storage: Arc::new(storage),
        },
        schema: Arc::new(Schema::build(&[], &[], &[], false)),
        addresses: Arc::new(AddressBook::new(10)),
        profile_tasks: Arc::default(),
        is_first: watch::channel(true).1,
    }
}

#[tokio::test(start_paused = true)]
async fn init_gives_up_a_store_that_stays_away() {
    let data = tempfile::tempdir().unwrap();
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    let environment = [
        ("SW_STORAGE", "elasticsearch7"),
        ("SW_STORAGE_ES_CLUSTER_NODES", address.as_str()),
    ];
    let keeper = keeper(&environment, data.path(), Clock::System).await;
    let begin = Instant::now();
    let error = create(&keeper.shared.storage, &keeper.schema, &[]).await;
    let error = format!("{:#}", error.unwrap_err());
    assert!(error.contains(&address), "{error}");
    assert!(begin.elapsed() >= INIT_PATIENCE);
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn deletions_are_told_and_announced_once() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let data = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(NOW_MS));
    let keeper = keeper(&[], data.path(), Clock::Fixed(Arc::clone(&now))).await;
    let storage = &keeper.shared.storage;
    storage.install(&keeper.schema).await.unwrap();
    let model = keeper.schema.model("endpoint_traffic").unwrap();
    let old = Row {
        model: Arc::clone(model),
        id: "id".to_owned(),
        time_bucket: 202_009_081_050,
        cells: vec![Cell::text("b3JkZXI=.1"), Cell::text("/a")],
    };
    storage.write(&[old]).await.unwrap();
    // Runs come after 5, 10 and 15 minutes; the day ends between the last two.
    let days = async {
        tokio::time::sleep(Duration::from_secs(11 * 60)).await;
        now.fetch_add(DAY_MS, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(5 * 60)).await;
    };
    tokio::select! {
        () = keeper.expiry() => {}
        () = days => {}
    }
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let told: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once("keeper: "))
        .map(|(_, message)| message)
        .collect();
    let [deleted, first, second] = told[..] else {
        panic!("{text}");
    };
    assert!(deleted.contains("20200908"), "{deleted}");
    let next = "next deletion of expired days";
    assert_eq!(
        [first, second],
        [
            format!("{next} on=20200916 records.until=20200913 metrics.until=20200909"),
            format!("{next} on=20200917 records.until=20200914 metrics.until=20200910"),
        ]
    );
}

#[tokio::test]
async fn agents_are_told_of_as_many_profile_tasks_as_two_settings_allow() {
    let data = tempfile::tempdir().unwrap();
    for (options, es, most) in [
        ("", "", 200),
        ("-Dcore.default.maxSizeOfProfileTask=2", "", 2),
        ("-Dcore.default.maxSizeOfProfileTask=20000", "", 200),
        ("", "300", 300),
    ] {
        let mut environment = vec![("JAVA_OPTS", options)];
        if !es.is_empty() {
            environment.push(("SW_STORAGE", "elasticsearch7"));
            environment.push(("SW_STORAGE_ES_QUERY_PROFILE_TASK_SIZE", es));
        }
        let keeper = keeper(&environment, data.path(), Clock::System).await;
        assert_eq!(
            profile::most(&keeper.shared.settings),
            most,
            "{options} {es}"
        );
    }
}
