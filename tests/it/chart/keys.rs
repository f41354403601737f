//! Keys that came with later versions of the original chart (deployment spec, A6), what is new in ours, and those of the Elasticsearch
//! beside it (A2): what changes if they do.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::DEPLOYMENT;
use super::rendered::Release;
use super::table::check;

/// Change, object, field and what is there then, in JSON. `POD`, `BOX` and `META` are paths of a pod template.
const SERVER: &str = r#"
oap.service.annotations.a=1                      ; Service skywalking-oap      ; /metadata/annotations/a ; "1"
oap.startupProbe.periodSeconds=7                 ; Deployment skywalking-oap   ; BOX/startupProbe/periodSeconds ; 7
oap.livenessProbe.httpGet.path=/readiness        ; Deployment skywalking-oap   ; BOX/livenessProbe/tcpSocket ; null
oap.readinessProbe.exec.command[0]=/skywalking/bin/swctl ; Deployment skywalking-oap ; BOX/readinessProbe/exec/command/0 ; "/skywalking/bin/swctl"
oap.containerSecurityContext.runAsUser=8         ; Deployment skywalking-oap   ; BOX/securityContext/runAsUser ; 8
oap.strategy.type=Recreate                       ; Deployment skywalking-oap   ; /spec/strategy/type ; "Recreate"
oap.terminationGracePeriodSeconds=60             ; Deployment skywalking-oap   ; POD/terminationGracePeriodSeconds ; 60
oap.podDisruptionBudget.maxUnavailable=2         ; PodDisruptionBudget skywalking-oap ; /spec/maxUnavailable ; 2
oap.podDisruptionBudget.enabled=false            ; PodDisruptionBudget skywalking-oap ; ; false
oap.dynamicConfig.enabled=true,oap.dynamicConfig.period=30 ; Deployment skywalking-oap ; env ; "SW_CONFIG_CONFIGMAP_PERIOD=30"
oap.dynamicConfig.enabled=true,oap.dynamicConfig.config.a=b ; ConfigMap skywalking-dynamic-config ; /data/a ; "b"
oap.config.gateways\.yml=x                      ; Job skywalking-es-init-*    ; BOX/volumeMounts/1/mountPath ; "/skywalking/config/gateways.yml"
oap.config.a.b.c=x                               ; ConfigMap skywalking-oap-cm-override ; /data/a-b-c ; "x"
oap.secretMounts[0].name=t,oap.secretMounts[0].secretName=s,oap.secretMounts[0].path=/t ; Deployment skywalking-oap ; BOX/volumeMounts/1/mountPath ; "/t"
oap.secretMounts[0].name=t,oap.secretMounts[0].secretName=s,oap.secretMounts[0].path=/t ; Job skywalking-es-init-* ; POD/volumes/1/secret/secretName ; "s"
oap.secretMounts[0].name=t,oap.secretMounts[0].subPath=k ; Deployment skywalking-oap ; BOX/volumeMounts/1/subPath ; "k"
oap.secretMounts[0].name=t,oap.secretMounts[0].defaultMode=256 ; Deployment skywalking-oap ; POD/volumes/1/secret/defaultMode ; 256
oap.secretVolumes[0].name=t,oap.secretVolumes[0].secretName=s ; Deployment skywalking-oap ; BOX/volumeMounts/1/mountPath ; "/skywalking/certs"
oap.secretVolumes[0].name=t,oap.secretVolumes[0].mountPath=/m ; Job skywalking-es-init-* ; BOX/volumeMounts/1/mountPath ; "/m"
oap.secretVolumes[0].name=t,oap.secretVolumes[0].items[0].key=k ; Deployment skywalking-oap ; POD/volumes/1/secret/items/0/key ; "k"
oap.secretKeyRefs[0].name=SW_ES_PASSWORD,oap.secretKeyRefs[0].key=k ; Deployment skywalking-oap ; env ; "SW_ES_PASSWORD=<k>"
oap.secretKeyRefs[0].name=SW_ES_PASSWORD,oap.secretKeyRefs[0].key=k ; Job skywalking-es-init-* ; env ; "SW_ES_PASSWORD=<k>"
oap.initEs=false                                 ; Job skywalking-es-init-*    ; ; false
oap.env.SW_CORE_RECORD_DATA_TTL=1000000          ; Deployment skywalking-oap   ; env ; "SW_CORE_RECORD_DATA_TTL=1000000"
oap.istio.adapter.enabled=true                   ; handler skywalking-handler  ; /spec/connection/address ; "skywalking-oap.skywalking.svc.cluster.local:11800"
oap.env.SW_CORE_GRPC_PORT=21800                  ; Deployment skywalking-oap   ; BOX/ports/0/containerPort ; 21800
oap.env.SW_CORE_REST_PORT=22800                  ; Deployment skywalking-oap   ; BOX/ports/1/containerPort ; 22800
networkPolicy.enabled=true,oap.env.SW_CORE_REST_PORT=22800 ; NetworkPolicy skywalking-oap ; /spec/ingress/0/ports/1/port ; 22800
serviceMonitor.enabled=true,oap.env.SW_TELEMETRY_PROMETHEUS_PORT=9 ; Deployment skywalking-oap ; BOX/ports/2/containerPort ; 9
oap.env.SW_ENVOY_METRIC_ALS_HTTP_ANALYSIS=k8s-mesh ; ClusterRole skywalking-skywalking ; ; true
ui.env.SW_OAP_ADDRESS=other:1                    ; Deployment skywalking-ui    ; env ; "SW_OAP_ADDRESS=other:1"
oap.podAnnotations.a=true                        ; Deployment skywalking-oap   ; META/annotations/a ; "true"
oapInit.nodeAffinity.a=b                         ; Job skywalking-es-init-*    ; POD/affinity/nodeAffinity/a ; "b"
oapInit.nodeSelector.a=b                         ; Job skywalking-es-init-*    ; POD/nodeSelector/a ; "b"
oapInit.tolerations[0].key=k                     ; Job skywalking-es-init-*    ; POD/tolerations/0/key ; "k"
oapInit.extraPodLabels.sidecar=false             ; Job skywalking-es-init-*    ; META/labels/sidecar ; "false"
esInit.nodeSelector.a=b                          ; Job skywalking-es-init-*    ; POD/nodeSelector/a ; "b"
initContainer.enabled=true,initContainer.image=i ; Deployment skywalking-oap   ; POD/initContainers/0/image ; "i:1.30"
initContainer.enabled=true,initContainer.tag=2   ; Job skywalking-es-init-*    ; POD/initContainers/0/image ; "busybox:2"
image.pullPolicy=Never,oap.image.pullPolicy=     ; Deployment skywalking-oap   ; BOX/imagePullPolicy ; "Never"
oap.image.repository=r/own,oap.image.tag=7       ; Deployment skywalking-oap   ; BOX/image ; "r/own:7"
serviceMonitor.enabled=true,serviceMonitor.interval=9s ; ServiceMonitor skywalking-oap ; /spec/endpoints/0/interval ; "9s"
serviceMonitor.enabled=true,serviceMonitor.labels.a=b  ; ServiceMonitor skywalking-oap ; /metadata/labels/a ; "b"
serviceMonitor.enabled=true,serviceMonitor.labels.release=p ; ServiceMonitor skywalking-oap ; /metadata/labels/release ; "p"
networkPolicy.enabled=true,networkPolicy.from[0].podSelector.a=b ; NetworkPolicy skywalking-oap ; /spec/ingress/0/from/0/podSelector/a ; "b"
ui.nodeAffinity.a=b                              ; Deployment skywalking-ui    ; POD/affinity/nodeAffinity/a ; "b"
ui.nodeSelector.a=b                              ; Deployment skywalking-ui    ; POD/nodeSelector/a ; "b"
ui.tolerations[0].key=k                          ; Deployment skywalking-ui    ; POD/tolerations/0/key ; "k"
ui.securityContext.runAsUser=9                   ; Deployment skywalking-ui    ; POD/securityContext/runAsUser ; 9
ui.image.tag=9.7.0                               ; Deployment skywalking-ui    ; env ; "SW_OAP_ADDRESS=http://skywalking-oap:12800"
ui.ingress.annotations.redirect=false            ; Ingress skywalking-ui       ; /metadata/annotations/redirect ; "false"
ui.ingress.className=nginx                       ; Ingress skywalking-ui       ; /spec/ingressClassName ; "nginx"
ui.service.annotations.a=1                       ; Service skywalking-ui       ; /metadata/annotations/a ; "1"
elasticsearch.config.password=123456789          ; Deployment skywalking-oap   ; env ; "SW_ES_PASSWORD=123456789"
"#;

const EMBEDDED: &str = "oap: {storageType: h2, replicas: 1}";
const STORE: &str = r#"
oap.dynamicConfigEnabled=true                    ; Deployment skywalking-oap   ; env ; "SW_CLUSTER_K8S_NAMESPACE=skywalking"
oap.dynamicConfigEnabled=true                    ; Deployment skywalking-oap   ; env ; "SW_CLUSTER_K8S_LABEL=app=skywalking,release=skywalking,component=oap"
oap.persistence.enabled=true                     ; PersistentVolumeClaim skywalking-oap ; ; true
oap.persistence.enabled=true                     ; Deployment skywalking-oap   ; POD/volumes/0/persistentVolumeClaim/claimName ; "skywalking-oap"
oap.persistence.enabled=true,oap.persistence.size=7Gi ; PersistentVolumeClaim skywalking-oap ; /spec/resources/requests/storage ; "7Gi"
oap.persistence.enabled=true,oap.persistence.storageClass=fast ; PersistentVolumeClaim skywalking-oap ; /spec/storageClassName ; "fast"
oap.persistence.enabled=true,oap.persistence.accessModes[0]=ReadWriteOncePod ; PersistentVolumeClaim skywalking-oap ; /spec/accessModes/0 ; "ReadWriteOncePod"
oap.persistence.enabled=true,oap.persistence.existingClaim=mine ; Deployment skywalking-oap ; POD/volumes/0/persistentVolumeClaim/claimName ; "mine"
"#;

const ELASTICSEARCH: &str = r#"
elasticsearch.image=i                            ; StatefulSet elasticsearch-master ; BOX/image ; "i:7.5.1"
elasticsearch.imagePullPolicy=Always             ; StatefulSet elasticsearch-master ; BOX/imagePullPolicy ; "Always"
elasticsearch.imagePullSecrets[0].name=r         ; StatefulSet elasticsearch-master ; POD/imagePullSecrets/0/name ; "r"
elasticsearch.transportPort=9301                 ; Service elasticsearch-master-headless ; /spec/ports/1/port ; 9301
elasticsearch.esConfig.e\.yml=x                 ; ConfigMap elasticsearch-master-config ; /data/e.yml ; "x"
elasticsearch.persistence.enabled=true,elasticsearch.persistence.annotations.a=b ; StatefulSet elasticsearch-master ; /spec/volumeClaimTemplates/0/metadata/annotations/a ; "b"
elasticsearch.persistence.enabled=true,elasticsearch.volumeClaimTemplate.resources.requests.storage=9Gi ; StatefulSet elasticsearch-master ; /spec/volumeClaimTemplates/0/spec/resources/requests/storage ; "9Gi"
elasticsearch.antiAffinityTopologyKey=zone       ; StatefulSet elasticsearch-master ; POD/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/0/topologyKey ; "zone"
elasticsearch.nodeAffinity.a=b                   ; StatefulSet elasticsearch-master ; POD/affinity/nodeAffinity/a ; "b"
elasticsearch.podAnnotations.a=b                 ; StatefulSet elasticsearch-master ; META/annotations/a ; "b"
elasticsearch.labels.a=b                         ; StatefulSet elasticsearch-master ; META/labels/a ; "b"
elasticsearch.podManagementPolicy=OrderedReady   ; StatefulSet elasticsearch-master ; /spec/podManagementPolicy ; "OrderedReady"
elasticsearch.updateStrategy=OnDelete            ; StatefulSet elasticsearch-master ; /spec/updateStrategy/type ; "OnDelete"
elasticsearch.terminationGracePeriod=5           ; StatefulSet elasticsearch-master ; POD/terminationGracePeriodSeconds ; 5
elasticsearch.sysctlVmMaxMapCount=5              ; StatefulSet elasticsearch-master ; POD/initContainers/0/command/2 ; "vm.max_map_count=5"
elasticsearch.podSecurityContext.fsGroup=5       ; StatefulSet elasticsearch-master ; POD/securityContext/fsGroup ; 5
elasticsearch.readinessProbe.periodSeconds=5     ; StatefulSet elasticsearch-master ; BOX/readinessProbe/periodSeconds ; 5
elasticsearch.schedulerName=s                    ; StatefulSet elasticsearch-master ; POD/schedulerName ; "s"
elasticsearch.roles.ml=false                     ; StatefulSet elasticsearch-master ; env ; "node.ml=false"
elasticsearch.securityContext.runAsUser=5        ; StatefulSet elasticsearch-master ; BOX/securityContext/runAsUser ; 5
elasticsearch.lifecycle.preStop.exec.command[0]=x ; StatefulSet elasticsearch-master ; BOX/lifecycle/preStop/exec/command/0 ; "x"
elasticsearch.service.type=LoadBalancer          ; Service elasticsearch-master ; /spec/type ; "LoadBalancer"
elasticsearch.service.type=NodePort,elasticsearch.service.nodePort=30920 ; Service elasticsearch-master ; /spec/ports/0/nodePort ; 30920
elasticsearch.service.annotations.a=1            ; Service elasticsearch-master ; /metadata/annotations/a ; "1"
elasticsearch.secretMounts[0].name=t,elasticsearch.secretMounts[0].path=/t ; StatefulSet elasticsearch-master ; BOX/volumeMounts/1/mountPath ; "/t"
elasticsearch.secretMounts[0].name=t,elasticsearch.secretMounts[0].secretName=s ; StatefulSet elasticsearch-master ; POD/volumes/1/secret/secretName ; "s"
elasticsearch.extraVolumes[0].name=v             ; StatefulSet elasticsearch-master ; POD/volumes/1/name ; "v"
elasticsearch.extraVolumeMounts[0].name=v        ; StatefulSet elasticsearch-master ; BOX/volumeMounts/1/name ; "v"
elasticsearch.extraInitContainers[0].name=c      ; StatefulSet elasticsearch-master ; POD/initContainers/0/name ; "c"
"#;

fn check_lines(values: &str, lines: &str) -> Result<()> {
    let full = |pointer: &str| {
        pointer
            .replacen("POD", "/spec/template/spec", 1)
            .replacen("BOX", "/spec/template/spec/containers/0", 1)
            .replacen("META", "/spec/template/metadata", 1)
    };
    let mut rows = Vec::new();
    for line in lines.lines().filter(|line| !line.is_empty()) {
        let mut parts = line.split(';').map(str::trim);
        let mut part = || parts.next().with_context(|| line.to_owned());
        let (set, object, pointer) = (part()?, part()?, full(part()?));
        let want: Value = serde_json::from_str(part()?).with_context(|| line.to_owned())?;
        rows.push((set, object, pointer, want));
    }
    let rows: Vec<_> = rows
        .iter()
        .map(|(set, object, pointer, want)| (*set, *object, pointer.as_str(), want.clone()))
        .collect();
    check(values, &rows)
}

/// In a file, other than on the command line, helm has every number as a floating one.
const NUMBERS: &str = "
oap:
  env: {SW_CORE_RECORD_DATA_TTL: 1000000}
  podAnnotations: {number: 20000000}
  dynamicConfig: {enabled: true, config: {number: 3000000}}
elasticsearch: {sysctlVmMaxMapCount: 1048576}
ui: {env: {SW_TIMEOUT: 4000000}}
";

#[test]
fn large_numbers_of_a_file_stay_what_they_are() -> Result<()> {
    let objects = Release::default().values(NUMBERS).render()?;
    let text = serde_json::to_string(&objects)?;
    for want in [
        r#"{"name":"SW_CORE_RECORD_DATA_TTL","value":"1000000"}"#,
        r#""number":"20000000""#,
        r#""number":"3000000""#,
        r#""vm.max_map_count=1048576""#,
        r#"{"name":"SW_TIMEOUT","value":"4000000"}"#,
    ] {
        ensure!(text.contains(want), "{want}: {text}");
    }
    Ok(())
}

#[test]
fn every_later_key_of_the_server_changes_its_field() -> Result<()> {
    check_lines(DEPLOYMENT, SERVER)
}

#[test]
fn every_key_of_the_embedded_store_changes_its_field() -> Result<()> {
    check_lines(EMBEDDED, STORE)
}

#[test]
fn every_key_of_the_elasticsearch_beside_it_changes_its_field() -> Result<()> {
    check_lines("", ELASTICSEARCH)
}
