package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sampan/internal/app"
	"sampan/internal/config"
	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

const topSize = 32 << 20 // more than what is on its way to a client that does not read

// A topped mirror fetches a blob, which stops after its first mebibyte until the gate
// opens.
type topped struct {
	app  *app.App
	blob oci.Descriptor
	gate *registrytest.Gate
	stop context.CancelFunc // ends it
}

func startTopped(t *testing.T) *topped {
	t.Helper()
	t.Setenv("LC_ALL", "C")
	m := &topped{gate: registrytest.NewGate()}
	up := registrytest.StartTest(t, registrytest.Options{Behavior: registrytest.Behavior{
		Faults: []registrytest.Fault{{HangInBody: m.gate, HangAt: 1 << 20}},
	}})
	m.blob = up.AddBlob("team/web", topSize, 6)
	t.Chdir(t.TempDir()) // where no sampan.yaml is
	c, err := config.Load(config.Source{Flags: config.Flags{
		Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", DataDir: filepath.Join(t.TempDir(), "data"), Upstreams: []string{"up.test=" + up.URL()},
	}})
	if err != nil {
		t.Fatal(err)
	}
	c.Fetch.Lines = 1 // a second one would bring more than the first mebibyte
	if m.app, err = app.New(app.Options{Config: c, Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.app.Run(ctx) }()
	m.stop = stop
	t.Cleanup(func() {
		m.gate.Open()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return m
}

// pull begins to pull the blob; its first mebibyte has come.
func (m *topped) pull(t *testing.T) io.Reader {
	t.Helper()
	resp, err := http.Get("http://" + m.app.Addr() + "/v2/up.test/team/web/blobs/" + m.blob.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	return resp.Body
}

// top runs the command until it ends or ctx is done.
func (m *topped) top(ctx context.Context, out io.Writer, args ...string) error {
	cmd := newRoot()
	cmd.SetOut(out)
	cmd.SetArgs(append([]string{"cache", "top", "--admin", "http://" + m.app.AdminAddr()}, args...))
	return cmd.ExecuteContext(ctx)
}

// Without a terminal, what is going on is shown once, without any control characters.
func TestTopIsShownOnceWithoutATerminal(t *testing.T) {
	m := startTopped(t)
	m.pull(t)
	var out bytes.Buffer
	for strings.Count(out.String(), "\n1.0 MiB") < 2 { // what has come is counted a moment later
		out.Reset()
		if err := m.top(t.Context(), &out); err != nil {
			t.Fatal(err)
		}
	}
	digest := m.blob.Digest.String()[:19]
	for _, want := range []string{
		`^\d\d:\d\d:\d\d   1 fetches, 1 pulls\n\nFETCHED `,
		`\n1\.0 MiB +32\.0 MiB +[\d.]+ \S*B +\d+ +1 +` + digest + ` +up\.test/team/web\n`,
		`\n1\.0 MiB +32\.0 MiB +[\d.]+ \S*B +127\.0\.0\.1 +` + digest + ` +up\.test/team/web\n$`,
	} {
		if !regexp.MustCompile(want).Match(out.Bytes()) {
			t.Errorf("no %s in:\n%s", want, out.String())
		}
	}
	if strings.ContainsAny(out.String(), "\x1b\r") {
		t.Errorf("control characters: %q", out.String())
	}
}

// A heard line is one that -o json prints.
type heard struct {
	Event string
	Data  struct {
		app.Moment
		Digest string
		Bytes  int64
		Result string
	}
}

// With -o json each event is a line of JSON, until whoever looks leaves, which is no
// error; that the mirror has stopped is one.
func TestTopTellsEachEventAsALineOfJSON(t *testing.T) {
	for name, leave := range map[string]bool{"until one leaves": true, "until the mirror stops": false} {
		t.Run(name, func(t *testing.T) {
			m := startTopped(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r, w := io.Pipe()
			ended := make(chan error, 1)
			go func() {
				err := m.top(ctx, w, "-o", "json")
				ended <- errors.Join(err, w.Close())
			}()
			lines := bufio.NewScanner(r)
			await := func(found func(heard) bool) {
				t.Helper()
				for lines.Scan() {
					var h heard
					if err := json.Unmarshal(lines.Bytes(), &h); err != nil || h.Event == "" {
						t.Fatalf("%s: %v", lines.Bytes(), err)
					}
					if found(h) {
						return
					}
				}
				t.Fatal("it ended")
			}
			digest := m.blob.Digest.String()
			await(func(h heard) bool { return h.Event == "progress" && h.Data.FillsTotal == 0 && h.Data.PullsTotal == 0 })
			body := m.pull(t)
			await(func(h heard) bool { return h.Event == "fill_began" && h.Data.Digest == digest })
			await(func(h heard) bool {
				return h.Event == "progress" && len(h.Data.Fills) == 1 && h.Data.Fills[0].Bytes == 1<<20 &&
					len(h.Data.Pulls) == 1 && h.Data.Pulls[0].Bytes == 1<<20 && h.Data.Pulls[0].Size == topSize
			})
			m.gate.Open()
			await(func(h heard) bool {
				return h.Event == "fill_ended" && h.Data.Digest == digest && h.Data.Bytes == topSize && h.Data.Result != ""
			})
			if n, err := io.Copy(io.Discard, body); err != nil || n != topSize-1<<20 {
				t.Errorf("%d bytes, %v", n, err)
			}
			if leave {
				cancel()
			} else {
				m.stop()
			}
			for lines.Scan() { // what is on its way
			}
			if err := <-ended; (err == nil) != leave {
				t.Errorf("%v", err)
			}
		})
	}
}
