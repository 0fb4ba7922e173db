package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"sampan/internal/registrytest"
)

// A carrier is a program that copies an image between registries.
type carrier struct {
	name string
	args func(from, to string) []string
}

func (b *bench) carriers() []carrier {
	return []carrier{
		{"sampan copy", func(from, to string) []string {
			return []string{filepath.Join(b.bin, "sampan"), "copy", "--quiet", from, to}
		}},
		{"skopeo copy", func(from, to string) []string {
			return []string{"skopeo", "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://" + from, "docker://" + to}
		}},
		{"crane copy", func(from, to string) []string {
			return []string{filepath.Join(b.bin, "crane"), "copy", "--insecure", from, to}
		}},
	}
}

// copies compares copies of an image from one docker-registry to another, each time
// an empty one, and what a second copy asks.
func (b *bench) copies() (string, error) {
	const layers, size = 8, 64 << 20
	source, err := b.pushable("copy-source")
	if err != nil {
		return "", err
	}
	defer source.stop()
	up, err := registrytest.Start(registrytest.Options{CountsOnly: true})
	if err != nil {
		return "", err
	}
	up.AddImage(repository, "latest", registrytest.ImageSpec{Layers: slices.Repeat([]int64{size}, layers), Seed: 11})
	from := source.addr + "/" + repository + ":latest"
	_, err = b.carry(b.carriers()[0].args(up.Host()+"/"+repository+":latest", from))
	_ = up.Close() // always nil
	if err != nil {
		return "", err
	}
	list := b.carriers()
	times, costs, memory, again := make([][]float64, len(list)), make([][]float64, len(list)), make([]int64, len(list)), make([]int64, len(list))
	for range b.few(5) {
		for _, i := range rand.Perm(len(list)) {
			c, requests, err := b.carryBoth(list[i], from)
			if err != nil {
				return "", fmt.Errorf("%s: %w", list[i].name, err)
			}
			times[i], costs[i] = append(times[i], c.took.Seconds()), append(costs[i], c.cpu.Seconds())
			memory[i], again[i] = max(memory[i], c.memory), requests
		}
	}
	t := table{head: []string{"program", "time", "sampan's time ÷ its", "spread", "CPU s", "most memory", "requests to the target when all is there"}}
	most := 0.0
	for i, c := range list {
		r := ratios(times[0], times[i])
		most = max(most, median(r))
		t.add(c.name, fmt.Sprintf("%.2f s", median(times[i])), fmt.Sprintf("%.2f", median(r)), spread(r), fmt.Sprintf("%.2f", median(costs[i])), mib(memory[i]), fmt.Sprint(again[i]))
	}
	return fmt.Sprintf("Copy of an image of %d layers of 64 MiB from one docker-registry 2.8 to another that is empty, on one machine. Not slower than the faster of the others: %s.\n\n%s", layers, verdict(most, 1), t.String()), nil
}

// A cargo is what one copy has cost.
type cargo struct {
	took, cpu time.Duration
	memory    int64 // bytes, resident, at most
}

// carryBoth copies to an empty registry, and once more when all is there.
func (b *bench) carryBoth(c carrier, from string) (cargo, int64, error) {
	target, err := b.pushable("copy-target")
	if err != nil {
		return cargo{}, 0, err
	}
	defer target.stop()
	to := target.addr + "/" + repository + ":latest"
	first, err := b.carry(c.args(from, to))
	if err != nil {
		return cargo{}, 0, err
	}
	before, err := answered(target)
	if err != nil {
		return cargo{}, 0, err
	}
	if _, err := b.carry(c.args(from, to)); err != nil {
		return cargo{}, 0, err
	}
	after, err := answered(target)
	return first, after - before, err
}

// answered counts the requests in a registry's log.
func answered(p *process) (int64, error) {
	log, err := os.ReadFile(p.log.Name())
	return int64(strings.Count(string(log), "response completed")), err
}

// carry runs a program to its end.
func (b *bench) carry(args []string) (cargo, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "HOME="+b.work)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	if err := b.place.do(cmd.Start); err != nil {
		return cargo{}, err
	}
	ended, most := make(chan struct{}), make(chan int64)
	go func() { most <- highWater(&process{name: args[0], cmd: cmd}, ended) }()
	err := cmd.Wait()
	took := time.Since(began)
	close(ended)
	c := cargo{took: took, cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), memory: <-most}
	if err != nil {
		return cargo{}, fmt.Errorf("%w: %s", err, out.Bytes())
	}
	return c, nil
}

// highWater looks until the end for the most memory that a process had. What the kernel
// tells afterwards counts the memory of this program as well, which has started it.
func highWater(p *process, ended <-chan struct{}) int64 {
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	var most int64
	for {
		if now, err := p.memory("VmHWM"); err == nil { // it may be gone
			most = max(most, now)
		}
		select {
		case <-ended:
			return most
		case <-look.C:
		}
	}
}

// pushable starts Debian's docker-registry, empty, to be written to.
func (b *bench) pushable(name string) (*process, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	store, err := b.directory(name + "-data")
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf("version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: %s}, cache: {blobdescriptor: inmemory}}\nhttp: {addr: %q, secret: bench}\n", store, addr)
	file := filepath.Join(b.work, name+".yml")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return nil, err
	}
	p, err := b.start(name, addr, nil, "docker-registry", "serve", file)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{}).Get("http://" + addr + "/v2/")
	if err != nil {
		p.stop()
		return nil, err
	}
	return p, resp.Body.Close()
}
