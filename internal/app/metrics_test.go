package app_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"sampan/internal/app"
	"sampan/internal/registrytest"
)

// described are the metrics of a mirror with their labels.
func described(t *testing.T, a *app.App) map[string][]string {
	t.Helper()
	form := regexp.MustCompile(`^Desc\{fqName: "([^"]+)", help: "(.*)", unit: ".*", constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)
	all := make(map[string][]string)
	for _, text := range a.Descriptions() {
		m := form.FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("not understood: %s", text)
		}
		labels := []string{"instance", "le"} // that Prometheus adds, and histograms have
		for _, l := range strings.Split(m[3]+","+m[4], ",") {
			name, _, _ := strings.Cut(strings.TrimSpace(l), "=")
			labels = append(labels, name)
		}
		all[m[1]] = labels
		if !strings.HasPrefix(m[1], "sampan_") {
			continue
		}
		if m[2] == "" || !regexp.MustCompile(`^sampan_[a-z]+(_[a-z0-9]+)+$`).MatchString(m[1]) {
			t.Errorf("%s: name or help is not as it should be", m[1])
		}
		for _, l := range labels {
			if l == "repository" || l == "tag" || l == "digest" || l == "client" || l == "user" {
				t.Errorf("%s has the label %s, which strangers fill", m[1], l)
			}
		}
	}
	return all
}

// keyPair is a certificate that nobody trusts, with its key.
func keyPair(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mirror.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

func startWithEverything(t *testing.T) *reloadable {
	t.Helper()
	up := registrytest.StartTest(t, registrytest.Options{TLS: true})
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	certPEM, keyPEM := keyPair(t)
	for name, text := range map[string][]byte{cert: certPEM, key: keyPEM} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return startReloadable(t, fmt.Sprintf("upstreams: {up.test: {endpoints: [{url: %q}]}}\ntls: {certificates: [{cert: %s, key: %s}]}\ndata: {max_size: 1GiB}\n", up.URL(), cert, key))
}

func TestTheDashboardAndTheAlertsUseMetricsThatExist(t *testing.T) {
	metrics := described(t, startWithEverything(t).app)
	var used []string
	check := func(where, expr string) {
		for _, m := range regexp.MustCompile(`\b((?:sampan|go|process)_[a-z0-9_]+)(\{[^}]*\})?`).FindAllStringSubmatch(expr, -1) {
			name := m[1]
			labels, ok := metrics[name]
			if !ok {
				name = strings.TrimSuffix(name, "_bucket")
				labels, ok = metrics[name]
			}
			if !ok {
				t.Errorf("%s: there is no metric %s", where, m[1])
				continue
			}
			used = append(used, name)
			var wanted []string
			for _, l := range regexp.MustCompile(`([a-z_]+)\s*[=!]~?"`).FindAllStringSubmatch(m[2], -1) {
				wanted = append(wanted, l[1])
			}
			if by := regexp.MustCompile(`by \(([^)]*)\)`).FindStringSubmatch(expr); by != nil {
				for l := range strings.SplitSeq(by[1], ",") {
					wanted = append(wanted, strings.TrimSpace(l))
				}
			}
			for _, l := range wanted {
				if !slices.Contains(labels, l) {
					t.Errorf("%s: %s has no label %s, only %v", where, name, l, labels)
				}
			}
		}
	}
	text, err := os.ReadFile("../../deploy/grafana/sampan.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
			GridPos struct{ X, Y, W, H int }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	ids, exprs := make(map[int]bool), 0
	for _, p := range board.Panels {
		if ids[p.ID] || p.Title == "" || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d, %q", p.ID, p.Title)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			exprs++
			check(p.Title, target.Expr)
		}
	}
	if text, err = os.ReadFile("../../deploy/grafana/alerts.yaml"); err != nil {
		t.Fatal(err)
	}
	var alerts struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(text, &alerts); err != nil {
		t.Fatal(err)
	}
	for _, r := range alerts.Groups[0].Rules {
		exprs++
		check(r.Alert, r.Expr)
	}
	slices.Sort(used)
	if n := len(slices.Compact(used)); exprs < 30 || n < 30 {
		t.Errorf("%d expressions over %d metrics: not all were found", exprs, n)
	}
}

// Each metric is in the manual, and each one of the manual is there.
func TestMetricsAreInTheManual(t *testing.T) {
	metrics := described(t, startWithEverything(t).app)
	for _, page := range []string{"operations.md", "operations.zh-CN.md"} {
		text, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		told := make(map[string]bool)
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, "| `sampan_") {
				continue
			}
			for _, name := range regexp.MustCompile("`(sampan_[a-z0-9_]+)`").FindAllStringSubmatch(strings.SplitN(line, "|", 3)[1], -1) {
				told[name[1]] = true
				if _, ok := metrics[name[1]]; !ok {
					t.Errorf("%s tells of %s, which there is not", page, name[1])
				}
			}
		}
		for _, name := range slices.Sorted(maps.Keys(metrics)) {
			if strings.HasPrefix(name, "sampan_") && name != "sampan_build_info" && !told[name] {
				t.Errorf("%s does not tell of %s", page, name)
			}
		}
	}
}

// A registry that is added while the mirror runs has its name in the metrics.
func TestARegistryThatIsAddedIsNamed(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	up.AddImage("team/app", "1", registrytest.ImageSpec{})
	m := startReloadable(t, "")
	m.write(t, fmt.Sprintf("upstreams: {new.test: {endpoints: [{url: %q}]}}\n", up.URL()))
	if err := m.app.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := m.pull("new.test/team/app", "1"); err != nil {
		t.Fatal(err)
	}
	body := string(fetch(t, m.client, "http://"+m.app.AdminAddr()+"/metrics").body)
	if !strings.Contains(body, `sampan_edge_requests_total{code="200",kind="manifest",registry="new.test"`) || strings.Contains(body, `registry="other"`) {
		t.Errorf("it is counted under another name:\n%s", body)
	}
}
