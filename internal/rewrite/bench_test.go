package rewrite

import (
	"bytes"
	"fmt"
	"syscall"
	"testing"
	"time"
)

// manifest is a Deployment as people write them, with all that makes reading slow.
const manifest = `---
# Copyright of somebody, under some licence that says what it says in many words.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web-%[1]d
  namespace: default
  labels: {app: web, "app.kubernetes.io/name": web}
  annotations:
    description: "what it is, and why: in quotes"
spec:
  replicas: 3
  selector:
    matchLabels:
      app: web
  template:
    metadata:
      labels:
        app: web
    spec:
      serviceAccountName: web
      securityContext:
        runAsNonRoot: true
        fsGroup: 65534
      initContainers:
        - name: prepare
          image: busybox:1.36
          command: ["sh", "-c", "until nslookup db; do sleep 2; done"]
      containers:
        - name: web
          image: registry.k8s.io/web/server:v1.%[1]d.0 # the server
          imagePullPolicy: IfNotPresent
          args:
            - --listen=:8080
            - --config=/etc/web/config.yaml
            - --log-level=info
          ports:
            - name: http
              containerPort: 8080
              protocol: TCP
          env:
            - name: POD_NAME
              valueFrom:
                fieldRef:
                  fieldPath: metadata.name
          livenessProbe:
            httpGet:
              path: /healthz
              port: http
            initialDelaySeconds: 10
          resources:
            requests: {cpu: 100m, memory: 128Mi}
            limits:
              memory: 256Mi
          volumeMounts:
            - name: config
              mountPath: /etc/web
      volumes:
        - name: config
          configMap:
            name: web
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: web
data:
  config.yaml: |
    # not for us
    image: nginx
    list:
      - a
      - b
`

func manifests(size int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, manifest, i)
	}
	return b.Bytes()
}

// cpuTime is what this process took of the processors: a machine with other work to do
// says less by the clock.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkBytes is how much of manifests is rewritten in a second: at least 50 MB on
// one core.
func BenchmarkBytes(b *testing.B) {
	in := manifests(4 << 20)
	r, err := New(Options{Rename: func(name string) (string, error) { return "mirror.example.com/" + name, nil }})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	began := cpuTime(b)
	for b.Loop() {
		res, err := r.Bytes("manifests.yaml", in)
		if err != nil || len(res.Undecided) > 0 || len(res.Images) == 0 {
			b.Fatal(err, res.Undecided)
		}
	}
	b.ReportMetric(float64(len(in))*float64(b.N)/1e6/(cpuTime(b)-began).Seconds(), "MB/core-s")
}
