//! What a release of the original charts and one of ours must have in common, so that one can follow the other in place (deployment spec, A3; the
//! values of a deployment, rendered by the charts 3.1.0 to 4.3.0), and what only some charts have.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::objects::Kinds;
use super::rendered::{Release, env, of_kind};
use super::{DEPLOYMENT, EMBEDDED, EVERYTHING};

/// Kind, name, a field and what every one of those charts has there. Selectors and roles cannot be changed by an upgrade; agents, the UI and
/// dashboards of the cluster know names, ports and labels.
fn of_the_original() -> Vec<(&'static str, &'static str, &'static str, Value)> {
    let is = |component: &str| json!({"app": "skywalking", "component": component, "release": "skywalking"});
    let (selector, pod) = (
        "/spec/selector/matchLabels",
        "/spec/template/metadata/labels",
    );
    vec![
        ("Deployment", "skywalking-oap", selector, is("oap")),
        ("Deployment", "skywalking-oap", pod, is("oap")),
        ("Deployment", "skywalking-ui", selector, is("ui")),
        ("Deployment", "skywalking-ui", pod, is("ui")),
        ("Service", "skywalking-oap", "/spec/selector", is("oap")),
        ("Service", "skywalking-ui", "/spec/selector", is("ui")),
        (
            "Service",
            "skywalking-oap",
            "/spec/type",
            json!("ClusterIP"),
        ),
        ("Service", "skywalking-ui", "/spec/ports/0/port", json!(80)),
        (
            "Service",
            "skywalking-ui",
            "/spec/ports/0/targetPort",
            json!(8080),
        ),
        ("RoleBinding", "skywalking", "/roleRef/kind", json!("Role")),
        (
            "RoleBinding",
            "skywalking",
            "/roleRef/name",
            json!("skywalking"),
        ),
        (
            "RoleBinding",
            "skywalking",
            "/subjects/0/name",
            json!("skywalking-oap"),
        ),
        (
            "Role",
            "skywalking",
            "/rules/0/resources",
            json!(["pods", "configmaps"]),
        ),
        (
            "Role",
            "skywalking",
            "/rules/0/verbs",
            json!(["get", "watch", "list"]),
        ),
        (
            "ServiceAccount",
            "skywalking-oap",
            "/metadata/labels/component",
            json!("oap"),
        ),
        (
            "Ingress",
            "skywalking-ui",
            "/spec/rules/0/host",
            json!("skywalking.example.test"),
        ),
        (
            "Ingress",
            "skywalking-ui",
            "/spec/rules/0/http/paths/0/path",
            json!("/"),
        ),
        (
            "Ingress",
            "skywalking-ui",
            "/metadata/annotations",
            json!({"kubernetes.io/ingress.class": "nginx"}),
        ),
    ]
}

#[test]
fn what_an_upgrade_cannot_change_and_others_rely_on_is_that_of_the_original() -> Result<()> {
    let objects = Release::default().values(DEPLOYMENT).render()?;
    for (kind, name, pointer, want) in of_the_original() {
        let found = of_kind(&objects, kind, name)?.pointer(pointer);
        ensure!(found == Some(&want), "{kind} {name} {pointer}: {found:?}");
    }
    let ports = &of_kind(&objects, "Service", "skywalking-oap")?["spec"]["ports"];
    let ports = ports.as_array().context("no ports")?;
    let ports: BTreeSet<(&str, i64)> = ports
        .iter()
        .filter_map(|port| Some((port["name"].as_str()?, port["port"].as_i64()?)))
        .collect();
    ensure!(ports == BTreeSet::from([("grpc", 11800), ("rest", 12800)]));
    Ok(())
}

/// No chart that knows the key renders it: who has set it finds the UI at the root, and would not find it elsewhere.
#[test]
fn the_path_of_the_ingress_is_that_of_its_hosts() -> Result<()> {
    let set = [
        "ui.ingress.path=/obs",
        "ui.ingress.hosts={a.test,b.test/c/d}",
    ];
    let objects = Release::default().values(DEPLOYMENT).set(&set).render()?;
    let ingress = of_kind(&objects, "Ingress", "skywalking-ui")?;
    for (rule, host, path) in [(0, "a.test", "/"), (1, "b.test", "/c/d")] {
        let rule = &ingress["spec"]["rules"][rule];
        ensure!(rule["host"] == host, "{rule}");
        ensure!(rule["http"]["paths"][0]["path"] == path, "{rule}");
    }
    Ok(())
}

#[test]
fn the_job_has_the_labels_of_the_original() -> Result<()> {
    for (release, component) in [
        ("skywalking", "skywalking-job"),
        ("sw", "sw-skywalking-job"),
    ] {
        let objects = Release::default()
            .named(release)
            .values(DEPLOYMENT)
            .render()?;
        let job = objects
            .iter()
            .find(|o| o["kind"] == "Job")
            .context("no job")?;
        let pod = &job["spec"]["template"]["metadata"]["labels"];
        let want = json!({"app": release, "component": component, "release": release});
        ensure!(*pod == want, "{pod}");
        ensure!(job["metadata"]["labels"]["component"] == component, "{job}");
    }
    Ok(())
}

/// From 4.4.0 on the original chart is called skywalking-helm, and its objects are.
#[test]
fn a_release_of_a_later_chart_keeps_its_names() -> Result<()> {
    let guide = include_str!("../../../docs/migrate.md");
    let set = "nameOverride=skywalking-helm";
    ensure!(guide.contains(&format!("--set {set}")), "the guide says it");
    let objects = Release::default().values(DEPLOYMENT).set(&[set]).render()?;
    for (kind, name) in [
        ("Deployment", "skywalking-skywalking-helm-oap"),
        ("Service", "skywalking-skywalking-helm-oap"),
        ("Deployment", "skywalking-skywalking-helm-ui"),
        ("ServiceAccount", "skywalking-skywalking-helm-oap"),
        ("Role", "skywalking-skywalking-helm"),
    ] {
        of_kind(&objects, kind, name)?;
    }
    Ok(())
}

#[test]
fn mixer_is_told_where_the_server_is() -> Result<()> {
    let set = ["oap.istio.adapter.enabled=true", "oap.ports.grpc=11801"];
    let objects = Release::default().values(DEPLOYMENT).set(&set).render()?;
    let kinds = Kinds::of("1.33.0")?;
    for object in &objects {
        kinds.check(object)?;
    }
    let adapter = of_kind(&objects, "adapter", "skywalking-adapter")?;
    ensure!(
        adapter["spec"]["templates"] == json!(["metric"]),
        "{adapter}"
    );
    let handler = of_kind(&objects, "handler", "skywalking-handler")?;
    ensure!(
        handler["spec"]
            == json!({
                "adapter": "skywalking-adapter",
                "connection": {"address": "skywalking-oap.skywalking.svc.cluster.local:11801"},
            }),
        "{handler}"
    );
    let rule = of_kind(&objects, "rule", "skywalking-metric-rule")?;
    ensure!(
        rule["spec"]["actions"]
            == json!([{"handler": "skywalking-handler.skywalking", "instances": ["skywalking-metric"]}]),
        "{rule}"
    );
    // Those that the receiver asks for.
    let instance = of_kind(&objects, "instance", "skywalking-metric")?;
    let dimensions = instance["spec"]["params"]["dimensions"].as_object();
    let dimensions = dimensions.context("no dimensions")?;
    let reader = include_str!("../../../src/analyzer/istio.rs");
    for (name, expression) in dimensions {
        ensure!(
            reader.contains(&format!("\"{name}\"")),
            "nobody reads {name}"
        );
        ensure!(expression.is_string(), "{name}");
    }
    ensure!(dimensions.len() == 14, "{dimensions:?}");
    let objects = Release::default().values(DEPLOYMENT).render()?;
    ensure!(of_kind(&objects, "adapter", "skywalking-adapter").is_err());
    Ok(())
}

/// A list of variables is merged by name: one that is there twice cannot be taken away again.
#[test]
fn no_variable_is_set_twice() -> Result<()> {
    let own = [
        "oap.env.SW_STORAGE_ES_CLUSTER_NODES=other:9200",
        "oap.env.SW_TELEMETRY=prometheus",
        "oap.env.SW_CORE_REST_PORT=22800",
        "oap.env.SW_ENVOY_METRIC_ALS_HTTP_ANALYSIS=k8s-mesh",
        "oap.env.SW_CLUSTER=standalone",
        "oap.secretKeyRefs[0].name=SW_ES_PASSWORD",
        "oap.secretKeyRefs[0].secretName=s",
        "oap.secretKeyRefs[0].key=k",
        "ui.env.SW_OAP_ADDRESS=elsewhere:12800",
    ];
    for values in [DEPLOYMENT, EVERYTHING, EMBEDDED] {
        for set in [&[][..], &own] {
            let objects = Release::default().values(values).set(set).render()?;
            for object in &objects {
                let pod = match object["kind"].as_str() {
                    Some("Pod") => &object["spec"],
                    _ => &object["spec"]["template"]["spec"],
                };
                let variables = env(&pod["containers"][0]);
                let names: Vec<&str> = variables
                    .iter()
                    .filter_map(|line| Some(line.split_once('=')?.0))
                    .collect();
                let once: BTreeSet<&str> = names.iter().copied().collect();
                ensure!(once.len() == names.len(), "{}: {names:?}", object["kind"]);
            }
            if !set.is_empty() {
                let oap = of_kind(&objects, "Deployment", "skywalking-oap")?;
                let variables = env(&oap["spec"]["template"]["spec"]["containers"][0]);
                for want in [
                    "SW_STORAGE_ES_CLUSTER_NODES=other:9200",
                    "SW_ES_PASSWORD=<k>",
                ] {
                    ensure!(variables.iter().any(|v| v == want), "{want}: {variables:?}");
                }
                let test = of_kind(&objects, "Pod", "skywalking-test")?;
                let variables = env(&test["spec"]["containers"][0]);
                ensure!(variables.iter().any(|v| v == "SW_CORE_REST_PORT=12800"));
            }
        }
    }
    Ok(())
}
