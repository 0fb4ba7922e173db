//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sampan/internal/registrytest"
)

// The proxies' user and passwords. That of the SOCKS proxy has to be encoded in a
// URL; tinyproxy's settings know only plain ones.
const (
	proxyUser     = "crew"
	httpPassword  = "pass.word-1"
	httpLogin     = "crew:pass.word-1@"
	socksPassword = "pa/ss@word"
	socksLogin    = "crew:pa%2Fss%40word@"
)

// hidden is a registry like Docker Hub whose names only the proxies know.
type hidden struct {
	*registrytest.Registry
	image manifest
	ca    string // a file
}

func startHidden(t *testing.T) hidden {
	t.Helper()
	behavior := registrytest.DockerHub()
	behavior.Redirect.Target = registrytest.TargetSubdomain
	r := registrytest.StartTest(t, registrytest.Options{TLS: true, Hostname: "registry.hidden.test"})
	image := fill(t, r, "team/web", "1")
	r.SetBehavior(behavior)
	return hidden{r, image, writeFile(t, filepath.Join(testDir(t, "ca"), "ca.pem"), string(r.CertPEM()))}
}

// sites are the "host:port" of the registry, its token service and its storage.
func (h hidden) sites() []string {
	strip := func(url string) string {
		host, _, _ := strings.Cut(strings.TrimPrefix(url, "https://"), "/")
		return host
	}
	sites := []string{strip(h.URL()), strip(h.TokenURL()), "cdn." + strip(h.CDNURL())}
	slices.Sort(sites)
	return sites
}

// config is an upstream hidden.test with an egress, whose lines are given.
func (h hidden) config(egress ...string) string {
	lines := append([]string{"ca_files: [" + h.ca + "]"}, egress...)
	return "upstreams:\n  hidden.test:\n    endpoints: [{url: " + h.URL() + "}]\n    egress:\n      " + strings.Join(lines, "\n      ") + "\n"
}

// pullHidden pulls through the mirror with crane and Skopeo, and compares bytes
// and digests with the original.
func pullHidden(t *testing.T, m *mirror, h hidden) {
	t.Helper()
	name := m.address + "/hidden.test/team/web:1"
	crane := newTool(t, "crane")
	if got := strings.TrimSpace(crane.run(t, "digest", name)); got != h.image.digest {
		t.Errorf("the digest is %s, want %s", got, h.image.digest)
	}
	crane.run(t, "validate", "--remote", name)
	dir := testDir(t, "skopeo")
	skopeo := command{path: skopeoPath, env: cleanEnv(dir), dir: dir}
	skopeo.run(t, "copy", "--src-tls-verify=false", "docker://"+name, "dir:"+dir+"/image")
	wantFile(t, dir+"/image/manifest.json", string(h.image.raw))
	for _, blob := range append(h.image.Layers, h.image.Config) {
		_, digest, _ := strings.Cut(blob.Digest, ":")
		if got := fileDigest(t, filepath.Join(dir, "image", digest)); got != blob.Digest {
			t.Errorf("%s is %s at the client", blob.Digest, got)
		}
		requests := 0
		for _, r := range h.Requests() {
			if r.Kind == registrytest.KindCDN && strings.Contains(r.Path, digest) {
				requests++
			}
		}
		if requests != 1 {
			t.Errorf("the storage was asked %d times for %s", requests, blob.Digest)
		}
	}
}

// withHosts starts a daemon in a mount namespace with a file of hosts of its own.
func withHosts(t *testing.T, dir, path string, args ...string) *daemon {
	t.Helper()
	hosts := writeFile(t, filepath.Join(dir, "hosts"), "127.0.0.1 localhost registry.hidden.test cdn.registry.hidden.test\n")
	args = append([]string{"--mount", "--", "/bin/sh", "-c", `mount --bind "$0" /etc/hosts && exec "$@"`, hosts, path}, args...)
	return startTestDaemon(t, cleanEnv(dir), filepath.Join(dir, "log"), unsharePath, args...)
}

// startTinyproxy starts Debian's tinyproxy, which wants user and password.
func startTinyproxy(t *testing.T) (address string, d *daemon) {
	t.Helper()
	address = freeAddress()
	host, port, _ := strings.Cut(address, ":")
	dir := testDir(t, "tinyproxy")
	config := fmt.Sprintf("Port %s\nListen %s\nBasicAuth %s %s\nTimeout 60\nMaxClients 100\nLogLevel Connect\nPidFile %q\n",
		port, host, proxyUser, httpPassword, filepath.Join(dir, "pid"))
	d = withHosts(t, dir, tinyproxyPath, "-d", "-c", writeFile(t, filepath.Join(dir, "tinyproxy.conf"), config))
	if err := d.ready(listening("tcp", address)); err != nil {
		t.Fatal(err)
	}
	return address, d
}

// startMicrosocks starts Debian's microsocks, likewise.
func startMicrosocks(t *testing.T) (address string, d *daemon) {
	t.Helper()
	address = freeAddress()
	host, port, _ := strings.Cut(address, ":")
	d = withHosts(t, testDir(t, "microsocks"), microsocksPath, "-i", host, "-p", port, "-u", proxyUser, "-P", socksPassword)
	if err := d.ready(listening("tcp", address)); err != nil {
		t.Fatal(err)
	}
	return address, d
}

// seen are the distinct first groups of a pattern in a daemon's log, sorted.
func (d *daemon) seen(pattern string) []string {
	var all []string
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(d.logTail(1<<20), -1) {
		all = append(all, match[1])
	}
	slices.Sort(all)
	return slices.Compact(all)
}

const (
	tinyproxySaw  = `CONNECT (\S+) HTTP/1`
	microsocksSaw = `connected to (\S+)`
)

func wantSeen(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s was asked for %q, want %q", what, got, want)
	}
}

func TestUpstreamOnlyBehindAnHTTPProxy(t *testing.T) {
	h := startHidden(t)
	address, proxy := startTinyproxy(t)
	m := startMirror(t, options{
		config: h.config("proxy: http://"+address, "proxy_username: "+proxyUser, "proxy_password: ${PROXY_PASSWORD}"),
		env:    []string{"PROXY_PASSWORD=" + httpPassword},
	})
	pullHidden(t, m, h)
	wantSeen(t, "the proxy", proxy.seen(tinyproxySaw), h.sites())
}

func TestUpstreamOnlyBehindASOCKSProxy(t *testing.T) {
	h := startHidden(t)
	address, proxy := startMicrosocks(t)
	password := writeFile(t, filepath.Join(testDir(t, "secret"), "password"), socksPassword+"\n")
	m := startMirror(t, options{config: h.config("proxy: socks5h://"+address, "proxy_username: "+proxyUser, "proxy_password_file: "+password)})
	pullHidden(t, m, h)
	wantSeen(t, "the proxy", proxy.seen(microsocksSaw), h.sites())
}

// What the registry redirects to leaves in another way than the registry.
func TestRedirectHostBehindAnotherProxy(t *testing.T) {
	h := startHidden(t)
	sites := h.sites()
	first, http := startTinyproxy(t)
	second, socks := startMicrosocks(t)
	m := startMirror(t, options{config: h.config("proxy: http://"+httpLogin+first, "redirects:", `  "*.registry.hidden.test": {proxy: "socks5h://`+socksLogin+second+`"}`)})
	pullHidden(t, m, h)
	wantSeen(t, "the registry's proxy", http.seen(tinyproxySaw), sites[1:])
	wantSeen(t, "the storage's proxy", socks.seen(microsocksSaw), sites[:1])
}

func TestProxyOfTheEnvironment(t *testing.T) {
	h := startHidden(t)
	address, proxy := startTinyproxy(t)
	m := startMirror(t, options{config: h.config(), env: []string{"HTTPS_PROXY=http://" + httpLogin + address, "NO_PROXY=*.test.invalid"}})
	pullHidden(t, m, h)
	wantSeen(t, "the proxy", proxy.seen(tinyproxySaw), h.sites())

	m = startMirror(t, options{config: h.config("proxy: direct"), env: []string{"HTTPS_PROXY=http://" + httpLogin + address}})
	said := m.missing(t, "hidden.test/team/web:1")
	if !strings.Contains(said, "hidden.test cannot be reached: its name") {
		t.Errorf("directly, the client is told: %s", said)
	}
}

// What goes wrong on the way is named to the client, and no password to anybody.
func TestFailuresOnTheWayAreNamed(t *testing.T) {
	h := startHidden(t)
	tinyproxy, _ := startTinyproxy(t)
	microsocks, _ := startMicrosocks(t)
	const wrong = "wr0ng-s3cret"
	for name, c := range map[string]struct{ proxy, want string }{
		"other credentials":      {"http://crew:" + wrong + "@" + tinyproxy, "the proxy on the way asks for other credentials"},
		"no credentials":         {"http://" + tinyproxy, "the proxy on the way asks for other credentials"},
		"connection refused":     {"http://crew:" + wrong + "@" + freeAddress(), "the proxy on the way does not answer: connection refused"},
		"SOCKS, not with these":  {"socks5h://crew:" + wrong + "@" + microsocks, "the SOCKS proxy on the way does not connect"},
		"without a proxy at all": {"direct", "its name"},
	} {
		t.Run(name, func(t *testing.T) {
			m := startMirror(t, options{config: h.config("proxy: "+c.proxy) + "log: {level: debug}\n"})
			said := m.missing(t, "hidden.test/team/web:1")
			if !strings.Contains(said, "hidden.test cannot be reached: "+c.want) {
				t.Errorf("the client is told: %s", said)
			}
			shown := command{path: os.Getenv(binaryVariable), env: cleanEnv(m.data), dir: m.data}.run(t, "config", "show", "--config", filepath.Join(m.data, "sampan.yaml"))
			if strings.Contains(said+m.process.logTail(1<<20)+shown, wrong) {
				t.Error("the password is told")
			}
		})
	}
	if n := h.Count(registrytest.KindAny); n != 0 {
		t.Errorf("the registry was asked %d times", n)
	}
}

// startDNSMasq starts Debian's dnsmasq, which knows these names and no others.
func startDNSMasq(t *testing.T, names map[string]string) (address string, d *daemon) {
	t.Helper()
	address = freeAddress()
	host, port, _ := strings.Cut(address, ":")
	dir := testDir(t, "dnsmasq")
	args := []string{
		"--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces", "--listen-address=" + host, "--port=" + port,
		"--user=root", "--pid-file=" + filepath.Join(dir, "pid"), "--log-queries", "--log-facility=-", "--local=//", "--local=/test/",
	}
	for name, to := range names {
		args = append(args, "--host-record="+name+","+to)
	}
	d = startTestDaemon(t, cleanEnv(dir), filepath.Join(dir, "log"), dnsmasqPath, args...)
	if err := d.ready(listening("tcp", address)); err != nil {
		t.Fatal(err)
	}
	return address, d
}

const dnsmasqSaw = `query\[A\] (\S+) from`

// One name is two registries, for two servers with split answers. The first
// server of one upstream is dead.
func TestUpstreamsWithDNSOfTheirOwn(t *testing.T) {
	_, port, _ := strings.Cut(freeAddress(), ":")
	start := func(ip, upstream, repository, tag string) manifest {
		r := registrytest.StartTest(t, registrytest.Options{Addr: ip + ":" + port, Hostname: "registry.split.test"})
		return fillFrom(t, r, "team/web", "1", upstream, repository, tag)
	}
	one := start("127.0.0.5", "docker.io", "library/tiny", "latest")
	two := start("127.0.0.6", "quay.io", "team/tool", "1")
	if one.digest == two.digest {
		t.Fatal("the testbed's images are the same")
	}
	firstDNS, first := startDNSMasq(t, map[string]string{"registry.split.test": "127.0.0.5"})
	secondDNS, second := startDNSMasq(t, map[string]string{"registry.split.test": "127.0.0.6"})
	upstream := func(name, host, servers string) string {
		return "  " + name + ":\n    endpoints: [{url: http://" + host + ":" + port + "}]\n    egress: {dns: [" + servers + "]}\n"
	}
	m := startMirror(t, options{config: "upstreams:\n" +
		upstream("one.test", "registry.split.test", "udp://"+freeAddress()+", udp://"+firstDNS) +
		upstream("two.test", "registry.split.test", "tcp://"+secondDNS) +
		upstream("none.test", "absent.split.test", "udp://"+firstDNS) +
		upstream("dead.test", "registry.split.test", "udp://"+freeAddress())})
	crane := newTool(t, "crane")
	for name, image := range map[string]manifest{"one.test": one, "two.test": two} {
		full := m.address + "/" + name + "/team/web:1"
		if got := strings.TrimSpace(crane.run(t, "digest", full)); got != image.digest {
			t.Errorf("%s: the digest is %s, want %s", name, got, image.digest)
		}
		crane.run(t, "validate", "--remote", full)
		layer := image.Layers[len(image.Layers)-1]
		if got := crane.run(t, "blob", m.address+"/"+name+"/team/web@"+layer.Digest); digestOf([]byte(got)) != layer.Digest {
			t.Errorf("%s: another layer", name)
		}
	}
	for name, want := range map[string]string{
		"none.test": "none.test cannot be reached: its name does not exist in the DNS",
		"dead.test": "dead.test cannot be reached: none of the configured DNS servers answers",
	} {
		if said := m.missing(t, name+"/team/web:1"); !strings.Contains(said, want) {
			t.Errorf("%s: the client is told: %s", name, said)
		}
	}
	wantSeen(t, "the first server", first.seen(dnsmasqSaw), []string{"absent.split.test", "registry.split.test"})
	wantSeen(t, "the second server", second.seen(dnsmasqSaw), []string{"registry.split.test"})
}

// Another sampan is an upstream like any other: what it has, it alone is asked.
func TestUpstreamIsAnotherSampan(t *testing.T) {
	back := startMirror(t, options{})
	front := startMirror(t, options{upstreams: map[string]string{
		"docker.io": "http://" + back.address + "/v2/docker.io",
		"quay.io":   "http://" + back.address + "/v2/quay.io",
	}})
	crane := newTool(t, "crane")
	for upstream, name := range map[string]string{"docker.io": "library/tiny:latest", "quay.io": "team/tool:1"} {
		repository, tag, _ := strings.Cut(name, ":")
		image := original(t, upstream, repository, tag)
		full := front.address + "/" + upstream + "/" + name
		if got := strings.TrimSpace(crane.run(t, "digest", full)); got != image.digest {
			t.Errorf("the digest of %s is %s, want %s", name, got, image.digest)
		}
		crane.run(t, "validate", "--remote", full)
		back.upstream(t, upstream).wantAsked(t, "^GET .*/blobs/"+image.Config.Digest, 1, 1)
	}
	back.wantEachBlobOnce(t)
}
