package app_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sampan/internal/app"
	"sampan/internal/config"
	"sampan/internal/registrytest"
)

// speak sends a text to an address and gives what comes back.
func speak(t *testing.T, addr, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

// Whatever a client writes into names and headers, each request is one line of the
// access log, and no line is the client's.
func TestLinesOfTheLogsCannotBeForged(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	for format, line := range map[string]*regexp.Regexp{
		"text": regexp.MustCompile(`^time=\S+ level=\w+ msg=[^=]+`), "json": regexp.MustCompile(`^\{"time":"`), "combined": regexp.MustCompile(`^127\.0\.0\.1 - \S+ \[`),
	} {
		t.Run(format, func(t *testing.T) {
			c, err := config.Load(config.Source{Flags: config.Flags{
				Listen: "127.0.0.1:0", AdminListen: "off", DataDir: filepath.Join(t.TempDir(), "data"), Upstreams: []string{"up.test=" + up.URL()},
			}})
			if err != nil {
				t.Fatal(err)
			}
			var log, access lockedBuffer
			a, err := app.New(app.Options{
				Config: c, Log: slog.New(app.LogHandler("text", &log, slog.LevelDebug)), Access: slog.New(app.AccessHandler(format, &access)),
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- a.Run(ctx) }()
			const forged = "%0Atime=2026-01-01T00:00:00Z%20level=ERROR%20msg=forged%20%0D%0A127.0.0.1%20-%20forged%20[x]%0A{%22time%22:%22forged%22}"
			login := base64.StdEncoding.EncodeToString([]byte("ann\nlevel=ERROR msg=forged\n127.0.0.1 - forged:pw\n"))
			requests := 0
			for _, target := range []string{
				"/v2/up.test/a" + forged + "/manifests/1", "/v2/up.test/a/manifests/1" + forged, "/v2/up.test/a/blobs/sha256:" + forged,
				"/v2/a/manifests/1?ns=x" + forged, "/" + forged + "/v2/a/tags/list", "/v2/up.test/a/tags/list?last=" + forged, "/token?scope=repository:" + forged,
			} {
				for _, header := range []string{
					"User-Agent: x\" status=200 forged=\"1\\\x80", "Referer: http://a/" + forged, "X-Request-Id: a b\" forged", "Range: bytes=0-1\tlevel=ERROR", "Authorization: Basic " + login,
				} {
					speak(t, a.Addr(), "GET "+target+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"+header+"\r\n\r\n")
					requests++
				}
			}
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			n := 0
			for l := range strings.Lines(access.take()) {
				n++
				if !line.MatchString(l) || strings.ContainsAny(strings.TrimSuffix(l, "\n"), "\r\x01\x1b") {
					t.Errorf("a line is %q", l)
				}
				if format == "json" && !json.Valid([]byte(l)) {
					t.Errorf("no JSON: %q", l)
				}
			}
			if n != requests {
				t.Errorf("%d lines for %d requests", n, requests)
			}
			for l := range strings.Lines(log.take()) {
				if !strings.HasPrefix(l, "time=") || strings.Contains(l, "msg=forged ") && !strings.Contains(l, `\n`) && !strings.Contains(l, "%0A") {
					t.Errorf("a line of the process log is %q", l)
				}
			}
		})
	}
}

// What strangers say, in whatever place, makes no series of any metric.
func TestWhatStrangersSayIsNoLabel(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	up.AddImage("team/web", "v1", threeLayers(0))
	m := start(t, dataDir(t), "example.test="+up.URL())
	say := func(i int) {
		s := fmt.Sprintf("stranger%d", i)
		for _, target := range []string{
			"/v2/" + s + ".example/x/manifests/1", "/v2/example.test/" + s + "/manifests/1", "/v2/example.test/team/web/manifests/" + s,
			"/v2/x/manifests/1?ns=" + s + ".example", "/" + s, "/v2/" + s + "/blobs/uploads/", "/token?account=" + s + "&service=" + s,
		} {
			for _, method := range []string{http.MethodGet, http.MethodPost, "STRANGER"} {
				speak(t, m.app.Addr(), method+" "+target+" HTTP/1.1\r\nHost: "+s+".test\r\nUser-Agent: "+s+"\r\nConnection: close\r\nAuthorization: Basic "+
					base64.StdEncoding.EncodeToString([]byte(s+":pw"))+"\r\n\r\n")
			}
		}
	}
	series := func() (n int, text string) {
		text = string(fetch(t, m.client, "http://"+m.app.AdminAddr()+"/metrics").body)
		for l := range strings.Lines(text) {
			if strings.HasPrefix(l, "sampan_") {
				n++
			}
		}
		return n, text
	}
	say(0)
	before, _ := series()
	for i := range 20 {
		say(i + 1)
	}
	after, text := series()
	if before == 0 || after != before {
		t.Errorf("%d series after one stranger, %d after twenty more", before, after)
	}
	if i := strings.Index(strings.ToLower(text), "stranger"); i >= 0 {
		t.Errorf("the metrics say %q", text[max(0, i-100):i+20])
	}
}

// A header that is too large is refused at the operator's listener as well.
func TestTheOperatorsListenerIsBounded(t *testing.T) {
	up := registrytest.StartTest(t, registrytest.Options{})
	m := start(t, dataDir(t), "example.test="+up.URL())
	got := speak(t, m.app.AdminAddr(), "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: "+strings.Repeat("x", 80<<10)+"\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 431 ") {
		t.Errorf("got %.60q", got)
	}
}
