{{- /*
Values that need each other. The schema judges each value by itself; the proxy checks its own configuration
when it starts.
*/ -}}
{{- define "spandrel.checks" -}}
{{- $config := .Values.config }}
{{- $json := toJson $config }}
{{- $listenTls := include "spandrel.get" (list $config "listen.tls.cert") }}
{{- $adminTls := include "spandrel.get" (list $config "admin.tls.cert") }}

{{- range $listener := list "listen" "admin" }}
{{- $host := toString (index $config $listener "host") }}
{{- if or (hasPrefix "127." $host) (eq $host "localhost") (eq $host "::1") }}
{{- fail (printf "config.%s.host is %s, which probes, Services and nodes cannot reach: set it to 0.0.0.0" $listener $host) }}
{{- end }}
{{- end }}

{{- if .Values.tls.certManager.enabled }}
{{- if not (or $listenTls $adminTls) }}
{{- fail "tls.certManager.enabled makes a certificate that no listener uses: set config.listen.tls.cert to /etc/spandrel-tls/tls.crt and config.listen.tls.key to /etc/spandrel-tls/tls.key" }}
{{- end }}
{{- else if and .Values.tls.secretName (not (contains "/etc/spandrel-tls/" $json)) }}
{{- fail "tls.secretName has a certificate that no listener uses: set config.listen.tls.cert to /etc/spandrel-tls/tls.crt and config.listen.tls.key to /etc/spandrel-tls/tls.key" }}
{{- end }}
{{- if and (contains "/etc/spandrel-tls/" $json) (not (include "spandrel.tlsSecret" .)) }}
{{- fail "config names files in /etc/spandrel-tls, and nothing is mounted there: set tls.secretName, or tls.certManager" }}
{{- end }}
{{- if and (not .Values.secret.name) (or (contains "/etc/spandrel-secrets/" $json) (contains "/etc/spandrel-secrets/" (toJson .Values.extraEnv))) }}
{{- fail "config or extraEnv names files in /etc/spandrel-secrets, and nothing is mounted there: set secret.name to the Secret that has them" }}
{{- end }}
{{- if and .Values.secret.redisUrlKey (include "spandrel.get" (list $config "cache.redis.url")) }}
{{- fail "secret.redisUrlKey and config.cache.redis.url exclude each other: remove one of them" }}
{{- end }}

{{- if and .Values.secret.replicaTokenKey (not (or .Values.secret.redisUrlKey (include "spandrel.get" (list $config "cache.redis.url")))) }}
{{- fail "secret.replicaTokenKey: replicas agree in Redis: set config.cache.redis.url, or secret.redisUrlKey" }}
{{- end }}
{{- if include "spandrel.get" (list $config "replica.url") }}
{{- fail "config.replica.url is the same for all pods: remove it, and set secret.replicaTokenKey, which gives each pod its own" }}
{{- end }}

{{- if and $adminTls (include "spandrel.get" (list $config "admin.tls.clientCa")) }}
{{- fail "config.admin.tls.clientCa: the kubelet's probes and Prometheus have no client certificate: remove it, and use config.admin.tokenFile" }}
{{- end }}
{{- range $probe := list "startupProbe" "livenessProbe" "readinessProbe" }}
{{- if and $adminTls (eq (include "spandrel.get" (list $.Values (printf "%s.httpGet.port" $probe))) "admin") (ne (include "spandrel.get" (list $.Values (printf "%s.httpGet.scheme" $probe))) "HTTPS") }}
{{- fail (printf "config.admin.tls is set: set %s.httpGet.scheme to HTTPS" $probe) }}
{{- end }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled (or (include "spandrel.get" (list $config "admin.token")) (include "spandrel.get" (list $config "admin.tokenFile"))) (not .Values.secret.adminTokenKey) }}
{{- fail "the admin listener wants a token, and the ServiceMonitor has none: set secret.adminTokenKey to its key in the Secret secret.name" }}
{{- end }}

{{- if .Values.autoscaling.enabled }}
{{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) }}
{{- fail "autoscaling.minReplicas is larger than autoscaling.maxReplicas" }}
{{- end }}
{{- if not (include "spandrel.get" (list .Values.resources "requests.cpu")) }}
{{- fail "autoscaling goes by the share of the CPU that pods request: set resources.requests.cpu" }}
{{- end }}
{{- end }}
{{- if and (eq .Values.kind "Deployment") .Values.persistence.storageClass }}
{{- fail "a Deployment has its store in the pod: remove persistence.storageClass, or set kind to StatefulSet" }}
{{- end }}

{{- $maxBytes := include "spandrel.get" (list $config "storage.maxBytes") | default "50GiB" }}
{{- $volume := .Values.persistence.size }}
{{- $volumeBytes := include "spandrel.bytes" $volume | int64 }}
{{- if and (gt $volumeBytes 0) (ge (include "spandrel.bytes" $maxBytes | int64) $volumeBytes) }}
{{- fail (printf "config.storage.maxBytes (%s) does not fit the volume (persistence.size %s): make the volume a tenth larger, or maxBytes smaller" $maxBytes $volume) }}
{{- end }}
{{- $cache := include "spandrel.get" (list $config "cache.memoryBytes") | default "256MiB" }}
{{- $memory := include "spandrel.get" (list .Values "resources.limits.memory") }}
{{- $memoryBytes := include "spandrel.bytes" $memory | int64 }}
{{- if and (gt $memoryBytes 0) (ge (include "spandrel.bytes" $cache | int64) $memoryBytes) }}
{{- fail (printf "config.cache.memoryBytes (%s) does not fit resources.limits.memory (%s): the proxy needs some 512Mi besides" $cache $memory) }}
{{- end }}
{{- $delayMs := include "spandrel.get" (list $config "shutdown.delayMs") | int64 }}
{{- $graceMs := include "spandrel.get" (list $config "shutdown.graceMs") | default "10000" | int64 }}
{{- $writeMs := ternary 5000 0 (ne "" (include "spandrel.get" (list $config "storage.s3.bucket"))) }}
{{- $stopMs := add $delayMs $graceMs $writeMs }}
{{- if le (mul (int64 .Values.terminationGracePeriodSeconds) 1000) $stopMs }}
{{- fail (printf "terminationGracePeriodSeconds (%v) must be longer than config.shutdown.delayMs and graceMs together, with a bucket five seconds more (%d ms), or pods are killed while they serve" .Values.terminationGracePeriodSeconds $stopMs) }}
{{- end }}

{{- if and .Values.aws.roleArn .Values.aws.podIdentity }}
{{- fail "aws.roleArn (IRSA) and aws.podIdentity exclude each other: remove one of them" }}
{{- end }}
{{- if and .Values.aws.roleArn (not .Values.serviceAccount.create) }}
{{- fail "aws.roleArn is an annotation of the ServiceAccount: set serviceAccount.create, or remove aws.roleArn and annotate yours with eks.amazonaws.com/role-arn" }}
{{- end }}
{{- if and .Values.service.loadBalancerClass (ne .Values.service.type "LoadBalancer") }}
{{- fail "service.loadBalancerClass needs service.type LoadBalancer" }}
{{- end }}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.nodeCidrs) }}
{{- fail "the NetworkPolicy lets no node reach the proxy: set networkPolicy.nodeCidrs" }}
{{- end }}
{{- if and .Values.networkPolicy.enabled .Values.serviceMonitor.enabled (not .Values.networkPolicy.monitoringNamespace) }}
{{- fail "the NetworkPolicy lets Prometheus reach no metrics: set networkPolicy.monitoringNamespace" }}
{{- end }}
{{- if and .Values.nodes.enabled $listenTls (hasPrefix "http://" .Values.nodes.proxy) }}
{{- fail "config.listen.tls is set: nodes.proxy must begin with https://" }}
{{- end }}
{{- end }}

{{- /* Bytes of a size of the configuration (GiB) or of Kubernetes (Gi); 0 for anything else. */ -}}
{{- define "spandrel.bytes" -}}
{{- $digits := regexFind "^[0-9]+" . }}
{{- $unit := trim (trimPrefix $digits .) }}
{{- $powers := dict "" 1 "Ki" 1024 "KiB" 1024 "Mi" 1048576 "MiB" 1048576 "Gi" 1073741824 "GiB" 1073741824 "Ti" 1099511627776 }}
{{- if and $digits (hasKey $powers $unit) }}{{ mul (int64 $digits) (get $powers $unit) }}{{ else }}0{{ end }}
{{- end }}
