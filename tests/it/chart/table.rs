//! Every key of the values of the original chart (deployment spec, A2): what changes if it does.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::DEPLOYMENT;
use super::rendered::{Release, env};

pub const OAP: &str = "Deployment skywalking-oap";
const UI: &str = "Deployment skywalking-ui";
pub const POD: &str = "/spec/template/spec";
pub const CONTAINER: &str = "/spec/template/spec/containers/0";

/// A change, the object and the field that it changes, and what is there then.
pub type Row<'a> = (&'a str, &'a str, &'a str, Value);

/// Fails unless every change leads to what its row says, and to something else than without it.
pub fn check(values: &str, rows: &[Row<'_>]) -> Result<()> {
    let render = |set: &[&str]| Release::default().values(values).set(set).render();
    let unchanged = render(&[])?;
    let pick = |objects: &[Value], object: &str, pointer: &str| -> Result<Value> {
        let (kind, name) = object.split_once(' ').context("kind and name")?;
        let is_it = |o: &&Value| {
            let own = o["metadata"]["name"].as_str().unwrap_or_default();
            o["kind"] == kind
                && (own == name || name.strip_suffix('*').is_some_and(|p| own.starts_with(p)))
        };
        let found = objects.iter().find(is_it).cloned().unwrap_or_default();
        Ok(match pointer {
            "" => json!(!found.is_null()),
            "env" => json!(env(found.pointer(CONTAINER).unwrap_or(&Value::Null))),
            pointer => found.pointer(pointer).cloned().unwrap_or_default(),
        })
    };
    for (set, object, pointer, want) in rows {
        let before = pick(&unchanged, object, pointer)?;
        let after = pick(&render(&[set])?, object, pointer)?;
        ensure!(before != after, "{set}: {object} {pointer} stays {before}");
        let is_there = match (pointer, want) {
            (&"env", Value::String(line)) => after
                .as_array()
                .is_some_and(|all| all.contains(&json!(line))),
            _ => after == *want,
        };
        ensure!(is_there, "{set}: {object} {pointer} is {after}, not {want}");
    }
    Ok(())
}

#[test]
fn every_key_of_the_server_changes_its_field() -> Result<()> {
    let pod = |rest: &str| format!("{POD}{rest}");
    let container = |rest: &str| format!("{CONTAINER}{rest}");
    let affinity = pod(
        "/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/0/topologyKey",
    );
    let soft = pod("/affinity/podAntiAffinity");
    let (image, pull) = (container("/image"), container("/imagePullPolicy"));
    let (account, node) = (pod("/serviceAccountName"), pod("/affinity/nodeAffinity/a"));
    let (selector, toleration) = (pod("/nodeSelector/disk"), pod("/tolerations/0/key"));
    let (memory, name) = (container("/resources/limits/memory"), container("/name"));
    check(
        DEPLOYMENT,
        &[
            (
                "nameOverride=obs",
                "Deployment skywalking-obs-oap",
                "",
                json!(true),
            ),
            ("fullnameOverride=sw", "Service sw-oap", "", json!(true)),
            ("serviceAccounts.oap=own", OAP, &account, json!("own")),
            ("serviceAccounts.oap.name=own", OAP, &account, json!("own")),
            (
                "serviceAccounts.oap.create=false",
                OAP,
                &account,
                json!("default"),
            ),
            (
                "serviceAccounts.oap.create=false",
                "Role skywalking",
                "",
                json!(false),
            ),
            (
                "oap.name=server",
                "Deployment skywalking-server",
                &name,
                json!("server"),
            ),
            (
                "oap.dynamicConfigEnabled=true",
                OAP,
                "env",
                json!("SW_CONFIGURATION=k8s-configmap"),
            ),
            (
                "oap.dynamicConfigEnabled=true",
                OAP,
                "env",
                json!("SW_CONFIG_CONFIGMAP_PERIOD=60"),
            ),
            (
                "oap.dynamicConfig.enabled=true",
                "ConfigMap skywalking-dynamic-config",
                "",
                json!(true),
            ),
            (
                "oap.image.repository=registry/own",
                OAP,
                &image,
                json!("registry/own:8.1.0-es7"),
            ),
            (
                "image.repository=registry/oap",
                OAP,
                &image,
                json!("registry/oap:0.1.0"),
            ),
            ("image.tag=2", OAP, &image, json!("oap:2")),
            ("oap.image.pullPolicy=Always", OAP, &pull, json!("Always")),
            (
                "oap.storageType=elasticsearch",
                OAP,
                "env",
                json!("SW_STORAGE=elasticsearch"),
            ),
            (
                "oap.ports.grpc=1",
                "Service skywalking-oap",
                "/spec/ports/0/port",
                json!(1),
            ),
            (
                "oap.ports.rest=2",
                "Service skywalking-oap",
                "/spec/ports/1/port",
                json!(2),
            ),
            (
                "oap.ports.rest=2",
                UI,
                "env",
                json!("SW_OAP_ADDRESS=skywalking-oap:2"),
            ),
            (
                "oap.ports.zipkin=3",
                OAP,
                &container("/ports/2/containerPort"),
                json!(3),
            ),
            ("oap.replicas=5", OAP, "/spec/replicas", json!(5)),
            (
                "oap.replicas=1",
                "PodDisruptionBudget skywalking-oap",
                "",
                json!(false),
            ),
            (
                "oap.service.type=NodePort",
                "Service skywalking-oap",
                "/spec/type",
                json!("NodePort"),
            ),
            (
                "oap.javaOpts=-Xmx1g",
                OAP,
                "env",
                json!("JAVA_OPTS=-Dmode=no-init -Xmx1g"),
            ),
            (
                "oap.javaOpts=-Xmx1g",
                "Job skywalking-es-init-*",
                "env",
                json!("JAVA_OPTS=-Dmode=init -Xmx1g"),
            ),
            (
                "oap.antiAffinity=hard",
                OAP,
                &affinity,
                json!("kubernetes.io/hostname"),
            ),
            ("oap.antiAffinity=none", OAP, &soft, Value::Null),
            ("oap.nodeAffinity.a=b", OAP, &node, json!("b")),
            ("oap.nodeSelector.disk=ssd", OAP, &selector, json!("ssd")),
            ("oap.tolerations[0].key=own", OAP, &toleration, json!("own")),
            (
                "oap.resources.limits.memory=9Gi",
                OAP,
                &memory,
                json!("9Gi"),
            ),
            (
                "oap.resources.limits.memory=9Gi",
                "Job skywalking-es-init-*",
                &memory,
                json!("9Gi"),
            ),
            (
                "oap.podAnnotations.a=b",
                OAP,
                "/spec/template/metadata/annotations/a",
                json!("b"),
            ),
            (
                "oap.envoy.als.enabled=true",
                "ClusterRole skywalking-skywalking",
                "",
                json!(true),
            ),
            (
                "oap.envoy.als.enabled=true",
                OAP,
                "env",
                json!("SW_ENVOY_METRIC_ALS_HTTP_ANALYSIS=k8s-mesh"),
            ),
            (
                "oap.env.SW_TELEMETRY=none",
                OAP,
                "env",
                json!("SW_TELEMETRY=none"),
            ),
            (
                "oap.env.SW_TELEMETRY=none",
                "Job skywalking-es-init-*",
                "env",
                json!("SW_TELEMETRY=none"),
            ),
            (
                "oap.securityContext.runAsUser=7",
                OAP,
                &pod("/securityContext/runAsUser"),
                json!(7),
            ),
            (
                "oap.livenessProbe.periodSeconds=7",
                OAP,
                &container("/livenessProbe/periodSeconds"),
                json!(7),
            ),
            (
                "oap.readinessProbe.periodSeconds=7",
                OAP,
                &container("/readinessProbe/periodSeconds"),
                json!(7),
            ),
            (
                "oap.config.oal.core\\.oal=x",
                OAP,
                &container("/volumeMounts/1/mountPath"),
                json!("/skywalking/config/oal/core.oal"),
            ),
            (
                "oap.config.oal.core\\.oal=x",
                "ConfigMap skywalking-oap-cm-override",
                "/data/oal-core.oal",
                json!("x"),
            ),
            (
                "initContainer.enabled=true",
                OAP,
                &pod("/initContainers/0/image"),
                json!("busybox:1.30"),
            ),
            (
                "imagePullSecrets[0].name=r",
                OAP,
                &pod("/imagePullSecrets/0/name"),
                json!("r"),
            ),
            (
                "serviceMonitor.enabled=true",
                OAP,
                "env",
                json!("SW_TELEMETRY=prometheus"),
            ),
            (
                "serviceMonitor.enabled=true",
                "ServiceMonitor skywalking-oap",
                "",
                json!(true),
            ),
            (
                "networkPolicy.enabled=true",
                "NetworkPolicy skywalking-oap",
                "",
                json!(true),
            ),
        ],
    )
}

#[test]
fn every_key_of_the_user_interface_changes_its_field() -> Result<()> {
    const SERVICE: &str = "Service skywalking-ui";
    const INGRESS: &str = "Ingress skywalking-ui";
    let container = |rest: &str| format!("{CONTAINER}{rest}");
    let host = "/spec/rules/0/host";
    let path = "/spec/rules/0/http/paths/0/path";
    check(
        DEPLOYMENT,
        &[
            (
                "ui.name=page",
                "Deployment skywalking-page",
                "",
                json!(true),
            ),
            ("ui.replicas=2", UI, "/spec/replicas", json!(2)),
            (
                "ui.image.repository=r",
                UI,
                &container("/image"),
                json!("r:8.1.0"),
            ),
            (
                "ui.image.tag=9",
                UI,
                &container("/image"),
                json!("apache/skywalking-ui:9"),
            ),
            (
                "ui.image.pullPolicy=Always",
                UI,
                &container("/imagePullPolicy"),
                json!("Always"),
            ),
            (
                "ui.resources.limits.memory=1Gi",
                UI,
                &container("/resources/limits/memory"),
                json!("1Gi"),
            ),
            (
                "ui.podAnnotations.a=b",
                UI,
                "/spec/template/metadata/annotations/a",
                json!("b"),
            ),
            ("ui.env.SW_TIMEOUT=1", UI, "env", json!("SW_TIMEOUT=1")),
            ("ui.ingress.enabled=false", INGRESS, "", json!(false)),
            (
                "ui.ingress.annotations.a=b",
                INGRESS,
                "/metadata/annotations/a",
                json!("b"),
            ),
            (
                "ui.ingress.hosts[0]=other.test",
                INGRESS,
                host,
                json!("other.test"),
            ),
            (
                "ui.ingress.hosts[0]=other.test/a/b",
                INGRESS,
                path,
                json!("/a/b"),
            ),
            (
                "ui.ingress.tls[0].secretName=t",
                INGRESS,
                "/spec/tls/0/secretName",
                json!("t"),
            ),
            (
                "ui.service.type=NodePort",
                SERVICE,
                "/spec/type",
                json!("NodePort"),
            ),
            (
                "ui.service.externalPort=81",
                SERVICE,
                "/spec/ports/0/port",
                json!(81),
            ),
            (
                "ui.service.internalPort=82",
                SERVICE,
                "/spec/ports/0/targetPort",
                json!(82),
            ),
            (
                "ui.service.internalPort=82",
                UI,
                &container("/ports/0/containerPort"),
                json!(82),
            ),
            (
                "ui.service.annotations.a=b",
                SERVICE,
                "/metadata/annotations/a",
                json!("b"),
            ),
            (
                "ui.service.externalIPs[0]=10.0.0.1",
                SERVICE,
                "/spec/externalIPs/0",
                json!("10.0.0.1"),
            ),
            (
                "ui.service.loadBalancerIP=10.0.0.2",
                SERVICE,
                "/spec/loadBalancerIP",
                json!("10.0.0.2"),
            ),
            (
                "ui.service.loadBalancerSourceRanges[0]=10.0.0.0/8",
                SERVICE,
                "/spec/loadBalancerSourceRanges/0",
                json!("10.0.0.0/8"),
            ),
            (
                "ui.service.clusterIP=10.0.0.3",
                SERVICE,
                "/spec/clusterIP",
                json!("10.0.0.3"),
            ),
            (
                "ui.service.type=NodePort,ui.service.nodePort=30080",
                SERVICE,
                "/spec/ports/0/nodePort",
                json!(30080),
            ),
            (
                "ui.service.portName=web",
                SERVICE,
                "/spec/ports/0/name",
                json!("web"),
            ),
        ],
    )
}

#[test]
fn a_release_of_another_name_has_the_names_of_the_original() -> Result<()> {
    let objects = Release::default().named("sw").values(DEPLOYMENT).render()?;
    let names: Vec<&str> = objects
        .iter()
        .filter_map(|o| o["metadata"]["name"].as_str())
        .collect();
    for name in ["sw-skywalking-oap", "sw-skywalking-ui", "sw-skywalking"] {
        ensure!(names.contains(&name), "{name}: {names:?}");
    }
    Ok(())
}
