// Package demo shows, without a network, what sampan does for whoever runs it: a
// cold pull, a warm pull and a stampede, through a mirror that is a process of
// its own, from a simulated registry on a slow link.
//
// It promises that what it claims at the end was measured: clients verify the
// digest of everything they receive, the registry counts what it was asked and
// what it sent, and a claim that the numbers do not bear out makes [Run] fail.
// Nothing is left behind, whichever way it ends: the mirror has stopped, its
// data directory is gone, the ports are free.
//
// It does not measure how fast sampan is: registry, mirror and clients share one
// machine. It opens nothing but loopback ports.
package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Options of [Run]. Executable and Out are needed.
type Options struct {
	// Executable is the path of a sampan, which is started as "serve".
	Executable string
	// Out is told what happens: with moving bars where it is a terminal, with
	// plain lines otherwise.
	Out io.Writer
	// Text chooses the language of what is told; nil is English.
	Text func(english, chinese string) string

	// Layers are the sizes in bytes of the image that is pulled; empty is four
	// of 16 MiB.
	Layers []int64
	// Blob is the size in bytes of what the stampede wants; zero is 64 MiB.
	Blob int64
	// Clients is how many the stampede has; zero is 50.
	Clients int
	// Rate of the link to the registry, in bytes per second; zero is 32 MiB.
	Rate int64
	// Latency of the link, added to each answer; zero is 20 ms.
	Latency time.Duration
}

// limit ends a demonstration that hangs.
const limit = 2 * time.Minute

func (o Options) withDefaults() (Options, error) {
	if o.Executable == "" || o.Out == nil {
		return o, errors.New("demo: Executable and Out are needed")
	}
	if o.Text == nil {
		o.Text = func(english, _ string) string { return english }
	}
	if len(o.Layers) == 0 {
		o.Layers = []int64{16 << 20, 16 << 20, 16 << 20, 16 << 20}
	}
	o.Blob = cmp.Or(o.Blob, 64<<20)
	o.Clients = cmp.Or(o.Clients, 50)
	o.Rate = cmp.Or(o.Rate, 32<<20)
	o.Latency = cmp.Or(o.Latency, 20*time.Millisecond)
	return o, nil
}

// A demo is one that is running.
type demo struct {
	Options
	dir    string // temporary
	origin *origin
	mirror *mirror
}

// Run gives the demonstration. It fails when something could not be shown or
// was not as claimed, which Out was then told too, and with the cause of ctx's
// end when that ended it.
func Run(ctx context.Context, o Options) (err error) {
	o, err = o.withDefaults()
	if err != nil {
		return err
	}
	d := &demo{Options: o}
	// What ends the demonstration must not end its tidying up.
	defer func() { err = errors.Join(err, d.close()) }()
	if d.dir, err = os.MkdirTemp("", "sampan-demo-"); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf(o.Text("it took longer than %s", "耗时超过 %s"), limit))
	defer cancel()
	if err := d.run(bounded); err != nil {
		if ctx.Err() != nil { // whatever that broke
			return fmt.Errorf("%s: %w", o.Text("the demonstration was interrupted", "演示被中断"), context.Cause(ctx))
		}
		return err
	}
	return nil
}

// run opens everything, shows the steps and tells what they proved.
func (d *demo) run(ctx context.Context) (err error) {
	if d.origin, err = startOrigin(d.Options); err != nil {
		return err
	}
	if d.mirror, err = startMirror(ctx, d.Executable, d.dir, d.origin.url()); err != nil {
		return err
	}
	d.introduce()
	if err := d.mirror.ready(ctx); err != nil {
		return err
	}
	results, err := d.steps(ctx)
	if err != nil {
		return err
	}
	if err := d.mirror.stop(); err != nil {
		return err
	}
	d.mirror = nil
	return d.conclude(results)
}

// introduce says what is running.
func (d *demo) introduce() {
	d.printf(d.Text("a registry like docker.io    %s, over a link of %s/s and %d ms\n", "模拟 docker.io 的上游仓库   %s，链路 %s/s，延迟 %d 毫秒\n"),
		d.origin.url(), size(d.Rate), d.Latency.Milliseconds())
	d.printf(d.Text("the mirror, a real process   sampan serve --listen %s --upstream docker.io=%s\n", "镜像站，独立的真实进程      sampan serve --listen %s --upstream docker.io=%s\n"),
		d.mirror.addr, d.origin.url())
	d.printf(d.Text("its data, removed at the end %s\n", "数据目录，结束时删除        %s\n"), filepath.Join(d.dir, "data"))
}

// conclude prints the table, and below it what each step proved or did not.
func (d *demo) conclude(results []result) error {
	d.printf("\n%s\n", d.table(results))
	broken := 0
	for _, r := range results {
		for _, b := range r.broken {
			d.printf("✗ %s\n", b)
		}
		if broken += len(r.broken); len(r.broken) == 0 {
			d.printf("✓ %s\n", r.proof)
		}
	}
	if broken > 0 {
		return errors.New(d.Text("the demonstration did not prove what it should", "演示未能证明应有的结果"))
	}
	d.printf("✓ %s\n", d.Text("The clients verified the digest of every manifest and blob they received.", "客户端校验了收到的每个 manifest 和 blob 的 digest，全部正确。"))
	return nil
}

// printf tells Out. That it cannot be told ends nothing: the exit code says the
// same.
func (d *demo) printf(format string, args ...any) { fmt.Fprintf(d.Out, format, args...) }

// close ends what is still running and removes what was written.
func (d *demo) close() error {
	var errs []error
	if d.mirror != nil {
		errs = append(errs, d.mirror.stop())
	}
	if d.origin != nil {
		errs = append(errs, d.origin.close())
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}
