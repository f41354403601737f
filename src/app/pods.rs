//! Keeps the addresses of pods up to date, from which access logs learn who called whom.

use std::sync::Arc;
use std::time::Duration;

use crate::analyzer::pods::{Pod, PodMap};
use crate::cluster::kubernetes::PodReader;

/// Between two looks (8.1.0 spec, A.9).
pub(super) const PERIOD: Duration = Duration::from_secs(15);
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Looks every `period` and never ends. While the API is away what was known last stays, and it is asked sooner at first.
pub(super) async fn keep(mut reader: PodReader, pods: Arc<PodMap>, period: Duration) {
    let mut failure_pause = FIRST_PAUSE.min(period);
    // What was said last about a failure; a success is news only after that, and at first.
    let mut said = Some(String::new());
    loop {
        let pause = match reader.pods().await {
            Ok(running) => {
                if said.take().is_some() {
                    tracing::info!(pods = running.len(), "pods are known");
                }
                failure_pause = FIRST_PAUSE.min(period);
                let named = running.into_iter().map(|pod| {
                    let named = Pod {
                        service: pod.service,
                        instance: pod.instance,
                    };
                    (pod.ip, named)
                });
                pods.replace(named.collect());
                period
            }
            Err(error) => {
                let reason = error.to_string();
                if said.as_ref() != Some(&reason) {
                    let known = pods.current().len();
                    tracing::warn!(reason, known, "pods cannot be read, what is known stays");
                    said = Some(reason);
                }
                let pause = failure_pause;
                failure_pause = (failure_pause * 2).min(period);
                pause
            }
        };
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::Router;
    use axum::http::StatusCode;
    use kube::Config;

    use super::*;

    const PERIOD: Duration = Duration::from_millis(5);

    /// An API server that answers what it is told to; `None` is a failure.
    async fn api(answer: Arc<Mutex<Option<String>>>) -> Config {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().fallback(async move || {
            let answer = answer.lock().unwrap().clone();
            answer.ok_or(StatusCode::SERVICE_UNAVAILABLE)
        });
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Config::new(url.parse().unwrap())
    }

    fn one_pod(name: &str) -> Option<String> {
        let pod = format!(
            r#"{{"metadata": {{"name": "{name}", "namespace": "n"}},
                "status": {{"phase": "Running", "podIP": "10.0.0.1", "hostIP": "10.9.9.9"}}}}"#
        );
        Some(format!(r#"{{"metadata": {{}}, "items": [{pod}]}}"#))
    }

    async fn until(pods: &PodMap, is_so: impl Fn(&str) -> bool) {
        loop {
            let known = pods.current();
            if is_so(known.get("10.0.0.1").map_or("", |pod| &pod.instance)) {
                return;
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    #[tokio::test]
    async fn what_is_known_stays_while_the_api_is_away_and_is_replaced_when_it_is_back() {
        let answer = Arc::new(Mutex::new(None));
        let reader = PodReader::new(Some(api(Arc::clone(&answer)).await));
        let pods = Arc::<PodMap>::default();
        let keeping = tokio::spawn(keep(reader, Arc::clone(&pods), PERIOD));
        tokio::time::sleep(PERIOD * 4).await;
        assert!(pods.current().is_empty());
        *answer.lock().unwrap() = one_pod("first");
        until(&pods, |name| name == "first.n").await;
        for broken in [None, Some("{}{".to_owned()), Some("[]".to_owned())] {
            *answer.lock().unwrap() = broken;
            tokio::time::sleep(PERIOD * 10).await;
            until(&pods, |name| name == "first.n").await;
        }
        *answer.lock().unwrap() = one_pod("second");
        until(&pods, |name| name == "second.n").await;
        keeping.abort();
    }
}
