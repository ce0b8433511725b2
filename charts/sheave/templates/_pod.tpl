{{/* The pod: the same for a Deployment and a DaemonSet. */}}
{{- define "sheave.podTemplate" -}}
{{- $listeners := .Values.listeners -}}
metadata:
  # Nothing that a new chart alone would change: what changes here rolls the pods, and every session ends.
  labels:
    {{- include "sheave.selectorLabels" . | nindent 4 }}
    {{- with mustMergeOverwrite (deepCopy .Values.commonLabels) .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: sheave
    {{- with mustMergeOverwrite (deepCopy .Values.commonAnnotations) .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "sheave.serviceAccountName" . }}
  # Services are found by name. Their variables would begin with SHEAVE_, as the settings do.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "sheave.gracePeriod" . }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.podSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  containers:
  - name: sheave
    image: {{ include "sheave.image" . | quote }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    args:
    - controller
    {{- with .Values.extraArgs }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    env:
    - {name: SHEAVE_POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: SHEAVE_POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    - {name: SHEAVE_POD_IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}
    - {name: SHEAVE_LISTEN, value: ":{{ $listeners.http.port }}"}
    {{- if $listeners.https.enabled }}
    - {name: SHEAVE_LISTEN_TLS, value: ":{{ $listeners.https.port }}"}
    {{- end }}
    - {name: SHEAVE_ADMIN, value: ":{{ $listeners.admin.port }}"}
    - {name: SHEAVE_LEASE, value: {{ include "sheave.fullname" . }}}
    - {name: SHEAVE_MIN_DRAIN, value: {{ .Values.drain.minDrain | quote }}}
    - {name: SHEAVE_DRAIN_TIMEOUT, value: {{ .Values.drain.timeout | quote }}}
    {{- with .Values.capacity.maxConnections }}
    - {name: SHEAVE_MAX_CONNECTIONS, value: {{ . | int64 | quote }}}
    {{- end }}
    - {name: SHEAVE_MAX_MEMORY_PERCENT, value: {{ .Values.capacity.maxMemoryPercent | int64 | quote }}}
    {{- with .Values.capacity.handshakesPerSecond }}
    - {name: SHEAVE_HANDSHAKES_PER_SECOND, value: {{ . | int64 | quote }}}
    {{- end }}
    - {name: SHEAVE_HANDSHAKE_QUEUE, value: {{ .Values.capacity.handshakeQueue | int64 | quote }}}
    {{- with .Values.controller.watchNamespaces }}
    - {name: SHEAVE_WATCH_NAMESPACES, value: {{ join "," . | quote }}}
    {{- end }}
    {{- if .Values.controller.allowExternalName }}
    - {name: SHEAVE_ALLOW_EXTERNAL_NAME, value: "true"}
    {{- end }}
    {{- with .Values.controller.workers }}
    - {name: SHEAVE_WORKERS, value: {{ . | quote }}}
    {{- end }}
    - {name: SHEAVE_LOG, value: {{ .Values.controller.log | quote }}}
    - {name: SHEAVE_LOG_FORMAT, value: {{ .Values.controller.logFormat }}}
    {{- if .Values.controller.logOpen }}
    - {name: SHEAVE_LOG_OPEN, value: "true"}
    {{- end }}
    {{- with .Values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    ports:
    - name: http
      containerPort: {{ $listeners.http.port }}
      {{- with $listeners.http.hostPort }}
      hostPort: {{ . }}
      {{- end }}
    {{- if $listeners.https.enabled }}
    - name: https
      containerPort: {{ $listeners.https.port }}
      {{- with $listeners.https.hostPort }}
      hostPort: {{ . }}
      {{- end }}
    {{- end }}
    - name: admin
      containerPort: {{ $listeners.admin.port }}
    startupProbe:
      httpGet: {path: /livez, port: admin}
      periodSeconds: 2
      failureThreshold: 30
    livenessProbe:
      httpGet: {path: /livez, port: admin}
      periodSeconds: 10
      timeoutSeconds: 5
    # Once is enough: a pod that stops says so by its readiness, and every second until that is seen brings sessions
    # that have to be closed again.
    readinessProbe:
      httpGet: {path: /readyz, port: admin}
      periodSeconds: 5
      timeoutSeconds: 3
      failureThreshold: 1
    {{- with .Values.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .Values.securityContext }}
    securityContext:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .Values.extraVolumeMounts }}
    volumeMounts:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  {{- with .Values.extraVolumes }}
  volumes:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if kindIs "invalid" .Values.topologySpreadConstraints }}
  {{- if eq .Values.kind "Deployment" }}
  topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "sheave.selectorLabels" $ | nindent 8 }}
    # Without this the pods of the version that goes count, and the new ones crowd where those are not.
    matchLabelKeys: [pod-template-hash]
  {{- end }}
  {{- end }}
  {{- else if .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
  {{- end }}
{{- end -}}
