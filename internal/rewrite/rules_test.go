package rewrite

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// ruleCase is a file in which what is to be changed stands in «», and what is to be
// reported. The mirror of these tests puts M/ in front.
type ruleCase struct {
	fact, file, doc string
	finds           string // "name: reason" each, separated by ", "
}

func rewriter(t testing.TB, o Options) *Rewriter {
	t.Helper()
	if o.Rename == nil {
		o.Rename = func(name string) (string, error) {
			if strings.HasPrefix(name, "M/") {
				return name, nil
			}
			if strings.HasPrefix(name, "private/") {
				return "", errPrivate
			}
			return "M/" + name, nil
		}
	}
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var errPrivate = errors.New("not served")

func checkRules(t *testing.T, o Options, cases []ruleCase) {
	t.Helper()
	r := rewriter(t, o)
	for _, c := range cases {
		for _, ends := range []string{"\n", "\r\n"} {
			t.Run(fmt.Sprintf("%s %q", c.fact, ends), func(t *testing.T) {
				doc := strings.ReplaceAll(c.doc, "\n", ends)
				in := strings.NewReplacer("«", "", "»", "").Replace(doc)
				want := strings.NewReplacer("«", "M/", "»", "").Replace(doc)
				res, err := r.Bytes(c.file, []byte(in))
				if err != nil {
					t.Fatal(err)
				}
				if string(res.Out) != want {
					t.Errorf("got\n%s\nwant\n%s", res.Out, want)
				}
				if n := strings.Count(c.doc, "«"); len(res.Images) != n {
					t.Errorf("%d images, want %d: %+v", len(res.Images), n, res.Images)
				}
				var finds []string
				for _, f := range res.Undecided {
					finds = append(finds, fmt.Sprintf("%s: %s", f.Name, reasonNames()[f.Reason]))
				}
				if got := strings.Join(finds, ", "); got != c.finds {
					t.Errorf("reported %q, want %q", got, c.finds)
				}
			})
		}
	}
}

func reasonNames() map[Reason]string {
	return map[Reason]string{
		NotRenamed: "refused", Variable: "variable", Escaped: "escaped", NoRule: "no rule", Matcher: "matcher",
		Template: "template", Unreadable: "unreadable", NotText: "no text",
	}
}

// podKinds are those whose containers are known, with the way to their pod.
func TestContainersOfEveryKind(t *testing.T) {
	for kind, indent := range map[string]string{
		"v1 Pod": "spec", "v1 PodTemplate": "template.spec", "v1 ReplicationController": "spec.template.spec", "apps/v1 Deployment": "spec.template.spec",
		"apps/v1 StatefulSet": "spec.template.spec", "apps/v1 DaemonSet": "spec.template.spec", "apps/v1 ReplicaSet": "spec.template.spec",
		"batch/v1 Job": "spec.template.spec", "batch/v1 CronJob": "spec.jobTemplate.spec.template.spec", "argoproj.io/v1alpha1 Rollout": "spec.template.spec",
		"serving.knative.dev/v1 Service": "spec.template.spec", "apps.kruise.io/v1beta1 CloneSet": "spec.template.spec", "example.com/v1 Unheard": "spec.pods.of.mine",
	} {
		version, kind, _ := strings.Cut(kind, " ")
		doc := "apiVersion: " + version + "\nkind: " + kind + "\n"
		space := ""
		for key := range strings.SplitSeq(indent, ".") {
			doc += space + key + ":\n"
			space += "  "
		}
		for line := range strings.Lines("containers:\n- name: a\n  image: «a:1»\ninitContainers:\n  - image: «b»\nephemeralContainers: [{image: «c»}]\nvolumes:\n- image: {reference: \"«d»\"}\n") {
			doc += space + line
		}
		checkRules(t, Options{}, []ruleCase{{kind, "x.yaml", doc, ""}})
	}
}

const pod = "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - "

func TestKubernetes(t *testing.T) {
	checkRules(t, Options{}, []ruleCase{
		{"quotes stay", "", pod + "image: '«a»'\n  - image: \"«b»\"\n  - {\"image\":\"«c»\"}\n", ""},
		{"comments and spaces stay", "", "# image: x\n" + pod + "image:   «a» # image: b\n    # image: c\n", ""},
		{"a file without an end of line", "", pod + "image: «a»", ""},
		{"a mark at the beginning of the file", "", "\ufeff" + pod + "image: «a»\n", ""},
		{"several documents", "", "---\n" + pod + "image: «a»\n---\n# nothing\n---\n" + pod + "image: «b»\n...\n", ""},
		{"a document that is wrong stays alone", "", pod + "image: «a»\n---\na: b: c\n---\n" + pod + "image: «b»\n", ": unreadable"},
		{"a list", "", "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  spec: {containers: [{image: «a»}]}\n", ""},
		{"JSON", "x.json", "{\"apiVersion\": \"v1\", \"kind\": \"Pod\",\n\t\"spec\": {\"containers\": [{\"image\": \"«a:1»\"}]}}\n", ""},
		{"JSON with escapes", "x.json", "{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"spec\": {\"containers\": [{\"image\": \"a\\/b\"}]}}\n", ": escaped"},
		{"a text within stays", "", "apiVersion: v1\nkind: ConfigMap\ndata:\n  image: a/b:1\n  x: |\n    containers:\n    - image: c\n", ""},
		{"an annotation stays", "", "apiVersion: v1\nkind: Pod\nmetadata:\n  annotations:\n    other: a/b:1\n", ""},
		{"what the mirror does not serve is told", "", pod + "image: private/a\n", "private/a: refused"},
		{"an anchor", "", pod + "image: &i «a»\n  - image: *i\n", ""},
		{"an anchor elsewhere", "", "x-image: &i «a»\n" + pod + "image: *i\n", ""},
		{"a tag of YAML", "", pod + "image: !!str «a»\n", ""},
		{"an unusual document", "", pod + "? image\n    : «a»\n", ""},
		{"over lines", "", pod + "image: >-\n      a\n      b\n  - image: |\n      a\n  - image: \"a\\\n      b\"\n", ": escaped, : escaped, : escaped"},
		{"a block of one line", "", pod + "image: >-\n      «a»\n  - image: |-\n        «b:1»\n\n  - image: >-  # why\n      «c»", ""},
		{"a block of one line in an unusual document", "", pod + "image: >-\n      «a»\n  ? b\n", ""},
		{"JSON documents one after another", "x.json", "{\"apiVersion\": \"v1\", \"kind\": \"Pod\",\n \"spec\": {\"containers\": [{\"image\": \"«a:1»\"}]}}\n{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"spec\": {\"containers\": [{\"image\": \"«b»\"}]}}\n\n{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"spec\": {\"containers\": [{\"image\": \"«c»\"}]}}", ""},
		{"JSON documents on one line", "x.json", "{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"spec\": {\"containers\": [{\"image\": \"«a»\"}]}} {\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"spec\": {\"containers\": [{\"image\": \"«b»\"}]}}\n", ""},
		{"what follows a document and is none is told", "x.json", "{\"image\": \"«a:1»\"}\n{\"image\": \"b:1\"\n", ": unreadable"},
		{"repository and tag of what nobody knows", "", "apiVersion: example.com/v1\nkind: Thing\nspec:\n  image:\n    repository: q.io/a\n    tag: x\n  git: {repository: a/b}\n", "q.io/a: no rule"},
		{"nothing", "", pod + "image:\n  - image: ''\n  - image: ~\n  - name: x\n", ""},
		{"a variable in the tag", "", pod + "image: «a/b»:${TAG}\n  - image: \"«c»:{{inputs.parameters.tag}}\"\n  - image: «d»@${DIGEST:-x}\n", ""},
		{"a variable in the name", "", pod + "image: «q.io/a»/${NAME}:1\n  - image: ${REGISTRY}/b\n  - image: c$NAME\n", "${REGISTRY}/b: variable, c$NAME: variable"},
		{"a port that is a variable", "", pod + "image: localhost:${PORT}/a\n", "localhost:${PORT}/a: variable"},
		{"a variable with a default", "", pod + "image: ${IMAGE:-«a:1»}\n  - image: ${IMAGE-«b»}\n  - image: ${IMAGE:?c}\n  - image: ${A:-${B}}\n", "${IMAGE:?c}: variable, ${A:-${B}}: variable"},
		{"a template", "", "{{- if .Values.x }}\n" + pod + "image: a\n{{- end }}\n", ": template"},
		{"directives of YAML", "", "%YAML 1.2\n# ours\n%TAG ! tag:example.com:\n---\n" + pod + "image: «a»\n", ""},
		{"a wrong workflow is no template", "", "on: push\njobs:\n  a: {container: x\n  b: ${{ c }}\n", ": unreadable"},
		{"a template in a value", "", pod + "image: {{ .Values.image }}\n", ": template"},
		{"a template in quotes", "", pod + "image: \"{{ .Values.image }}\"\n", "{{ .Values.image }}: variable"},
		{"a field nobody knows", "", "apiVersion: example.com/v1\nkind: Thing\nspec:\n  image: a/b:1\n  sidecarImage: c:1\n  image2: d:1\n  otherImage: e\n", "a/b:1: no rule, c:1: no rule"},
		{"an object in an object", "", "apiVersion: example.com/v1\nkind: Thing\nspec:\n  base:\n    apiVersion: v1\n    kind: Pod\n    spec:\n      containers:\n      - image: «a»\n", ""},
	})
}

func TestKindsThatAreKnown(t *testing.T) {
	head := func(version, kind string) string { return "apiVersion: " + version + "\nkind: " + kind + "\n" }
	checkRules(t, Options{}, []ruleCase{
		{"kubeadm", "", head("kubeadm.k8s.io/v1beta4", "ClusterConfiguration") + "imageRepository: «registry.k8s.io»\ndns:\n  imageRepository: «registry.k8s.io/coredns»\n  imageTag: v1\netcd: {local: {imageRepository: '«q.io/etcd/»'}}\n", ""},
		{"kubeadm of the default repository", "", head("kubeadm.k8s.io/v1beta4", "ClusterConfiguration") + "imageRepository: «registry.k8s.io»\nkubernetesVersion: v1\n", ""},
		{"kubeadm with the tag of CoreDNS alone", "", head("kubeadm.k8s.io/v1beta4", "ClusterConfiguration") + "dns: {imageTag: v1}\nimageRepository: «registry.k8s.io»\netcd: {local: {imageRepository: «registry.k8s.io»}}\n", ""},
		{"kubeadm whose CoreDNS is at the default", "", head("kubeadm.k8s.io/v1beta4", "ClusterConfiguration") + "dns: {imageRepository: «registry.k8s.io»}\nimageRepository: «registry.k8s.io»\n", ""},
		{"kubeadm of another repository", "", head("kubeadm.k8s.io/v1beta4", "ClusterConfiguration") + "imageRepository: «q.io/k8s»\n", ""},
		{"the same of the Cluster API", "", head("controlplane.cluster.x-k8s.io/v1beta1", "KubeadmControlPlane") + "spec:\n  kubeadmConfigSpec:\n    clusterConfiguration:\n      imageRepository: «registry.k8s.io»\n", ""},
		{"kubeadm of the Cluster API", "", head("controlplane.cluster.x-k8s.io/v1beta1", "KubeadmControlPlane") + "spec:\n  kubeadmConfigSpec:\n    clusterConfiguration:\n      imageRepository: «a.io»\n      dns: {imageRepository: «b.io»}\n", ""},
		{"kind", "", head("kind.x-k8s.io/v1alpha4", "Cluster") + "nodes:\n- role: x\n  image: «kindest/node:v1@sha256:0»\n", ""},
		{"the same kind of another group", "", head("other/v1", "Cluster") + "nodes:\n- image: kindest/node:v1\n", "kindest/node:v1: no rule"},
		{"Argo Workflows", "", head("argoproj.io/v1alpha1", "Workflow") + "spec:\n  templates:\n  - container: {image: «a»}\n  - script:\n      image: «b»\n    sidecars:\n    - image: «c»\n    initContainers:\n    - image: «d»\n", ""},
		{"Tekton", "", head("tekton.dev/v1", "Pipeline") + "spec:\n  tasks:\n  - taskSpec:\n      stepTemplate: {image: «z»}\n      steps:\n      - image: «a»\n      sidecars:\n      - image: «b»\n", ""},
		{"KubeVirt", "", head("kubevirt.io/v1", "VirtualMachine") + "spec:\n  dataVolumeTemplates:\n  - spec: {source: {registry: {url: \"docker://«a»\"}}}\n  template:\n    spec:\n      volumes:\n      - containerDisk:\n          image: «b»\n", ""},
		{"Prometheus", "", head("monitoring.coreos.com/v1", "Prometheus") + "spec:\n  image: «a»\n  thanos: {image: «b»}\n  containers:\n  - image: «c»\n", ""},
		{"Istio", "", head("install.istio.io/v1alpha1", "IstioOperator") + "spec:\n  hub: «docker.io/istio»\n  values:\n    global:\n      proxy: {image: proxyv2}\n", ""},
		{"values of Flux", "", head("helm.toolkit.fluxcd.io/v2", "HelmRelease") + "spec:\n  values:\n    image:\n      repository: «a/b»\n      tag: x\n", ""},
		{"values of Argo CD as text", "", head("argoproj.io/v1alpha1", "Application") + "spec:\n  source:\n    helm:\n      values: |\n        # ours\n        image:\n          repository: «a/b» # why\n          tag: x\n\n        sidecar: {image: '«c:1»'}\n    path: x\n  sources:\n  - helm:\n      values: |-\n          image: «d:1»\n", ""},
		{"values of Argo CD as text that cannot be read", "", head("argoproj.io/v1alpha1", "Application") + "spec:\n  source:\n    helm:\n      values: \"image:\\n  repository: a/b\\n\"\n", ": escaped"},
		{"values of Argo CD as text on one line, and none", "", head("argoproj.io/v1alpha1", "Application") + "spec:\n  sources:\n  - helm: {values: \"image: «a:1»\"}\n  - helm:\n      values: |\n  - helm:\n      values: ''\n  - helm: {values: x}\n  - helm:\n      values: >\n        image: a:1\n", ": escaped"},
		{"values as text of k3s", "", head("helm.cattle.io/v1", "HelmChart") + "spec:\n  valuesContent: |-\n    image:\n      repository: «a/b»\n      tag: x\n", ""},
		{"names that Flux puts in", "", head("kustomize.toolkit.fluxcd.io/v1", "Kustomization") + "spec:\n  images:\n  - name: a\n    newName: «b/a»\n---\n" + head("helm.toolkit.fluxcd.io/v2", "HelmRelease") + "spec:\n  postRenderers:\n  - kustomize:\n      images:\n      - {name: a, newName: «q.io/a», newTag: x}\n", ""},
		{"kubelets of kubeadm", "", head("kubeadm.k8s.io/v1beta3", "JoinConfiguration") + "nodeRegistration:\n  kubeletExtraArgs:\n    pod-infra-container-image: «registry.k8s.io/pause:3.9»\n", ""},
		{"the same since v1beta4", "", head("kubeadm.k8s.io/v1beta4", "InitConfiguration") + "nodeRegistration:\n  kubeletExtraArgs:\n  - name: pod-infra-container-image\n    value: «registry.k8s.io/pause:3.9»\n  - {name: cloud-provider, value: external/x:1}\n", ""},
		{"bare words of Argo CD", "", head("argoproj.io/v1alpha1", "Application") + "spec:\n  source:\n    helm:\n      parameters:\n      - {name: image.name, value: «a»}\n      - {name: x.image, value: b}\n      - {name: x.name, value: c}\n", "b: no rule"},
		{"what a cluster says of itself stays", "", pod + "image: «a»\nstatus:\n  containerStatuses:\n  - image: docker.io/library/a:latest\n    imageID: docker.io/library/a@sha256:0\n", ""},
		{"an element of a list", "", head("apps.kruise.io/v1beta1", "ImageListPullJob") + "spec:\n  images:\n  - «a»\n  - '«b»'\n", ""},
		{"Argo CD", "", head("argoproj.io/v1alpha1", "Application") + "spec:\n  source:\n    helm:\n      parameters:\n      - name: image.repository\n        value: «a/b»\n      - {name: x.image, value: «c:1»}\n      - {name: image.tag, value: v1}\n      - {name: sub.image.registry, value: «q.io»}\n      - {name: sub.image.repository, value: c}\n      valuesObject:\n        image: «d:1»\n    kustomize:\n      images:\n      - e=«f:1»\n      - g:2\n", "g:2: matcher"},
	})
}

func TestPathsOfOnesOwn(t *testing.T) {
	var paths []Path
	for _, s := range []string{"Thing: spec.foo[*].image", "Thing.example.com: spec.base = prefix", "*: spec.\"dotted.key\".*", "Root: $.spec.x", "Dot: .spec.x", "Other: a.**.b"} {
		p, err := ParsePath(s)
		if strings.HasSuffix(s, "*") {
			if err == nil {
				t.Errorf("%s was read", s)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, p)
	}
	checkRules(t, Options{Paths: paths}, []ruleCase{
		{"of a list", "", "apiVersion: example.com/v1\nkind: Thing\nspec:\n  foo:\n  - image: «a»\n  bar:\n  - image: b\n  base: «q.io»\n", ""},
		{"of another group", "", "apiVersion: v1\nkind: Thing\nspec:\n  foo: [{image: «a»}]\n  base: q.io\n", ""},
		{"from a root that is written", "", "apiVersion: v1\nkind: Root\nspec: {x: «a»}\n---\napiVersion: v1\nkind: Dot\nspec: {x: «b»}\n", ""},
		{"of any depth", "", "apiVersion: v1\nkind: Other\na:\n  b: «a»\n  c:\n  - b: «b»\nb: c\n", ""},
	})
	for _, s := range []string{"", "Thing", "Thing:", ": a", "a b: c", "Thing: a..b", "Thing: a[0]", "Thing: [*]", "Thing: a.", "Thing: **", "Thing: \"a", "Thing: a = b", "Thing: a]b", "Thing: a b"} {
		if p, err := ParsePath(s); err == nil {
			t.Errorf("%q was read as %+v", s, p)
		}
	}
}

func TestKustomize(t *testing.T) {
	checkRules(t, Options{}, []ruleCase{
		{"newName changes and name stays", "kustomization.yaml", "resources: [a.yaml]\nimages:\n- name: a\n  newName: «b»\n  newTag: v1\n", ""},
		{"without newName it is told", "", "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nimages:\n- name: a/b\n  newTag: v1\n", "a/b: matcher"},
		{"it is told by its images", "", "images:\n- name: a\n  newName: «b»\n", ""},
		{"and where they have new tags alone", "", "namePrefix: x-\nimages:\n- name: a/b\n  newTag: v1\n", "a/b: matcher"},
		{"values of a chart in it", "kustomization.yaml", "helmCharts:\n- name: x\n  repo: https://example.com/a\n  valuesInline:\n    image:\n      repository: «a/b»\n      tag: x\n    sidecar: {image: «c:1»}\nimages: []\n", ""},
		{"names of other things stay", "kustomization.yml", "configMapGenerator:\n- name: a\nimages: []\n", ""},
	})
}

func TestHelmValues(t *testing.T) {
	checkRules(t, Options{}, []ruleCase{
		{"repository and tag", "values.yaml", "image:\n  repository: «a/b»\n  tag: v1\nx:\n  image: {repository: «c»}\n", ""},
		{"registry, repository and tag", "values.yaml", "image:\n  registry: «docker.io»\n  repository: a/b\n  tag: v1\n", ""},
		{"a registry of nothing", "values.yaml", "global:\n  imageRegistry: \"\"\nimage:\n  registry: ''\n  repository: «a/b»\n", ""},
		{"a global registry", "values.yaml", "global:\n  imageRegistry: «q.io»\nimage:\n  repository: a/b\nother:\n  image:\n    repository: «r.io/c»\n", ""},
		{"a global registry of images", "values.yaml", "global:\n  image:\n    registry: «q.io»\nimage:\n  repository: a/b\n  tag: v1\nother: {image: {name: c, tag: x}}\n", ""},
		{"a hub beside a name", "values.yaml", "image:\n  hub: «q.io/a»\n  name: b\n  tag: v1\n", ""},
		{"a registry of another name is told", "values.yaml", "image:\n  host: q.io\n  repository: a/b\n  tag: v1\nx:\n  image: {registryUrl: q.io, name: c, tag: v1}\ny: {host: a.example, image: «d:1»}\n", "a/b: no rule, c: no rule"},
		{"names in a list or a map of images", "values.yaml", "images:\n  web: «a:1»\n  api: «q.io/b»\n  hero: assets/hero\n  logo: /static/x.png\n  db:\n    repository: «c/d»\n    tag: x\nextraImages:\n- «e:1»\n- f\n", "assets/hero: no rule"},
		{"names in a map of images with a registry for them are told", "values.yaml", "images:\n  registry: q.io\n  web: a/b:1\nx:\n  images: {repository: q.io/x, web: 'c:1'}\ny:\n  images: {registry: '', web: «d:1»}\n", "a/b:1: no rule, c:1: no rule"},
		{"a key that ends like images is another", "values.yaml", "damages: [a/b:1]\nwebImages: [«a/b:1»]\n", ""},
		{"other words for a name", "values.yaml", "a:\n  imageName: «a»\n  imageTag: v1\nb: {imageRepo: «q.io/b»}\nc: {imageRef: 'c/d'}\nd: {imageURL: 'https://example.com/x.png'}\n", "c/d: no rule"},
		{"a name", "values.yaml", "image: «a:1»\nsidecarImage: «b/c»\nextraContainers: {containers: [{image: «d»}]}\n", ""},
		{"a name beside its tag", "values.yaml", "image: «a»\ntag: v1\n", ""},
		{"a bare word is told", "values.yaml", "image: a\nlogoImage: x.png\nlogo: {image: /static/x.svg}\n", "a: no rule"},
		{"repository and image", "values.yaml", "driver:\n  repository: «nvcr.io/nvidia»\n  image: driver\n  version: v1\n", ""},
		{"image.name", "values.yaml", "image:\n  name: «a/b»\n  tag: v1\n", ""},
		{"repositories of other things stay", "values.yaml", "source:\n  repository: https://example.com/a\n  branch: b\ngit: {repository: a/b, tag: v1, path: x}\nname: a/b\nchart: {repository: a/b}\n", ""},
		{"a virtual machine of CircleCI", ".circleci/config.yml", "jobs:\n  a:\n    machine:\n      image: ubuntu-2204:current\n  b:\n    docker:\n    - image: «cimg/go:1»\n", ""},
		{"hub", "values.yaml", "global:\n  hub: «docker.io/istio»\npilot:\n  image: pilot\n", ""},
	})
}

func TestCompose(t *testing.T) {
	checkRules(t, Options{}, []ruleCase{
		{"services", "compose.yaml", "services:\n  a:\n    image: «a»\n  b:\n    image: \"«b»:${TAG:-1}\"\n    volumes:\n    - {type: image, source: «c», target: /c}\n    - {type: bind, source: d}\n", ""},
		{"what is built stays", "", "services:\n  a:\n    build: .\n    image: me/a\n  b: {image: «b»}\n", ""},
		{"fragments", "docker-compose.yml", "x-base: &base\n  image: «a»\nservices:\n  a:\n    <<: *base\n  b: *base\n", ""},
		{"the default of a variable for the registry", "", "services:\n  a:\n    image: ${REGISTRY:-«docker.io»}/library/a:${TAG:-1}\n  b:\n    image: ${REGISTRY-«q.io/team»}/b\n  c:\n    image: ${REGISTRY:-«q.io»/}c:1\n", ""},
		{"the default of a variable for the repository", "", "services:\n  a:\n    image: ${REPO:-«a»}:${TAG:-1}\n  b:\n    image: ${REPO:-«q.io/b»}@${DIGEST}\n", ""},
		{"a default with a default in it", "", "services:\n  a:\n    image: ${IMAGE:-«a»:${TAG:-1}}\n  b:\n    image: ${IMAGE:-${OTHER:-«b»}}\n", ""},
		{"a default that is a piece of a name", "", "services:\n  a:\n    image: ${TEAM:-library}/a\n  b:\n    image: ${REGISTRY:-}b\n  c:\n    image: ${A:-c:1}:${B}\n  d:\n    image: ${A:-d}x:1\n  e:\n    image: ${A:-«q.io»}/${B:-x}/e\n", "${TEAM:-library}/a: variable, ${REGISTRY:-}b: variable, ${A:-c:1}:${B}: variable, ${A:-d}x:1: variable"},
		{"images that a build is given", "", "services:\n  a:\n    build:\n      context: .\n      additional_contexts:\n        base: docker-image://«a:1»\n        other: ../x\n  b:\n    build:\n      additional_contexts:\n      - base=docker-image://«b»\n      - x=y:1\n", ""},
		{"a Dockerfile in a Compose file", "", "services:\n  a:\n    build:\n      dockerfile_inline: |\n        FROM «a» AS x\n\n        COPY --from=«b:1» / /\n        FROM x\n  c:\n    image: «c»\n  d:\n    build: {dockerfile_inline: FROM «d»}\n", ""},
		{"names of other things stay", "", "name: x\nservices:\n  a:\n    image: «a»\n    environment: {image: b}\nnetworks: {image: {}}\n", ""},
	})
}

func TestWorkflows(t *testing.T) {
	checkRules(t, Options{}, []ruleCase{
		{"GitHub", ".github/workflows/x.yml", "on: push\njobs:\n  a:\n    container: «a:1»\n    services:\n      b:\n        image: «b:1»\n    steps:\n    - uses: actions/checkout@v4\n    - uses: docker://«c:1»\n      with: {image: d:1}\n  e:\n    container:\n      image: «e»:${{ matrix.v }}\n", ""},
		{"a GitHub workflow without its place", "", "name: x\non: [push]\njobs:\n  a:\n    container: «a»\n    services: {b: {image: «b»}}\n", ""},
		{"an action of GitHub", "action.yml", "name: x\nruns:\n  using: docker\n  image: docker://«a»\n", ""},
		{"an action that is built", "action.yml", "name: x\nruns:\n  using: docker\n  image: Dockerfile\n", ""},
		{"GitLab", ".gitlab-ci.yml", "image: «a»\ndefault:\n  image: {name: «b», entrypoint: ['']}\n  services: [«c»]\nvariables:\n  image: x:1\nbuild:\n  image:\n    name: «d»\n  services:\n  - «e»\n  - name: «f»\n    alias: g\n  script: [x]\n.hidden:\n  image: \"«h»:$TAG\"\nother:\n  image: $CI_REGISTRY_IMAGE/x\n", "$CI_REGISTRY_IMAGE/x: variable"},
		{"GitLab without its name", "", "stages: [a]\nbuild:\n  image: «a»\n  script:\n  - !reference [.x, script]\n", ""},
	})
}

// The tags of a repository do not matter to its name, and are not asked about.
func TestANameIsAskedForOnceForEachRepository(t *testing.T) {
	asked := 0
	r := rewriter(t, Options{Rename: func(name string) (string, error) { asked++; return "M/" + name, nil }})
	var doc strings.Builder
	doc.WriteString("apiVersion: v1\nkind: Pod\nspec:\n  containers:\n")
	for i := range 100 {
		fmt.Fprintf(&doc, "  - image: q.io:5000/a/b:v%d\n", i)
	}
	doc.WriteString("  - image: q.io:5000/a/b\n  - image: q.io:5000/a/b:v1@sha256:0\n  - image: 'q.io:5000/a/b:'\n  - image: q.io:5000/a/b:-\n")
	res, err := r.Bytes("", []byte(doc.String()))
	if err != nil || string(res.Out) != strings.ReplaceAll(strings.ReplaceAll(doc.String(), "image: q", "image: M/q"), "'q", "'M/q") {
		t.Errorf("got %s, %v", res.Out, err)
	}
	if asked != 5 {
		t.Errorf("asked %d times, want 5", asked)
	}
}
