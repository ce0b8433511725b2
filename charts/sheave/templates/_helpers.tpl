{{/* Names, labels, the image, durations. Everything that more than one file needs. */}}

{{- define "sheave.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of the objects. 50 characters leave room for what is appended. */}}
{{- define "sheave.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "sheave.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "sheave.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The name of what lies outside the release's namespace, where a second release may have the same name. */}}
{{- define "sheave.outerName" -}}
{{- printf "%s-%s" (include "sheave.fullname" .) .Release.Namespace -}}
{{- end -}}

{{- define "sheave.serviceAccountName" -}}
{{- default (include "sheave.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "sheave.selectorLabels" -}}
app.kubernetes.io/name: {{ include "sheave.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sheave.labels" -}}
{{ include "sheave.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* metadata of an object: (dict "root" $ "name" .. "namespace" .. "labels" (dict ..) "annotations" (dict ..)). */}}
{{- define "sheave.metadata" -}}
{{- $annotations := mustMergeOverwrite (deepCopy .root.Values.commonAnnotations) (deepCopy (.annotations | default dict)) -}}
name: {{ .name }}
{{- with .namespace }}
namespace: {{ . }}
{{- end }}
labels:
  {{- include "sheave.labels" .root | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "sheave.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* Milliseconds of a duration such as 10s, 1m30s or 500ms. */}}
{{- define "sheave.milliseconds" -}}
{{- $total := 0 -}}
{{- range regexFindAll "[0-9]+(ms|h|m|s)" . -1 -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- $number := regexFind "^[0-9]+" . | int64 -}}
{{- $total = add $total (mul $number (get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000) $unit)) -}}
{{- end -}}
{{- $total -}}
{{- end -}}

{{/* terminationGracePeriodSeconds: what the drain may take, and half a minute for the rest. */}}
{{- define "sheave.gracePeriod" -}}
{{- $drain := add (include "sheave.milliseconds" .Values.drain.minDrain) (include "sheave.milliseconds" .Values.drain.timeout) -}}
{{- add (div (add $drain 999) 1000) 30 -}}
{{- end -}}

{{/* The namespace of the helm test: one that is watched. */}}
{{- define "sheave.testNamespace" -}}
{{- if .Values.controller.watchNamespaces -}}
{{- has .Release.Namespace .Values.controller.watchNamespaces | ternary .Release.Namespace (first .Values.controller.watchNamespaces) -}}
{{- else -}}
{{- .Release.Namespace -}}
{{- end -}}
{{- end -}}

{{/* What the controller does in each namespace that it watches. */}}
{{- define "sheave.rules" }}
- apiGroups: [sheave.dev]
  resources: [websocketroutes]
  verbs: [get, list, watch]
- apiGroups: [sheave.dev]
  resources: [websocketroutes/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [services, secrets, configmaps]
  verbs: [get, list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
- apiGroups: [gateway.networking.k8s.io]
  resources: [referencegrants]
  verbs: [get, list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* Who is bound. */}}
{{- define "sheave.subject" }}
- kind: ServiceAccount
  name: {{ include "sheave.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{/* The class, whoever writes it. */}}
{{- define "sheave.class" -}}
{{- /* The release's name lets class.hook be switched: Helm takes over only what names it. */ -}}
{{- $annotations := dict "sheave.dev/is-default-class" (toString .Values.class.default) "meta.helm.sh/release-name" .Release.Name "meta.helm.sh/release-namespace" .Release.Namespace -}}
{{- if .Values.crds.keep -}}
{{- $_ := set $annotations "helm.sh/resource-policy" "keep" -}}
{{- end -}}
apiVersion: sheave.dev/v1alpha1
kind: WebSocketClass
metadata:
  {{- include "sheave.metadata" (dict "root" . "name" .Values.class.name "annotations" $annotations) | nindent 2 }}
spec:
  controllerName: sheave.dev/controller
  {{- with .Values.class.spec }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
