{{/* Names are those of the original charts, so that a release can change from one to the other in place. */}}

{{- define "skywalking.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "skywalking.oap.fullname" -}}
{{- printf "%s-%s" (include "skywalking.fullname" .) .Values.oap.name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "skywalking.ui.fullname" -}}
{{- printf "%s-%s" (include "skywalking.fullname" .) .Values.ui.name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "skywalking.labels" -}}
app: {{ .Release.Name | quote }}
chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
heritage: {{ .Release.Service }}
release: {{ .Release.Name | quote }}
{{- end -}}

{{/* What selectors of the original ask for; a Deployment cannot change its own. */}}
{{- define "skywalking.selector" -}}
app: {{ .root.Release.Name | quote }}
component: {{ .component | quote }}
release: {{ .root.Release.Name | quote }}
{{- end -}}

{{/* A value as a text. Helm has every number as a floating one, so that 1000000 would become 1e+06. */}}
{{- define "skywalking.text" -}}
{{- if kindIs "invalid" . -}}
{{- else if and (kindIs "float64" .) (eq (float64 .) (floor .)) -}}
{{- printf "%.0f" . -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{/* A map of texts, whose values may be written as numbers, true or false. */}}
{{- define "skywalking.texts" -}}
{{- $texts := dict -}}
{{- range $key, $value := . -}}
{{- $_ := set $texts $key (include "skywalking.text" $value) -}}
{{- end -}}
{{- toYaml $texts -}}
{{- end -}}

{{/* A list, or the text of one. */}}
{{- define "skywalking.items" -}}
{{- with . -}}{{- if kindIs "string" . -}}{{- . -}}{{- else -}}{{- toYaml . -}}{{- end -}}{{- end -}}
{{- end -}}

{{/* A probe asks in one way only: one that is written beside the default's tcpSocket is meant instead of it. */}}
{{- define "skywalking.probe" -}}
{{- $asks := 0 -}}
{{- range list "exec" "grpc" "httpGet" -}}{{- if hasKey $ . -}}{{- $asks = 1 -}}{{- end -}}{{- end -}}
{{- toYaml (ternary (omit . "tcpSocket") . (eq $asks 1)) -}}
{{- end -}}

{{- define "skywalking.oap.createsAccount" -}}
{{- $account := dig "oap" nil (.Values.serviceAccounts | default dict) -}}
{{- if not (and (kindIs "map" $account) (hasKey $account "create") (not $account.create)) -}}yes{{- end -}}
{{- end -}}

{{- define "skywalking.oap.account" -}}
{{- $account := dig "oap" nil (.Values.serviceAccounts | default dict) -}}
{{- $created := include "skywalking.oap.fullname" . -}}
{{- if kindIs "map" $account -}}
{{- default (ternary $created "default" (eq (include "skywalking.oap.createsAccount" .) "yes")) $account.name -}}
{{- else -}}
{{- default $created $account -}}
{{- end -}}
{{- end -}}

{{/* Also a mirror of it, whose tags tell. */}}
{{- define "skywalking.oap.isJavaImage" -}}
{{- $own := .Values.oap.image | default dict -}}
{{- $repository := include "skywalking.text" $own.repository -}}
{{- $isRelease := regexMatch "^v?([6-9]|10)\\.[0-9]+\\.[0-9]+(-es[67])?$" (include "skywalking.text" $own.tag) -}}
{{- if or (hasSuffix "apache/skywalking-oap-server" $repository) (and $isRelease (hasSuffix "skywalking-oap-server" $repository)) -}}yes{{- end -}}
{{- end -}}

{{- define "skywalking.oap.image" -}}
{{- $own := .Values.oap.image | default dict -}}
{{- if and $own.repository (not (eq (include "skywalking.oap.isJavaImage" .) "yes")) -}}
{{- printf "%s:%s" $own.repository (include "skywalking.text" (default .Chart.AppVersion $own.tag)) -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (include "skywalking.text" (default .Chart.AppVersion .Values.image.tag)) -}}
{{- end -}}
{{- end -}}

{{- define "skywalking.oap.pullPolicy" -}}
{{- default .Values.image.pullPolicy (dig "pullPolicy" "" (.Values.oap.image | default dict)) -}}
{{- end -}}

{{- define "skywalking.oap.storageType" -}}
{{- $type := toString (default "elasticsearch7" .Values.oap.storageType) -}}
{{- if not (has $type (list "elasticsearch" "elasticsearch7" "h2")) -}}
{{- fail (printf "oap.storageType is %q, this server has elasticsearch7, elasticsearch and h2 (embedded)" $type) -}}
{{- end -}}
{{- if and (eq $type "h2") (gt (int .Values.oap.replicas) 1) -}}
{{- fail "oap.storageType h2 is a store inside of one server: set oap.replicas to 1" -}}
{{- end -}}
{{- $type -}}
{{- end -}}

{{- define "skywalking.onElasticsearch" -}}
{{- if hasPrefix "elasticsearch" (include "skywalking.oap.storageType" .) -}}yes{{- end -}}
{{- end -}}

{{- define "skywalking.elasticsearch.host" -}}
{{- if .Values.elasticsearch.enabled -}}
{{- printf "%s-%s" .Values.elasticsearch.clusterName .Values.elasticsearch.nodeGroup -}}
{{- else -}}
{{- required "elasticsearch.config.host, because elasticsearch.enabled is false" .Values.elasticsearch.config.host -}}
{{- end -}}
{{- end -}}

{{- define "skywalking.elasticsearch.port" -}}
{{- ternary .Values.elasticsearch.httpPort (dig "port" "http" 9200 .Values.elasticsearch.config) .Values.elasticsearch.enabled -}}
{{- end -}}

{{- define "skywalking.hasDynamicConfig" -}}
{{- if or .Values.oap.dynamicConfigEnabled (dig "enabled" false (.Values.oap.dynamicConfig | default dict)) -}}yes{{- end -}}
{{- end -}}

{{/* Variables that the init Job and the servers have in common. */}}
{{- define "skywalking.oap.storageEnv" -}}
- name: SW_STORAGE
  value: {{ include "skywalking.oap.storageType" . }}
{{- if include "skywalking.onElasticsearch" . }}
- name: SW_STORAGE_ES_CLUSTER_NODES
  value: {{ printf "%s:%s" (include "skywalking.elasticsearch.host" .) (include "skywalking.elasticsearch.port" .) | quote }}
{{- if not .Values.elasticsearch.enabled }}
{{- with .Values.elasticsearch.config.user }}
- name: SW_ES_USER
  value: {{ include "skywalking.text" . | quote }}
{{- end }}
{{- with .Values.elasticsearch.config.password }}
- name: SW_ES_PASSWORD
  value: {{ include "skywalking.text" . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Names of variables that the values set: they win over those of the chart, and a name that is there twice spoils later changes. */}}
{{- define "skywalking.oap.taken" -}}
{{- $names := keys (.Values.oap.env | default dict) -}}
{{- range .Values.oap.secretKeyRefs -}}{{- $names = append $names .name -}}{{- end -}}
{{- toJson $names -}}
{{- end -}}

{{/* Variables of a container: of list, a text, those that the values do not set, then those that they do. */}}
{{- define "skywalking.oap.env" -}}
{{- $taken := include "skywalking.oap.taken" .root | fromJsonArray -}}
{{- range .list | fromYamlArray }}
{{- if not (has .name $taken) }}
{{ list . | toYaml }}
{{- end }}
{{- end }}
{{- include "skywalking.oap.extraEnv" .root }}
{{- end -}}

{{/* Where the server listens: grpc, rest or metrics. */}}
{{- define "skywalking.oap.port" -}}
{{- $variable := get (dict "grpc" "SW_CORE_GRPC_PORT" "rest" "SW_CORE_REST_PORT" "metrics" "SW_TELEMETRY_PROMETHEUS_PORT") .name -}}
{{- $usual := get (dict "grpc" 11800 "rest" 12800 "metrics" 1234) .name -}}
{{- include "skywalking.text" (default $usual (get (.root.Values.oap.env | default dict) $variable)) -}}
{{- end -}}

{{/* Whether access logs of Envoy are analysed, for which pods of all namespaces must be known; a variable may say so too. */}}
{{- define "skywalking.oap.readsAllPods" -}}
{{- $variable := get (.Values.oap.env | default dict) "SW_ENVOY_METRIC_ALS_HTTP_ANALYSIS" -}}
{{- if or $variable (dig "als" "enabled" false (.Values.oap.envoy | default dict)) -}}yes{{- end -}}
{{- end -}}

{{- define "skywalking.oap.extraEnv" -}}
{{- range $name, $value := .Values.oap.env }}
- name: {{ $name }}
  value: {{ include "skywalking.text" $value | quote }}
{{- end }}
{{- range .Values.oap.secretKeyRefs }}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secretName }}
      key: {{ .key }}
{{- end }}
{{- end -}}

{{/* Files over those of the image, as path → text, in JSON. */}}
{{- define "skywalking.oap.files" -}}
{{- $files := dict -}}
{{- range $path, $bytes := .Files.Glob "files/conf.d/oap/**" -}}
{{- $_ := set $files (trimPrefix "files/conf.d/oap/" $path) (toString $bytes) -}}
{{- end -}}
{{- range $a, $first := .Values.oap.config -}}
{{- if kindIs "map" $first -}}
{{- range $b, $second := $first -}}
{{- if kindIs "map" $second -}}
{{- range $c, $text := $second -}}{{- if kindIs "map" $text -}}{{- fail (printf "oap.config.%s.%s.%s is a map: files lie at most two folders deep" $a $b $c) -}}{{- end -}}{{- $_ := set $files (printf "%s/%s/%s" $a $b $c) (toString $text) -}}{{- end -}}
{{- else -}}{{- $_ := set $files (printf "%s/%s" $a $b) (toString $second) -}}{{- end -}}
{{- end -}}
{{- else -}}{{- $_ := set $files $a (toString $first) -}}{{- end -}}
{{- end -}}
{{- toJson $files -}}
{{- end -}}

{{- define "skywalking.oap.mounts" -}}
- name: data
  mountPath: /skywalking/data
{{- range $path, $text := include "skywalking.oap.files" . | fromJson }}
- name: config-override
  mountPath: /skywalking/config/{{ $path }}
  subPath: {{ $path | replace "/" "-" | quote }}
  readOnly: true
{{- end }}
{{- range .Values.oap.secretMounts }}
- name: {{ .name }}
  mountPath: {{ .path }}
  {{- with .subPath }}
  subPath: {{ . }}
  {{- end }}
  readOnly: true
{{- end }}
{{- range .Values.oap.secretVolumes }}
- name: {{ .name }}
  mountPath: {{ default "/skywalking/certs" .mountPath }}
  readOnly: true
{{- end }}
{{- end -}}

{{- define "skywalking.oap.sharedVolumes" -}}
{{- if include "skywalking.oap.files" . | fromJson }}
- name: config-override
  configMap:
    name: {{ include "skywalking.fullname" . }}-oap-cm-override
{{- end }}
{{- range .Values.oap.secretMounts }}
- name: {{ .name }}
  secret:
    secretName: {{ .secretName }}
    {{- with .defaultMode }}
    defaultMode: {{ . }}
    {{- end }}
{{- end }}
{{- range .Values.oap.secretVolumes }}
- name: {{ .name }}
  secret:
    secretName: {{ .secretName }}
    {{- with .items }}
    items: {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
{{- end -}}

{{- define "skywalking.waitForElasticsearch" -}}
{{- $wait := .Values.initContainer | default dict }}
{{- if and (include "skywalking.onElasticsearch" .) $wait.enabled }}
initContainers:
- name: wait-for-elasticsearch
  image: {{ printf "%s:%s" $wait.image (toString $wait.tag) }}
  imagePullPolicy: IfNotPresent
  command: [sh, -c, {{ printf "for i in $(seq 1 60); do nc -z -w3 %s %s && exit 0; sleep 5; done; exit 1" (include "skywalking.elasticsearch.host" .) (include "skywalking.elasticsearch.port" .) | quote }}]
  {{- with .Values.oap.containerSecurityContext }}
  securityContext: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "skywalking.podSecurityContext" -}}
{{- $context := deepCopy (.Values.oap.securityContext | default dict) -}}
{{- if and $context (semverCompare ">=1.19-0" .Capabilities.KubeVersion.Version) (not $context.seccompProfile) -}}
{{- $_ := set $context "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- end -}}
{{- with $context }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "skywalking.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 0 }}
{{- end }}
{{- end -}}

{{- define "skywalking.elasticsearch.labels" -}}
app: {{ .Values.elasticsearch.clusterName }}-{{ .Values.elasticsearch.nodeGroup }}
release: {{ .Release.Name | quote }}
{{- end -}}
