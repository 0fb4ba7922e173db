package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"sampan/internal/doctor"
	"sampan/internal/runtimes"
)

func illReport() *doctor.Report {
	both := func(s string) runtimes.Text { return runtimes.Text{English: "en " + s, Chinese: "zh " + s} }
	return &doctor.Report{
		Mirror: []doctor.Check{{ID: "connection", Says: both("refused")}},
		Runtimes: []doctor.Runtime{
			{Name: "docker", Version: "20.10", Uses: true, Mirrors: []string{"https://m"}},
			{Name: "k3s", Closed: true, Uses: true},
			{Name: "docker", Version: "28.0", Kind: "classic", Uses: true},
			{Name: "podman", Err: errors.New("broken")},
			{Name: "crio", Mirrors: []string{"quay.io = other"}},
		},
		Registries: []doctor.Reach{{Name: "quay.io", State: doctor.Forged, Says: both("forged")}},
		Proxies:    []doctor.Check{{ID: "HTTPS_PROXY", OK: true, Says: both("http://p")}},
		Disks:      []doctor.Disk{{Dir: "/var/lib/docker", Free: 3 << 30, Size: 9 << 30}},
		Findings: []doctor.Finding{
			{ID: "mirror-connect", Severity: doctor.Problem, What: both("what"), Do: both("do")},
			{ID: "disk", Severity: doctor.Warning, What: both("low"), Do: both("prune")},
		},
	}
}

func TestADiagnosisForPeople(t *testing.T) {
	for language, wants := range map[string][]string{
		"C": {
			"Mirror https://m\n  BAD   connection           en refused\n", "ok    docker 20.10         uses the mirror; the registries", "k3s                  uses the mirror, and nothing else",
			"BAD   podman               its settings cannot be used", "uses others: quay.io = other", "docker 28.0          uses the mirror for Docker Hub alone", "Disk of /var/lib/docker: 3.0 GiB of 9.0 GiB are free",
			"  1. problem: en what\n     → en do\n  2. warning: en low\n",
		},
		"zh_CN.UTF-8": {"镜像站 https://m", "异常", "zh refused", "使用镜像站，且只使用镜像站", "  1. 问题：zh what\n     → zh do\n"},
	} {
		t.Setenv("LC_ALL", language)
		got := diagnosis(illReport(), "https://m")
		for _, want := range wants {
			if !strings.Contains(got, want) {
				t.Errorf("%s: there is no %q in\n%s", language, want, got)
			}
		}
	}
	t.Setenv("LC_ALL", "C")
	steering := &doctor.Report{Mirror: []doctor.Check{{ID: "certificate", Says: runtimes.Text{English: "of \x1b[2J\u202enobody"}}}}
	if got := diagnosis(steering, "https://m"); strings.ContainsAny(got, "\x1b\u202e") {
		t.Errorf("a stranger steers the terminal: %q", got)
	}
	if got := diagnosis(&doctor.Report{}, "https://m"); !strings.Contains(got, "All is well.") || !strings.Contains(got, "none was found") {
		t.Errorf("nothing wrong is told as\n%s", got)
	}
}

func TestADiagnosisForPrograms(t *testing.T) {
	t.Setenv("LC_ALL", "C")
	var b bytes.Buffer
	if err := writeDiagnosis(&b, illReport()); err != nil {
		t.Fatal(err)
	}
	var got struct {
		OK         bool
		Runtimes   []map[string]any
		Registries []map[string]any
		Findings   []map[string]any
		Proxies    map[string]string
		Disks      []map[string]any
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.OK || got.Runtimes[0]["uses_mirror"] != true || got.Runtimes[3]["error"] != "broken" || got.Registries[0]["state"] != "forged" ||
		got.Findings[0]["id"] != "mirror-connect" || got.Findings[0]["advice"] != "en do" || got.Proxies["HTTPS_PROXY"] != "en http://p" || got.Disks[0]["free_bytes"] != float64(3<<30) {
		t.Errorf("got %s", b.Bytes())
	}
	b.Reset()
	if err := writeDiagnosis(&b, &doctor.Report{}); err != nil || strings.Contains(b.String(), "null") || !strings.Contains(b.String(), `"ok": true`) {
		t.Errorf("nothing wrong is told as %s, %v", b.Bytes(), err)
	}
}
