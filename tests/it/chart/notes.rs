//! What `helm install` says, and files that lie in the chart: both need a copy of it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::rendered::{Release, chart, of_kind};
use super::{COPY, DEPLOYMENT};

/// Helm renders notes for a cluster only.
const SHOWS_NOTES: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: notes}
data:
  text: {{ include \"skywalking.notes\" . | quote }}
";

/// As values of the last charts are (deployment spec, A6), with an Elasticsearch of their owner.
pub(super) const LATER: &str = "
serviceAccounts: {oap: {create: true, name: ''}}
imagePullSecrets: []
initContainer: {image: busybox, tag: '1.30'}
oap:
  image: {repository: skywalking.docker.scarf.sh/apache/skywalking-oap-server, tag: 8.1.0, pullPolicy: IfNotPresent}
  storageType: elasticsearch
  ports: {grpc: 11800, rest: 12800}
  service: {type: ClusterIP, annotations: {}}
  livenessProbe: {tcpSocket: {port: 12800}, initialDelaySeconds: 5, periodSeconds: 20}
  startupProbe: {}
  readinessProbe: {}
  securityContext: {}
  env: null
  config: {log4j2.xml: x, oal: {core.oal: y}, ui-initialized-templates: {general: {general.json: z}}}
  dynamicConfig: {enabled: true, period: 60, config: {core.default.apdexThreshold: 'default: 500'}}
  secretMounts: [{name: certs, secretName: certs, path: /certs}]
ui:
  image: {repository: skywalking.docker.scarf.sh/apache/skywalking-ui, tag: 8.1.0, pullPolicy: IfNotPresent}
  nodeAffinity: {}
  securityContext: {}
  env: null
oapInit: {nodeAffinity: {}, nodeSelector: {}, tolerations: [], extraPodLabels: {}}
elasticsearch:
  enabled: false
  version: 8.18.8
  config: {host: es.test, port: {http: 9200}, user: u, password: p}
  nodeSets: [{name: default, count: 3}]
  http: {tls: {selfSignedCertificate: {disabled: true}}}
  updateStrategy: {}
postgresql: {enabled: false, auth: {username: postgres}}
banyandb: {enabled: false, config: {grpcAddress: x}}
satellite: {name: satellite, replicas: 1, enabled: false}
";

/// A chart that can be changed.
struct Copy {
    folder: tempfile::TempDir,
}

impl Copy {
    fn new() -> Result<Copy> {
        let folder = tempfile::tempdir()?;
        let copied = Command::new("cp")
            .args(["-R", &chart()])
            .arg(folder.path())
            .output()?;
        ensure!(copied.status.success(), "{copied:?}");
        Ok(Copy { folder })
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("skywalking")
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.path().join(file);
        std::fs::create_dir_all(path.parent().context("no folder")?)?;
        Ok(std::fs::write(path, text)?)
    }

    fn notes(&self, values: &str, set: &[&str]) -> Result<String> {
        let objects = Release::default()
            .of(&self.path())
            .values(values)
            .set(set)
            .render()?;
        let notes = of_kind(&objects, "ConfigMap", "notes")?;
        Ok(notes["data"]["text"]
            .as_str()
            .unwrap_or_default()
            .to_owned())
    }
}

#[test]
fn an_install_names_every_value_without_effect() -> Result<()> {
    let copy = Copy::new()?;
    let shown = std::fs::read_to_string(copy.path().join("templates/NOTES.txt"))?;
    ensure!(
        shown.contains(r#"{{ include "skywalking.notes" . }}"#),
        "{shown}"
    );
    copy.write("templates/notes-as-a-map.yaml", SHOWS_NOTES)?;
    const NAMED: &str = "Without effect in this chart: ";
    // All of a copy has the original's defaults, or is taken.
    for values in ["", DEPLOYMENT, LATER, COPY] {
        let notes = copy.notes(values, &[])?;
        ensure!(!notes.contains("effect"), "{notes}");
    }
    for (set, named) in [
        ("oap.podAnnotation.a=b", "oap.podAnnotation"),
        ("oap.image.digest=x", "oap.image.digest"),
        ("oap.istio.gateway.a=b", "oap.istio.gateway"),
        ("ui.ingress.host=x", "ui.ingress.host"),
        ("ui.ingress.path=/obs", "ui.ingress.path"),
        ("ui.service.targetPort=1", "ui.service.targetPort"),
        ("banyandb.enabled=true", "banyandb"),
        ("postgresql.enabled=true", "postgresql"),
        ("extra.a=b", "extra"),
        (
            "elasticsearch.keystore[0].secretName=s",
            "elasticsearch.keystore",
        ),
        (
            "elasticsearch.minimumMasterNodes=3",
            "elasticsearch.minimumMasterNodes",
        ),
        (
            "elasticsearch.maxUnavailable=2",
            "elasticsearch.maxUnavailable",
        ),
        ("serviceAccounts.satellite=s", "serviceAccounts.satellite"),
    ] {
        let notes = copy.notes("", &[set])?;
        ensure!(
            notes.contains(&format!("{NAMED}{named}\n")),
            "{set}: {notes}"
        );
    }
    for quiet in ["satellite.enabled=false", "oap.istio.adapter.enabled=false"] {
        let notes = copy.notes("", &[quiet])?;
        ensure!(!notes.contains(NAMED), "{quiet}: {notes}");
    }
    let notes = copy.notes(DEPLOYMENT, &["elasticsearch.keystore[0].secretName=s"])?;
    ensure!(
        !notes.contains(NAMED),
        "there is no such Elasticsearch: {notes}"
    );
    Ok(())
}

#[test]
fn an_install_says_which_image_runs() -> Result<()> {
    let copy = Copy::new()?;
    copy.write("templates/notes-as-a-map.yaml", SHOWS_NOTES)?;
    for (repository, tag, image, says) in [
        (
            "apache/skywalking-oap-server",
            "8.1.0-es7",
            "oap:0.1.0",
            "Java server",
        ),
        (
            "r.test/x/skywalking-oap-server",
            "8.1.0-es7",
            "oap:0.1.0",
            "Java server",
        ),
        (
            "r.test/x/skywalking-oap-server",
            "9.2.0",
            "oap:0.1.0",
            "Java server",
        ),
        (
            "r.test/x/skywalking-oap-server",
            "mine",
            "r.test/x/skywalking-oap-server:mine",
            "",
        ),
        ("r.test/oap", "8.1.0", "r.test/oap:8.1.0", ""),
        (
            "",
            "8.1.0-es7",
            "oap:0.1.0",
            "no effect without oap.image.repository",
        ),
        ("", "", "oap:0.1.0", ""),
    ] {
        let repository = format!("oap.image.repository={repository}");
        let tag = format!("oap.image.tag={tag}");
        let notes = copy.notes("", &[&repository, &tag])?;
        let (first, rest) = notes.split_once('\n').context("one line")?;
        ensure!(
            first == format!("2 × {image}"),
            "{repository} {tag}: {notes}"
        );
        let is_told = match says {
            "" => rest.starts_with("\nAgents report to"),
            says => rest.contains(says),
        };
        ensure!(is_told, "{repository} {tag}: {notes}");
    }
    Ok(())
}

#[test]
fn files_in_the_chart_lie_over_those_of_the_image() -> Result<()> {
    let copy = Copy::new()?;
    copy.write("files/conf.d/oap/alarm-settings.yml", "rules: {}")?;
    copy.write("files/conf.d/oap/oal/core.oal", "of the chart")?;
    let values = "oap: {config: {oal: {core.oal: of the values}}}";
    let objects = Release::default()
        .of(&copy.path())
        .values(values)
        .render()?;
    let map = of_kind(&objects, "ConfigMap", "skywalking-oap-cm-override")?;
    ensure!(map["data"]["alarm-settings.yml"] == "rules: {}", "{map}");
    ensure!(map["data"]["oal-core.oal"] == "of the values", "{map}");
    let job = objects.iter().find(|o| o["kind"] == "Job");
    let oap = of_kind(&objects, "Deployment", "skywalking-oap")?;
    for object in [oap, job.context("no job")?] {
        let mounts = &object["spec"]["template"]["spec"]["containers"][0]["volumeMounts"];
        let text = mounts.to_string();
        for path in ["alarm-settings.yml", "oal/core.oal"] {
            let path = format!("\"/skywalking/config/{path}\"");
            ensure!(text.contains(&path), "{path}: {text}");
        }
    }
    Ok(())
}
