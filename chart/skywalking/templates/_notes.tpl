{{/* Which values of a user mean nothing to this chart. Each list: the keys that do. */}}
{{- define "skywalking.known" -}}
"": [nameOverride, fullnameOverride, imagePullSecrets, image, serviceAccounts, initContainer, oap, serviceMonitor, networkPolicy, oapInit, esInit, ui, elasticsearch, global]
image: [repository, tag, pullPolicy]
serviceAccounts: [oap]
initContainer: [enabled, image, tag]
serviceMonitor: [enabled, interval, labels]
networkPolicy: [enabled, from]
oapInit: [nodeAffinity, nodeSelector, tolerations, extraPodLabels]
esInit: [nodeAffinity, nodeSelector, tolerations]
oap: [name, dynamicConfigEnabled, dynamicConfig, image, storageType, ports, replicas, service, javaOpts, antiAffinity, nodeAffinity, nodeSelector, tolerations, resources, podAnnotations, livenessProbe, readinessProbe, startupProbe, securityContext, containerSecurityContext, strategy, terminationGracePeriodSeconds, persistence, podDisruptionBudget, config, secretMounts, secretKeyRefs, secretVolumes, envoy, istio, env, initEs]
oap.image: [repository, tag, pullPolicy]
oap.service: [type, annotations]
oap.dynamicConfig: [enabled, period, config]
oap.persistence: [enabled, size, storageClass, accessModes, existingClaim]
oap.podDisruptionBudget: [enabled, maxUnavailable]
oap.envoy: [als]
oap.istio: [adapter]
oap.istio.adapter: [enabled]
ui: [name, replicas, image, resources, podAnnotations, nodeAffinity, nodeSelector, tolerations, securityContext, env, ingress, service]
ui.image: [repository, tag, pullPolicy]
ui.ingress: [enabled, annotations, hosts, tls, className]
ui.service: [type, externalPort, internalPort, annotations, externalIPs, loadBalancerIP, loadBalancerSourceRanges, clusterIP, nodePort, portName]
elasticsearch: [enabled, config, clusterName, nodeGroup, image, imageTag, imagePullPolicy, imagePullSecrets, replicas, httpPort, transportPort, esJavaOpts, esConfig, extraEnvs, resources, persistence, volumeClaimTemplate, antiAffinity, antiAffinityTopologyKey, nodeAffinity, nodeSelector, tolerations, podAnnotations, labels, priorityClassName, schedulerName, podManagementPolicy, updateStrategy, terminationGracePeriod, sysctlVmMaxMapCount, sysctlInitContainer, podSecurityContext, securityContext, lifecycle, readinessProbe, roles, secretMounts, extraVolumes, extraVolumeMounts, extraInitContainers, service]
{{- end -}}

{{/* What a copy of the original's values says although nobody meant it. */}}
{{- define "skywalking.defaultsOfOld" -}}
ui: {ingress: {path: /}}
elasticsearch:
  minimumMasterNodes: 2
  networkHost: 0.0.0.0
  rbac: {create: false, serviceAccountName: ""}
  podSecurityPolicy:
    create: false
    name: ""
    spec:
      privileged: true
      fsGroup: {rule: RunAsAny}
      runAsUser: {rule: RunAsAny}
      seLinux: {rule: RunAsAny}
      supplementalGroups: {rule: RunAsAny}
      volumes: [secret, configMap, persistentVolumeClaim]
  protocol: http
  maxUnavailable: 1
  clusterHealthCheckParams: wait_for_status=green&timeout=1s
{{- end -}}

{{/* Paths of values without effect. What is switched off or empty is not one. */}}
{{- define "skywalking.withoutEffect" -}}
{{- $values := .Values -}}
{{- $found := list -}}
{{- $old := include "skywalking.defaultsOfOld" . | fromYaml -}}
{{- range $path, $known := include "skywalking.known" . | fromYaml -}}
{{- $map := $values -}}
{{- $same := $old -}}
{{- range splitList "." $path -}}{{- if . -}}
{{- $map = get ($map | default dict) . | default dict -}}
{{- $same = get $same . | default dict -}}
{{- end -}}{{- end -}}
{{- if and (kindIs "map" $map) (or (ne $path "elasticsearch") $map.enabled) -}}
{{- range $key, $value := $map -}}
{{- $isOff := or (empty $value) (and (kindIs "map" $value) (or (eq (toString $value.enabled) "false") (eq (toString $value.create) "false"))) -}}
{{- $isOld := eq (toJson $value) (toJson (get $same $key)) -}}
{{- if not (or (has $key $known) $isOff $isOld) -}}
{{- $found = append $found (trimPrefix "." (printf "%s.%s" $path $key)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- join ", " (sortAlpha $found) -}}
{{- end -}}

{{/* What would look as if it worked. */}}
{{- define "skywalking.refuseWhatIsMissing" -}}
{{- if dig "enabled" false (.Values.satellite | default dict) -}}
{{- fail (printf "satellite.enabled is true, this chart has no satellite: keep the one you have in a release of its own, or let agents report to %s:%v" (include "skywalking.oap.fullname" .) .Values.oap.ports.grpc) -}}
{{- end -}}
{{- range $port := list "zipkinreceiver" "zipkinquery" -}}
{{- if get $.Values.oap.ports $port -}}
{{- fail (printf "oap.ports.%s is set, this server does not speak the protocols of Zipkin: leave it out" $port) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.elasticsearch.enabled (or .Values.elasticsearch.nodeSets .Values.elasticsearch.version) -}}
{{- fail "elasticsearch.nodeSets and elasticsearch.version are for the operator of Elastic, whose objects this chart does not render: run it in a release of its own, then set elasticsearch.enabled to false and elasticsearch.config to its address" -}}
{{- end -}}
{{- end -}}

{{- define "skywalking.notes" -}}
{{- $own := .Values.oap.image | default dict -}}
{{ .Values.oap.replicas }} × {{ include "skywalking.oap.image" . }}
{{- if include "skywalking.oap.isJavaImage" . }}
oap.image names the Java server; this chart runs the image above instead (image.repository, image.tag).
{{- else if and $own.tag (not $own.repository) }}
oap.image.tag has no effect without oap.image.repository; image.tag is the one of the image above.
{{- end }}
{{- with include "skywalking.withoutEffect" . }}
Without effect in this chart: {{ . }}
{{- end }}
{{- if and .Values.oap.persistence.enabled (include "skywalking.onElasticsearch" .) }}
oap.persistence has no effect with Elasticsearch: what the server writes beside it lasts as long as the pod.
{{- end }}

Agents report to {{ include "skywalking.oap.fullname" . }}.{{ .Release.Namespace }}:{{ .Values.oap.ports.grpc }}
{{- if .Values.ui.ingress.enabled }}
{{- range .Values.ui.ingress.hosts }}
The UI is at http{{ if $.Values.ui.ingress.tls }}s{{ end }}://{{ . }}
{{- end }}
{{- else }}
The UI: kubectl -n {{ .Release.Namespace }} port-forward svc/{{ include "skywalking.ui.fullname" . }} 8080:{{ .Values.ui.service.externalPort }}, then http://127.0.0.1:8080
{{- end }}
Whether all is well: helm test -n {{ .Release.Namespace }} {{ .Release.Name }}
{{- end -}}
