//! Keys of the values of the original chart that are about Elasticsearch (deployment spec, A2).

use anyhow::Result;
use serde_json::{Value, json};

use super::DEPLOYMENT;
use super::table::{CONTAINER, OAP, POD, check};

#[test]
fn every_key_of_elasticsearch_changes_its_field() -> Result<()> {
    check(
        DEPLOYMENT,
        &[
            (
                "elasticsearch.enabled=true",
                OAP,
                "env",
                json!("SW_STORAGE_ES_CLUSTER_NODES=elasticsearch-master:9200"),
            ),
            (
                "elasticsearch.enabled=true",
                "StatefulSet elasticsearch-master",
                "",
                json!(true),
            ),
            (
                "elasticsearch.config.host=h",
                OAP,
                "env",
                json!("SW_STORAGE_ES_CLUSTER_NODES=h:9200"),
            ),
            (
                "elasticsearch.config.port.http=1",
                OAP,
                "env",
                json!("SW_STORAGE_ES_CLUSTER_NODES=es.example.test:1"),
            ),
            (
                "elasticsearch.config.user=u",
                OAP,
                "env",
                json!("SW_ES_USER=u"),
            ),
            (
                "elasticsearch.config.password=p",
                "Job skywalking-es-init-*",
                "env",
                json!("SW_ES_PASSWORD=p"),
            ),
        ],
    )?;
    const SET: &str = "StatefulSet elasticsearch-master";
    let container = |rest: &str| format!("{CONTAINER}{rest}");
    let pod = |rest: &str| format!("{POD}{rest}");
    check(
        "",
        &[
            (
                "elasticsearch.clusterName=es",
                OAP,
                "env",
                json!("SW_STORAGE_ES_CLUSTER_NODES=es-master:9200"),
            ),
            (
                "elasticsearch.nodeGroup=all",
                "StatefulSet elasticsearch-all",
                "",
                json!(true),
            ),
            (
                "elasticsearch.httpPort=1",
                OAP,
                "env",
                json!("SW_STORAGE_ES_CLUSTER_NODES=elasticsearch-master:1"),
            ),
            ("elasticsearch.replicas=1", SET, "/spec/replicas", json!(1)),
            (
                "elasticsearch.imageTag=7.10.2",
                SET,
                &container("/image"),
                json!("docker.elastic.co/elasticsearch/elasticsearch:7.10.2"),
            ),
            (
                "elasticsearch.esJavaOpts=-Xmx2g",
                SET,
                "env",
                json!("ES_JAVA_OPTS=-Xmx2g"),
            ),
            (
                "elasticsearch.resources.limits.memory=4Gi",
                SET,
                &container("/resources/limits/memory"),
                json!("4Gi"),
            ),
            (
                "elasticsearch.persistence.enabled=true",
                SET,
                "/spec/volumeClaimTemplates/0/metadata/name",
                json!("elasticsearch-master"),
            ),
            (
                "elasticsearch.antiAffinity=soft",
                SET,
                &pod(
                    "/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/weight",
                ),
                json!(1),
            ),
            (
                "elasticsearch.nodeSelector.a=b",
                SET,
                &pod("/nodeSelector/a"),
                json!("b"),
            ),
            (
                "elasticsearch.tolerations[0].key=k",
                SET,
                &pod("/tolerations/0/key"),
                json!("k"),
            ),
            (
                "elasticsearch.sysctlInitContainer.enabled=false",
                SET,
                &pod("/initContainers"),
                Value::Null,
            ),
            (
                "elasticsearch.extraEnvs[0].name=A",
                SET,
                "env",
                json!("A=<>"),
            ),
            (
                "elasticsearch.priorityClassName=high",
                SET,
                &pod("/priorityClassName"),
                json!("high"),
            ),
        ],
    )
}
