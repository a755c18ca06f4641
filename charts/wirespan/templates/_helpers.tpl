{{- define "wirespan.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The release's name, with the chart's unless it holds it already. 52 characters leave room for suffixes. */}}
{{- define "wirespan.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "wirespan.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "wirespan.selectorLabels" -}}
app.kubernetes.io/name: {{ include "wirespan.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: agent
{{- end -}}

{{- define "wirespan.gatewaySelectorLabels" -}}
app.kubernetes.io/name: {{ include "wirespan.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end -}}

{{- define "wirespan.commonLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "wirespan.labels" -}}
{{ include "wirespan.selectorLabels" . }}
{{ include "wirespan.commonLabels" . }}
{{- end -}}

{{- define "wirespan.gatewayLabels" -}}
{{ include "wirespan.gatewaySelectorLabels" . }}
{{ include "wirespan.commonLabels" . }}
{{- end -}}

{{/* An image's reference. Given: a list of the image's values and the tag that is used without one. */}}
{{- define "wirespan.image" -}}
{{- $image := index . 0 -}}
{{- $name := $image.repository -}}
{{- if $image.registry -}}{{- $name = printf "%s/%s" $image.registry $image.repository -}}{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default (index . 1) $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "wirespan.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "wirespan.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "wirespan.priorityClassName" -}}
{{- if .Values.priorityClassName -}}
{{- .Values.priorityClassName -}}
{{- else if .Values.priorityClass.create -}}
{{- include "wirespan.fullname" . -}}
{{- end -}}
{{- end -}}

{{/* Where the agents send to; empty: nowhere. */}}
{{- define "wirespan.endpoint" -}}
{{- if .Values.otlp.endpoint -}}
{{- .Values.otlp.endpoint -}}
{{- else if .Values.gateway.enabled -}}
{{- printf "http://%s-gateway.%s:4317" (include "wirespan.fullname" .) .Release.Namespace -}}
{{- end -}}
{{- end -}}

{{/* The agent's configuration file. What the chart decides goes before what the values say. */}}
{{- define "wirespan.config" -}}
{{- $chart := dict "telemetry" (dict "listen" (printf ":%d" (int .Values.telemetry.port))) -}}
{{- toYaml (mergeOverwrite (deepCopy .Values.config) $chart) -}}
{{- end -}}

{{/* Without a privileged container: what the agent uses, and what older kernels ask for instead. */}}
{{- define "wirespan.capabilities" -}}
- BPF
- PERFMON
- NET_ADMIN
- SYS_PTRACE
- DAC_READ_SEARCH
{{- if semverCompare "<6.6-0" (printf "%s.0" .Values.oldestKernel) }}
- SYS_ADMIN
{{- end }}
{{- if semverCompare "<5.11-0" (printf "%s.0" .Values.oldestKernel) }}
- SYS_RESOURCE
{{- end }}
{{- end -}}
