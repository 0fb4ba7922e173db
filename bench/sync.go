package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// The repository that is kept in step, and where.
const (
	syncedTags = 1000
	syncedFrom = "bench/app"
	syncedTo   = "copies/app"
)

// syncers are the programs that keep a repository in step, with their settings.
func (b *bench) syncers(from, to string) ([]carrier, error) {
	list := func(name, text string) (string, error) {
		file := filepath.Join(b.work, name)
		return file, os.WriteFile(file, []byte(text), 0o644)
	}
	own, err := list("sampan-sync.yaml", fmt.Sprintf("images: [{source: '%s/%s', tags: ['*']}]\ntargets: ['%s/%s']\n", from, syncedFrom, to, syncedTo))
	if err != nil {
		return nil, err
	}
	regsync := func(name, defaults string) (string, error) {
		return list(name, fmt.Sprintf(`version: 1
%screds:
  - {registry: '%s', tls: disabled}
  - {registry: '%s', tls: disabled}
sync:
  - {source: '%[2]s/%[4]s', target: '%[3]s/%[5]s', type: repository}
`, defaults, from, to, syncedFrom, syncedTo))
	}
	plain, err := regsync("regsync.yaml", "")
	if err != nil {
		return nil, err
	}
	parallel, err := regsync("regsync-parallel.yaml", "defaults: {parallel: 8}\n")
	if err != nil {
		return nil, err
	}
	command := func(args ...string) func(from, to string) []string {
		return func(string, string) []string { return args }
	}
	bin := func(name string) string { return filepath.Join(b.bin, name) }
	return []carrier{
		{"sampan sync", command(bin("sampan"), "sync", "--quiet", "-f", own)},
		{"regsync once", command(bin("regsync"), "once", "-c", plain)},
		{"regsync once, 8 in parallel", command(bin("regsync"), "once", "-c", parallel)},
		{"skopeo sync --all", command("skopeo", "sync", "--all", "--src-tls-verify=false", "--dest-tls-verify=false",
			"--src", "docker", "--dest", "docker", from+"/"+syncedFrom, to+"/"+strings.TrimSuffix(syncedTo, "/app"))},
	}, nil
}

// syncs compares what it takes to find out that a repository is in step, with a source
// that is near and with one that is not.
func (b *bench) syncs() (string, error) {
	target, err := b.pushable("sync-target")
	if err != nil {
		return "", err
	}
	defer target.stop()
	t := table{head: []string{"source", "program", "time", "sampan's time ÷ its", "spread", "CPU s", "most memory", "HEAD at the source", "other", "HEAD at the target", "other"}}
	quickest, frugal := true, true
	for _, trip := range []time.Duration{0, 20 * time.Millisecond} {
		runs, err := b.syncsFrom(trip, target)
		if err != nil {
			return "", err
		}
		place := "near"
		if trip > 0 {
			place = fmt.Sprintf("%d ms away", trip.Milliseconds())
		}
		own := runs[0]
		frugal = frugal && max(own.asked.source, own.asked.target) <= syncedTags && own.asked.atTarget == 0
		for _, r := range runs {
			ratio := ratios(own.times, r.times)
			quickest = quickest && median(ratio) <= 1
			t.add(place, r.name, seconds(median(r.times)), fmt.Sprintf("%.2f", median(ratio)), spread(ratio), fmt.Sprintf("%.2f", median(r.costs)), mib(r.memory),
				fmt.Sprint(r.asked.source), fmt.Sprint(r.asked.atSource), fmt.Sprint(r.asked.target), fmt.Sprint(r.asked.atTarget))
		}
	}
	verdict := map[bool]string{true: "yes", false: "**no**"}
	return fmt.Sprintf("A repository of %d tags, every other one an index of three manifests, from a simulated registry to a docker-registry 2.8 on the same machine that has all of it; of each round the quickest of three runs (of skopeo's, one). At most one HEAD for each tag at each side, and one list of tags: %s. No other program is quicker: %s.\n\n%s",
		syncedTags, verdict[frugal], verdict[quickest], t.String()), nil
}

// A syncRun is what one program has cost.
type syncRun struct {
	name         string
	times, costs []float64 // seconds
	memory       int64     // bytes, at most
	asked        asked     // in the last round
}

// asked counts requests: HEADs, and others, at each side.
type asked struct{ source, atSource, target, atTarget int }

// syncsFrom measures the programs with a source that is a round trip away. skopeo, which
// asks thousands of times one after the other, is measured near alone.
func (b *bench) syncsFrom(trip time.Duration, target *process) ([]*syncRun, error) {
	source, end, err := distant(trip, registrytest.Behavior{})
	if err != nil {
		return nil, err
	}
	defer end()
	addSynced(source)
	list, err := b.syncers(source.Host(), target.addr)
	if err != nil {
		return nil, err
	}
	if trip > 0 {
		list = slices.DeleteFunc(list, slow)
	}
	if _, err := b.carry(list[0].args("", "")); err != nil { // the target has everything from here on
		return nil, err
	}
	var runs []*syncRun
	for _, c := range list {
		runs = append(runs, &syncRun{name: c.name})
	}
	for range b.few(3) {
		round := make([]cargo, len(list))
		for range 3 {
			for _, i := range rand.Perm(len(list)) {
				if slow(list[i]) && round[i].took > 0 {
					continue
				}
				c, err := b.syncOnce(list[i], runs[i], source, target)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", list[i].name, err)
				}
				if round[i].took == 0 || c.took < round[i].took {
					round[i] = c
				}
			}
		}
		for i, c := range round {
			runs[i].times, runs[i].costs = append(runs[i].times, c.took.Seconds()), append(runs[i].costs, c.cpu.Seconds())
		}
	}
	return runs, nil
}

// slow tells a program that takes too long to be run often.
func slow(c carrier) bool { return strings.HasPrefix(c.name, "skopeo") }

// syncOnce runs a program and notes what it asked.
func (b *bench) syncOnce(c carrier, run *syncRun, source *registrytest.Registry, target *process) (cargo, error) {
	source.ResetCounts()
	before, err := methodsOf(target)
	if err != nil {
		return cargo{}, err
	}
	cost, err := b.carry(c.args("", ""))
	if err != nil {
		return cargo{}, err
	}
	after, err := methodsOf(target)
	if err != nil {
		return cargo{}, err
	}
	run.memory = max(run.memory, cost.memory)
	run.asked = asked{source: source.Count(registrytest.KindAny, http.MethodHead)}
	run.asked.atSource = source.Count(registrytest.KindAny) - run.asked.source
	for method, n := range after {
		if n -= before[method]; method == http.MethodHead {
			run.asked.target = n
		} else {
			run.asked.atTarget += n
		}
	}
	return cost, nil
}

// addSynced makes the repository. All of it shares its blobs, which are of no interest.
func addSynced(r *registrytest.Registry) {
	for i := range syncedTags {
		spec := registrytest.ImageSpec{Layers: []int64{1024}, Seed: 5, Annotations: map[string]string{"bench.test/number": fmt.Sprint(i)}}
		if i%2 == 0 {
			spec.Platforms = []oci.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "s390x"}}
		}
		r.AddImage(syncedFrom, fmt.Sprintf("v%d", i), spec)
	}
}

// methodsOf counts the requests in a registry's log by their methods.
func methodsOf(p *process) (map[string]int, error) {
	log, err := os.ReadFile(p.log.Name())
	count := map[string]int{}
	for line := range strings.Lines(string(log)) {
		if !strings.Contains(line, "response completed") {
			continue
		}
		fields := strings.Fields(line)
		if i := slices.IndexFunc(fields, func(f string) bool { return strings.HasPrefix(f, "http.request.method=") }); i >= 0 {
			count[strings.TrimPrefix(fields[i], "http.request.method=")]++
		}
	}
	return count, err
}
