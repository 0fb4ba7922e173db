package demo_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"sampan/internal/app"
	"sampan/internal/config"
	"sampan/internal/mirror"
	"sampan/internal/oci"
	"sampan/internal/server"
	"sampan/internal/upstream"
)

// kindVariable chooses which mirror the test binary is when it is started as
// "serve": the real one, or one of those that the demonstration must find out.
const kindVariable = "DEMO_TEST_MIRROR"

const (
	forgetful = "forgetful" // keeps nothing
	lying     = "lying"     // changes a byte of each blob
	dead      = "dead"      // does not start
	sick      = "sick"      // ends with an error when told to stop
)

// TestMain is also the mirror: the demonstration starts this binary again.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || os.Args[1] != "serve" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	err := serve(ctx, os.Getenv(kindVariable), os.Args[2:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "test mirror:", err)
		os.Exit(3)
	}
}

func serve(ctx context.Context, kind string, args []string) error {
	flags := config.Flags{}
	for i := 0; i+1 < len(args); i += 2 {
		switch value := args[i+1]; args[i] {
		case "--config":
			flags.Config = value
		case "--listen":
			flags.Listen = value
		case "--admin-listen":
			flags.AdminListen = value
		case "--data":
			flags.DataDir = value
		case "--upstream":
			flags.Upstreams = append(flags.Upstreams, value)
		default:
			return fmt.Errorf("no flag %s", args[i])
		}
	}
	c, err := config.Load(config.Source{Environ: os.Environ(), Flags: flags})
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	switch kind {
	case dead:
		return fmt.Errorf("the data directory is haunted")
	case forgetful, lying:
		return serveBadly(ctx, c, log, kind)
	}
	a, err := app.New(app.Options{Config: c, Log: log})
	if err != nil {
		return err
	}
	log.Info("serving", "listen", a.Addr(), "admin", a.AdminAddr())
	if err = a.Run(ctx); err == nil && kind == sick {
		err = fmt.Errorf("the disk is full")
	}
	return err
}

// serveBadly is a mirror without a cache.
func serveBadly(ctx context.Context, c *config.Config, log *slog.Logger, kind string) error {
	docker, _ := c.Upstream(oci.DockerHub)
	reader, err := upstream.New(upstream.Options{
		Registry: docker.Registry, Endpoints: []*url.URL{docker.Endpoints[0].URL}, Logger: log,
	})
	if err != nil {
		return err
	}
	defer reader.Close()
	names, err := mirror.New(mirror.Options{
		Default: oci.DockerHub, Upstreams: []mirror.Upstream{{Registry: oci.DockerHub}},
	})
	if err != nil {
		return err
	}
	handler, err := server.New(server.Options{Reader: reader, Names: names, Log: log})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", c.Listen[0])
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/readyz":
			_, _ = io.WriteString(w, "ready\n")
		case kind == lying && strings.Contains(r.URL.Path, "/blobs/"):
			handler.ServeHTTP(&liar{ResponseWriter: w}, r)
		default:
			handler.ServeHTTP(w, r)
		}
	})}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }()
	log.Info("serving", "listen", ln.Addr().String(), "admin", ln.Addr().String())
	<-ctx.Done()
	err = srv.Close()
	<-ended
	return err
}

// A liar changes the first byte that is written.
type liar struct {
	http.ResponseWriter
	lied bool
}

func (l *liar) Write(p []byte) (int, error) {
	if !l.lied && len(p) > 0 {
		p = append([]byte{p[0] ^ 1}, p[1:]...)
		l.lied = true
	}
	return l.ResponseWriter.Write(p)
}
