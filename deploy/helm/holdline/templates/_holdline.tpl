{{/* The configuration: what was given, else the mode's example. */}}
{{- define "holdline.config" -}}
{{- .Values.config | default (.Files.Get (printf "files/%s.toml" .Values.mode)) -}}
{{- end }}

{{/* Its ConfigMap's name carries a hash of it: a changed file is a new ConfigMap, and with it a rollout. */}}
{{- define "holdline.configName" -}}
holdline-{{ include "holdline.config" . | sha256sum | trunc 10 }}
{{- end }}

{{- define "holdline.labels" -}}
app.kubernetes.io/name: holdline
{{- end }}

{{- define "holdline.advertise" -}}
{{- if and .Values.tls.enabled (eq .Values.mode "loadBalancer") (not (contains ",advertise=" .Values.tls.listen)) -}}
{{- fail "tls.listen: behind a load balancer each listener needs ,advertise=NAME, or handsets get the pod's address" -}}
{{- end -}}
{{- end }}
