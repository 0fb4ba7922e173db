// Command bench measures sampan beside what a user would pick instead, on one
// machine and in one run: net/http's file server, nginx, Debian's docker-registry
// and distribution 3. It prints tables in Markdown, and with -write puts them into
// the README beside it.
//
// Upstreams are simulated in this process; servers and the load client are
// processes of their own. What is compared is measured alternately, several
// rounds, and told as a median. CPU time is what the kernel's clock of the
// process says, all threads and worker processes included. Nothing leaves the
// loopback interface and the network namespaces made here.
package main

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A bench is one run.
type bench struct {
	work   string // scratch directory, made anew
	bin    string // directory of the programs measured
	rounds int
	kills  int        // of the soak
	place  *namespace // where processes are started and dialled
}

// A measurement is one of the cases.
type measurement struct {
	name string
	run  func(*bench) (string, error) // returns Markdown
}

func measurements() []measurement {
	return []measurement{
		{"warm", (*bench).warm},
		{"small", (*bench).small},
		{"tls", (*bench).secure},
		{"cold", (*bench).cold},
		{"link", (*bench).link},
		{"throttled", (*bench).throttled},
		{"lossy", (*bench).lossy},
		{"fast", (*bench).fast},
		{"ahead", (*bench).ahead},
		{"stampede", (*bench).stampede},
		{"resets", (*bench).resets},
		{"kills", (*bench).killed},
		{"memory", (*bench).footprint},
		{"wrong", (*bench).wrong},
		{"copy", (*bench).copies},
		{"sync", (*bench).syncs},
	}
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	b := &bench{}
	var readme string
	flag.StringVar(&b.work, "work", "bench/.work", "scratch `directory`; what is in it may be removed")
	flag.StringVar(&b.bin, "bin", "bench/.work/bin", "`directory` of the programs that run.sh has built")
	flag.IntVar(&b.rounds, "rounds", 5, "rounds of what is compared")
	flag.IntVar(&b.kills, "kills", 300, "how often the case kills ends the process")
	flag.StringVar(&readme, "write", "", "Markdown `file` whose tables are replaced")
	flag.Parse()
	var err error
	if b.work, err = filepath.Abs(b.work); err != nil {
		return err
	}
	if b.bin, err = filepath.Abs(b.bin); err != nil {
		return err
	}
	if b.place, err = enter(""); err != nil {
		return err
	}
	chosen := flag.Args()
	for _, name := range chosen {
		if !slices.ContainsFunc(measurements(), func(m measurement) bool { return m.name == name }) {
			return fmt.Errorf("no case is named %q", name)
		}
	}
	for _, m := range measurements() {
		if len(chosen) > 0 && !slices.Contains(chosen, m.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "== %s\n", m.name)
		load, err := loadAverage()
		if err != nil {
			return err
		}
		text, err := m.run(b)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		fmt.Printf("%s\n", text)
		if readme != "" {
			if err := replace(readme, m.name, load, text); err != nil {
				return err
			}
		}
	}
	return nil
}

// few is how many rounds a case has that takes long: no more than most.
func (b *bench) few(most int) int { return min(b.rounds, most) }

// loadAverage tells how busy the machine is with other work, and with the case
// before.
func loadAverage() (string, error) {
	raw, err := os.ReadFile("/proc/loadavg")
	load, _, _ := strings.Cut(string(raw), " ")
	return load, err
}

// hashCost is what SHA-256 of a GiB takes on this machine, in seconds of CPU: a
// quarter on processors with instructions for it, and half of a cold pull without.
func hashCost() float64 {
	const size, rounds = 16 << 20, 4
	block := make([]byte, size)
	best := time.Hour
	for range rounds {
		begin := time.Now()
		sha256.Sum256(block)
		best = min(best, time.Since(begin))
	}
	return best.Seconds() * (1 << 30) / size
}

// replace puts text between the two comments that name a case, with the day and
// what the load was before.
func replace(readme, name, load, text string) error {
	raw, err := os.ReadFile(readme)
	if err != nil {
		return err
	}
	begin, end := "<!-- begin "+name+" -->\n", "<!-- end "+name+" -->\n"
	head, rest, found := strings.Cut(string(raw), begin)
	_, tail, ended := strings.Cut(rest, end)
	if !found || !ended {
		return fmt.Errorf("%s has no place for %q", readme, name)
	}
	when := time.Now().UTC().Format("Measured 2006-01-02") + ", load average before: " + load +
		fmt.Sprintf("; SHA-256 of a GiB takes %.2f s of CPU here.\n", hashCost())
	return os.WriteFile(readme, []byte(head+begin+when+"\n"+text+end+tail), 0o644)
}
