//! The chart: what it renders from values written for the original charts, valid for every Kubernetes that it says it is for.

mod elasticsearch;
mod keys;
mod notes;
mod objects;
mod original;
mod rendered;
mod table;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use self::objects::Kinds;
use self::rendered::{Release, chart, helm, of_kind};

/// The oldest and the newest Kubernetes that the chart is for, and the versions at which it renders something else.
const VERSIONS: [&str; 5] = ["1.18.20", "1.19.0", "1.20.15", "1.21.0", "1.33.0"];

/// The values of a deployment of the original, as they are.
const DEPLOYMENT: &str = include_str!("../data/values-of-a-deployment.yaml");

/// Everything that is optional at once.
const EVERYTHING: &str = "
oap:
  dynamicConfigEnabled: true
  dynamicConfig: {period: 30, config: {core.default.apdexThreshold: 'default: 500'}}
  envoy: {als: {enabled: true}}
  istio: {adapter: {enabled: true}}
  config: {oal: {core.oal: x}, alarm-settings.yml: y, a: {b: {c: z}}}
  secretMounts: [{name: trust, secretName: es-trust, path: /trust/es.jks, subPath: es.jks, defaultMode: 256}]
  ports: {grpc: 11800, rest: 12800, zabbix: 10051}
  antiAffinity: hard
  startupProbe: {tcpSocket: {port: rest}}
  service: {type: LoadBalancer, annotations: {a: b}}
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1}}
  podAnnotations: {c: d}
initContainer: {enabled: true}
oapInit: {extraPodLabels: {e: f}, nodeSelector: {g: h}}
serviceMonitor: {enabled: true, labels: {release: prometheus}}
networkPolicy: {enabled: true, from: [{namespaceSelector: {}}]}
imagePullSecrets: [{name: registry}]
ui:
  env: {SW_TIMEOUT: 30000}
  ingress: {enabled: true, className: nginx, hosts: [a/b, c], tls: [{secretName: x, hosts: [a]}]}
  service: {nodePort: 30080, type: NodePort, portName: page, externalIPs: [10.0.0.1], loadBalancerSourceRanges: [10.0.0.0/8]}
elasticsearch:
  persistence: {enabled: true, annotations: {i: j}}
  esConfig: {elasticsearch.yml: 'k: l'}
  extraEnvs: [{name: A, value: text}]
  antiAffinity: soft
";

const EMBEDDED: &str =
    "oap: {storageType: h2, replicas: 1, persistence: {enabled: true, storageClass: '-'}}";

#[test]
fn every_object_is_valid_from_the_oldest_to_the_newest_kubernetes() -> Result<()> {
    for version in VERSIONS {
        let kinds = Kinds::of(version)?;
        for values in ["", DEPLOYMENT, EVERYTHING, EMBEDDED, notes::LATER] {
            let objects = Release::default()
                .values(values)
                .kubernetes(version)
                .render()?;
            ensure!(objects.len() >= 8, "{version} {values}: {}", objects.len());
            for object in &objects {
                kinds
                    .check(object)
                    .map_err(|e| e.context(format!("{version} {values} {object:#}")))?;
            }
        }
    }
    Ok(())
}

/// The check above must be able to fail.
#[test]
fn objects_that_are_not_valid_are_refused() -> Result<()> {
    let objects = Release::default().values(DEPLOYMENT).render()?;
    let deployment = of_kind(&objects, "Deployment", "skywalking-oap")?;
    let kinds = Kinds::of("1.18.20")?;
    for (pointer, value) in [
        ("/spec/template/spec/containers/0/livenesProbe", json!({})),
        (
            "/spec/template/spec/containers/0/ports/0/containerPort",
            json!("11800"),
        ),
        ("/spec/template/spec/containers/0/env/0/value", json!(1)),
        ("/spec/selector", Value::Null),
        ("/spec/template/metadata/annotations/a", json!(true)),
        ("/apiVersion", json!("extensions/v1beta1")),
        // Came with 1.19.
        (
            "/spec/template/spec/securityContext/seccompProfile",
            json!({"type": "RuntimeDefault"}),
        ),
    ] {
        let mut wrong = deployment.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap_or_default();
        let parent = wrong.pointer_mut(parent).and_then(Value::as_object_mut);
        let Some(parent) = parent else {
            anyhow::bail!("{pointer} is not there");
        };
        parent.insert(key.to_owned(), value);
        ensure!(kinds.check(&wrong).is_err(), "{pointer}");
    }
    Ok(())
}

/// Everything that a copy of the values of the original charts holds, among it what means nothing here, with their defaults.
const COPY: &str = "
nameOverride: ''
fullnameOverride: ''
serviceAccounts: {oap: null}
imagePullSecrets: []
initContainer: {image: busybox, tag: '1.30'}
oap:
  image: {repository: skywalking.docker.scarf.sh/apache/skywalking-oap-server, tag: null, pullPolicy: IfNotPresent}
  storageType: null
  dynamicConfigEnabled: false
  javaOpts: -Xmx2g -Xms2g
  resources: {}
  envoy: {als: {enabled: false}}
  istio: {adapter: {enabled: true}}
  env: null
  secretKeyRefs: null
  secretVolumes: null
ui: {image: {repository: apache/skywalking-ui, tag: null, pullPolicy: IfNotPresent}}
esInit: {nodeAffinity: {}, nodeSelector: {old: name}, tolerations: []}
elasticsearch:
  enabled: true
  config: {port: {http: 9200}, host: elasticsearch, user: xxx, password: xxx}
  masterService: ''
  roles: {master: 'true', ingest: 'true', data: 'true'}
  esMajorVersion: ''
  secretMounts: []
  initResources: {}
  sidecarResources: {}
  networkHost: 0.0.0.0
  rbac: {create: false, serviceAccountName: ''}
  podSecurityPolicy: {create: false, name: '', spec: {privileged: true, fsGroup: {rule: RunAsAny}}}
  extraVolumes: ''
  extraVolumeMounts: ''
  extraInitContainers: ''
  protocol: http
  service: {labels: {}, type: ClusterIP, nodePort: '', annotations: {}, httpPortName: http, transportPortName: transport}
  maxUnavailable: 1
  fsGroup: ''
  securityContext: {capabilities: {drop: [ALL]}, runAsNonRoot: true, runAsUser: 1000}
  readinessProbe: {failureThreshold: 3, initialDelaySeconds: 10, periodSeconds: 10, successThreshold: 3, timeoutSeconds: 5}
  clusterHealthCheckParams: wait_for_status=green&timeout=1s
  schedulerName: ''
  imagePullSecrets: []
  ingress: {enabled: false, annotations: {}, path: /, hosts: [chart-example.local], tls: []}
  nameOverride: ''
  fullnameOverride: ''
  masterTerminationFix: false
  lifecycle: {}
  keystore: []
";

#[test]
fn a_copy_of_the_values_of_the_original_renders() -> Result<()> {
    let objects = Release::default().values(COPY).render()?;
    let kinds = Kinds::of("1.33.0")?;
    for object in &objects {
        kinds.check(object)?;
    }
    let oap = of_kind(&objects, "Deployment", "skywalking-oap")?;
    let container = &oap["spec"]["template"]["spec"]["containers"][0];
    let env = rendered::env(container);
    let node = "SW_STORAGE_ES_CLUSTER_NODES=elasticsearch-master:9200".to_owned();
    ensure!(
        env.contains(&node) && !env.iter().any(|e| e.contains("xxx")),
        "{env:?}"
    );
    ensure!(container["image"] == "oap:0.1.0", "{container}");
    let ui = of_kind(&objects, "Deployment", "skywalking-ui")?;
    let image = &ui["spec"]["template"]["spec"]["containers"][0]["image"];
    ensure!(image == "apache/skywalking-ui:8.1.0", "{image}");
    let job = objects
        .iter()
        .find(|o| o["kind"] == "Job")
        .context("no job")?;
    let selector = &job["spec"]["template"]["spec"]["nodeSelector"];
    ensure!(*selector == json!({"old": "name"}), "{selector}");
    Ok(())
}

#[test]
fn helm_finds_nothing_to_complain_about() -> Result<()> {
    for values in ["", DEPLOYMENT, EVERYTHING, EMBEDDED] {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(&file, values)?;
        let path = file.path().display().to_string();
        let said = helm(&["lint", "--strict", &chart(), "-f", &path])?;
        ensure!(said.contains("0 chart(s) failed"), "{said}");
    }
    Ok(())
}

#[test]
fn the_values_of_a_deployment_run_this_server_under_the_names_of_the_original() -> Result<()> {
    let objects = Release::default().values(DEPLOYMENT).render()?;
    let names: Vec<String> = objects
        .iter()
        .map(|o| format!("{} {}", o["kind"], o["metadata"]["name"]).replace('"', ""))
        .collect();
    for name in [
        "ServiceAccount skywalking-oap",
        "Role skywalking",
        "RoleBinding skywalking",
        "Service skywalking-oap",
        "Service skywalking-ui",
        "Deployment skywalking-oap",
        "Deployment skywalking-ui",
        "Ingress skywalking-ui",
        "PodDisruptionBudget skywalking-oap",
    ] {
        ensure!(names.iter().any(|n| n == name), "{name}: {names:?}");
    }
    ensure!(
        !names.iter().any(|n| n.starts_with("StatefulSet")),
        "{names:?}"
    );
    let oap = of_kind(&objects, "Deployment", "skywalking-oap")?;
    let labels = json!({"app": "skywalking", "component": "oap", "release": "skywalking"});
    ensure!(oap["spec"]["selector"]["matchLabels"] == labels, "{oap:#}");
    let container = &oap["spec"]["template"]["spec"]["containers"][0];
    ensure!(container["image"] == "oap:0.1.0", "{container:#}");
    let env: Vec<String> = rendered::env(container);
    let want = [
        "JAVA_OPTS=-Dmode=no-init -Xmx2g -Xms2g",
        "SW_CLUSTER=kubernetes",
        "SW_CLUSTER_K8S_NAMESPACE=skywalking",
        "SW_CLUSTER_K8S_LABEL=app=skywalking,release=skywalking,component=oap",
        "SKYWALKING_COLLECTOR_UID=<metadata.uid>",
        "SW_STORAGE=elasticsearch7",
        "SW_STORAGE_ES_CLUSTER_NODES=es.example.test:9200",
        "SW_ES_USER=elastic",
        "SW_ES_PASSWORD=secret",
        "SW_NAMESPACE=skywalking",
    ];
    ensure!(env == want, "{env:#?}");
    let first = &container["startupProbe"];
    let seconds = first["periodSeconds"]
        .as_i64()
        .zip(first["failureThreshold"].as_i64());
    ensure!(
        seconds.is_some_and(|(each, times)| each * times >= 600),
        "{first}"
    );
    // A process of any user and a root file system that nobody writes to.
    ensure!(container["securityContext"]["readOnlyRootFilesystem"] == true);
    Ok(())
}

#[test]
fn an_upgrade_changes_no_job() -> Result<()> {
    let job = |values: &str, set: &[&str]| -> Result<(String, Value)> {
        let objects = Release::default().values(values).set(set).render()?;
        let job = objects.into_iter().find(|o| o["kind"] == "Job");
        let job = job.ok_or_else(|| anyhow::anyhow!("no job"))?;
        let name = job["metadata"]["name"].as_str().unwrap_or_default();
        Ok((name.to_owned(), job["spec"].clone()))
    };
    let (name, spec) = job(DEPLOYMENT, &[])?;
    ensure!(
        (name.as_str(), &spec) == {
            let same = job(DEPLOYMENT, &["oap.replicas=3"])?;
            ensure!(same == (name.clone(), spec.clone()));
            (name.as_str(), &spec)
        }
    );
    // Whatever changes what it runs gives it another name.
    for change in [
        "image.tag=2",
        "oap.javaOpts=-Xmx1g",
        "oap.env.SW_NAMESPACE=other",
        "oap.config.oal.core\\.oal=x",
        "oap.resources.limits.memory=1Gi",
        "elasticsearch.config.host=other",
    ] {
        let (other, _) = job(DEPLOYMENT, &[change])?;
        ensure!(other != name, "{change}");
        ensure!(other.starts_with("skywalking-es-init-"), "{other}");
    }
    Ok(())
}

#[test]
fn what_cannot_work_is_refused_with_a_reason() -> Result<()> {
    for (set, reason) in [
        (
            "oap.storageType=mysql",
            "this server has elasticsearch7, elasticsearch and h2",
        ),
        ("oap.storageType=h2", "set oap.replicas to 1"),
        ("satellite.enabled=true", "this chart has no satellite"),
        (
            "oap.ports.zipkinreceiver=9411",
            "does not speak the protocols of Zipkin",
        ),
        (
            "oap.ports.zipkinquery=9412",
            "does not speak the protocols of Zipkin",
        ),
        (
            "elasticsearch.version=8.18.8",
            "set elasticsearch.enabled to false",
        ),
        ("oap.config.a.b.c.d=text", "oap.config.a.b.c is a map"),
        (
            "oap.dynamicConfig.enabled=true,oap.dynamicConfig.config.a.b=1",
            "oap.dynamicConfig.config: a is no text",
        ),
    ] {
        let error = Release::default().set(&[set]).render().err();
        let error = error.map(|e| format!("{e:#}")).unwrap_or_default();
        ensure!(error.contains(reason), "{set}: {error}");
    }
    let error = Release::default()
        .set(&["elasticsearch.enabled=false", "elasticsearch.config.host="])
        .render()
        .err();
    let error = error.map(|e| format!("{e:#}")).unwrap_or_default();
    ensure!(error.contains("elasticsearch.config.host"), "{error}");
    Ok(())
}
