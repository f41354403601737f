//! Profile tasks as agents see them.

use oap_proto::agent::{ProfileTaskCommandQuery, ProfileTaskFinishReport};
use oap_proto::v3::profile_task_client::ProfileTaskClient;

use super::*;
use crate::model::profile::ProfileTask;

/// Service `shop` has a task of instant 7.
#[derive(Debug)]
pub(super) struct OneTask;

impl ProfileTasks for OneTask {
    fn of_service(&self, service: &str, created_after: i64) -> Vec<ProfileTask> {
        let task = ProfileTask {
            service_id: "c2hvcA==.1".into(),
            endpoint_name: "/order".into(),
            start_time: 8,
            duration: 5,
            min_duration_threshold: 100,
            dump_period: 10,
            create_time: 7,
            max_sampling_count: 3,
        };
        let is_meant = service == "shop" && created_after < task.create_time;
        is_meant.then_some(task).into_iter().collect()
    }
}

#[tokio::test]
async fn an_agent_is_told_of_new_tasks_and_that_is_logged() {
    let mut server = Running::start(GrpcOptions::default()).await;
    let mut profile = ProfileTaskClient::new(server.connect().await);
    let query = |service: &str, last_command_time| ProfileTaskCommandQuery {
        service: service.into(),
        service_instance: "i".into(),
        last_command_time,
    };
    for nothing_new in [query("shop", 7), query("other", 0)] {
        let answer = profile.get_profile_task_commands(nothing_new).await;
        assert_eq!(answer.unwrap().into_inner().commands, []);
    }
    let answer = profile.get_profile_task_commands(query("shop", 6)).await;
    let commands = answer.unwrap().into_inner().commands;
    assert_eq!(commands[0].command, "ProfileTaskQuery");
    let arguments = commands[0].args.iter().skip(1);
    let arguments: Vec<_> = arguments.map(|a| (&*a.key, &*a.value)).collect();
    let wanted = [
        ("TaskId", "7_c2hvcA==.1"),
        ("EndpointName", "/order"),
        ("Duration", "5"),
        ("MinDurationThreshold", "100"),
        ("DumpPeriod", "10"),
        ("MaxSamplingCount", "3"),
        ("StartTime", "8"),
        ("CreateTime", "7"),
    ];
    assert_eq!(arguments, wanted);
    let messages = server.next().await;
    let [Message::ProfileTaskNotified(notice)] = messages.as_slice() else {
        panic!("{messages:?}")
    };
    let notice = RawMessage(notice.clone()).decode_as::<ProfileTaskFinishReport>();
    let notice = notice.unwrap();
    assert_eq!(notice.task_id, "7_c2hvcA==.1");
    assert_eq!((&*notice.service, &*notice.service_instance), ("shop", "i"));
}

#[tokio::test]
async fn snapshots_and_the_end_of_a_task_are_handed_over() {
    let mut server = Running::start(GrpcOptions::default()).await;
    let mut profile = ProfileTaskClient::new(server.connect().await);
    let snapshots = stream::iter([raw(b"s")]);
    profile.collect_snapshot(snapshots).await.unwrap();
    assert_eq!(
        server.next().await,
        [Message::ProfileSnapshot(b"s".as_slice().into())]
    );
    profile.report_task_finish(raw(b"f")).await.unwrap();
    assert_eq!(
        server.next().await,
        [Message::ProfileTaskFinished(b"f".as_slice().into())]
    );
}
