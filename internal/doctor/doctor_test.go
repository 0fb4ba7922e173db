package doctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sampan/internal/proof"
	"sampan/internal/runtimes"
)

const mirrorHost = "mirror.example.com"

// A world is what is around a machine: nothing is dialled but servers of the test.
type world struct {
	t       *testing.T
	options Options
	names   map[string]string // host → address
	servers map[string]string // host:port → where it listens; "hang" answers nothing
	ca      *x509.Certificate
	key     *ecdsa.PrivateKey
	now     time.Time

	elsewhere []netip.Addr // what another resolver says
}

func newWorld(t *testing.T) *world {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, key: key, names: map[string]string{}, servers: map[string]string{}, now: time.Now()}
	w.ca = w.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "the test's"}, IsCA: true, BasicConstraintsValid: true, NotAfter: w.now.AddDate(1, 0, 0)}, nil)
	roots := x509.NewCertPool()
	roots.AddCert(w.ca)
	w.options = Options{
		Machine: &runtimes.Machine{Root: t.TempDir(), Home: "/home/ann", UID: 1000, Command: func(context.Context, string, ...string) ([]byte, error) { return nil, nil }},
		Targets: []runtimes.Target{fake{name: "podman", found: runtimes.Found{Present: true, Mirrors: []string{"quay.io = " + mirrorHost + "/quay.io"}}}},
		Mirror:  Mirror{URL: "https://" + mirrorHost, Host: mirrorHost},
		Lookup:  w.lookup, Dial: w.dial, Roots: roots, Now: func() time.Time { return w.now },
		Free:    func(string) (uint64, uint64, error) { return 100 << 30, 200 << 30, nil },
		Timeout: time.Minute,
	}
	w.serve(mirrorHost, "192.88.0.1", sampan)
	return w
}

// sampan answers as one does.
func sampan(rw http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/v2/docker.io/"+proof.Path+"/manifests/") {
		return
	}
	if r.URL.Path != "/v2/" {
		rw.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(rw, `{"errors":[{"code":"NAME_UNKNOWN","message":"this is a mirror of container registries: it answers …"}]}`)
	}
}

func answers(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

func (w *world) sign(c *x509.Certificate, names []string) *x509.Certificate {
	w.t.Helper()
	c.SerialNumber, c.DNSNames = big.NewInt(int64(len(w.names)+2)), names
	if c.NotBefore.IsZero() {
		c.NotBefore = w.now.AddDate(-1, 0, 0)
	}
	parent := w.ca
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &w.key.PublicKey, w.key)
	if err != nil {
		w.t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		w.t.Fatal(err)
	}
	return parsed
}

// serve has a host with a good certificate at an address.
func (w *world) serve(host, address string, h http.HandlerFunc) {
	w.serveWith(host, address, h, w.sign(&x509.Certificate{NotAfter: w.now.AddDate(0, 3, 0)}, []string{host}))
}

func (w *world) serveWith(host, address string, h http.HandlerFunc, leaf *x509.Certificate) {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: w.key}}}
	s.StartTLS()
	w.t.Cleanup(s.Close)
	w.names[host] = address
	w.servers[host+":443"] = s.Listener.Addr().String()
}

func (w *world) lookup(_ context.Context, host string) ([]netip.Addr, error) {
	if a, ok := w.names[host]; ok {
		return []netip.Addr{netip.MustParseAddr(a)}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true, Server: "192.88.0.53:53"}
}

var errRefused = errors.New("connection refused")

func (w *world) dial(ctx context.Context, network, address string) (net.Conn, error) {
	switch at := w.servers[address]; at {
	case "":
		return nil, errRefused
	case "hang": // its time is over at once
		return nil, context.DeadlineExceeded
	default:
		return new(net.Dialer).DialContext(ctx, network, at)
	}
}

// A fake is a target of which everything is known.
type fake struct {
	name  string
	found runtimes.Found
	err   error
}

func (f fake) Name() string { return f.name }
func (f fake) Detect(context.Context, *runtimes.Machine) (runtimes.Found, error) {
	return f.found, f.err
}

func (f fake) Plan(context.Context, *runtimes.Machine, runtimes.Found, runtimes.Mirror) (*runtimes.Plan, error) {
	panic("the doctor changes nothing")
}

func ids(r *Report) []string {
	var list []string
	for _, f := range r.Findings {
		list = append(list, string(f.Severity)+" "+f.ID)
		if f.What.English == "" || f.What.Chinese == "" || f.Do.English == "" || f.Do.Chinese == "" || strings.Contains(f.What.English+f.What.Chinese+f.Do.English+f.Do.Chinese, "%!") {
			list = append(list, fmt.Sprintf("a finding without its words: %+v", f))
		}
	}
	return list
}

func TestWhatIsWrongIsFound(t *testing.T) {
	quay := Registry{"quay.io", "quay.io"}
	for fact, c := range map[string]struct {
		change func(w *world)
		want   []string
		says   string // in the first finding
	}{
		"all is well": {func(*world) {}, nil, ""},
		"the mirror's name is none": {
			func(w *world) { delete(w.names, mirrorHost) }, []string{"problem mirror-name"}, "no such host (192.88.0.53:53)",
		},
		"nobody listens": {
			func(w *world) { delete(w.servers, mirrorHost+":443") }, []string{"problem mirror-connect"}, "connection refused",
		},
		"packets vanish": {
			func(w *world) { w.servers[mirrorHost+":443"] = "hang" }, []string{"problem mirror-connect"}, "deadline exceeded",
		},
		"the certificate is for others": {
			func(w *world) {
				w.serveWith(mirrorHost, "192.88.0.1", sampan, w.sign(&x509.Certificate{NotAfter: w.now.AddDate(1, 0, 0)}, []string{"other.example.com"}))
			},
			[]string{"problem mirror-certificate"},
			"for other names: other.example.com",
		},
		"nobody knows who signed": {
			func(w *world) { w.options.Roots = x509.NewCertPool() }, []string{"problem mirror-certificate"}, "CN=the test's, whom this machine does not trust",
		},
		"the person knows who signed": {
			func(w *world) {
				w.options.Roots = x509.NewCertPool()
				w.options.Mirror.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.ca.Raw})
			},
			nil, "",
		},
		"the certificate is over": {
			func(w *world) { w.now = w.now.AddDate(0, 6, 0) }, []string{"problem mirror-certificate"}, "this machine's clock says",
		},
		"the certificate is over soon": {
			func(w *world) {
				w.serveWith(mirrorHost, "192.88.0.1", sampan, w.sign(&x509.Certificate{NotAfter: w.now.AddDate(0, 0, 2)}, []string{mirrorHost}))
			},
			[]string{"warning mirror-expires"},
			"",
		},
		"plain HTTP on the port of TLS": {
			func(w *world) {
				s := httptest.NewServer(http.HandlerFunc(sampan))
				w.t.Cleanup(s.Close)
				w.servers[mirrorHost+":443"] = s.Listener.Addr().String()
			},
			[]string{"problem mirror-certificate"},
			"plain HTTP",
		},
		"no TLS far away": {
			func(w *world) {
				s := httptest.NewServer(http.HandlerFunc(sampan))
				w.t.Cleanup(s.Close)
				w.servers[mirrorHost+":80"] = s.Listener.Addr().String()
				w.options.Mirror.URL, w.options.Mirror.PlainHTTP = "http://"+mirrorHost, true
			},
			[]string{"warning mirror-plain"},
			"without TLS",
		},
		"the clocks differ much": {
			func(w *world) { w.now = w.now.Add(time.Hour) }, []string{"problem clock"}, "differ by 1h0m",
		},
		"the clocks differ a little":    {func(w *world) { w.now = w.now.Add(5 * time.Minute) }, []string{"warning clock"}, ""},
		"a page answers":                {func(w *world) { w.serve(mirrorHost, "192.88.0.1", answers(404)) }, []string{"problem mirror-answer"}, "status 404"},
		"this machine is refused":       {func(w *world) { w.serve(mirrorHost, "192.88.0.1", answers(403)) }, []string{"problem mirror-answer"}, "status 403"},
		"a redirect answers":            {func(w *world) { w.serve(mirrorHost, "192.88.0.1", answers(302)) }, []string{"problem mirror-answer"}, "status 302"},
		"another registry answers":      {func(w *world) { w.serve(mirrorHost, "192.88.0.1", answers(200)) }, []string{"warning mirror-other"}, ""},
		"the mirror asks who it is":     {func(w *world) { w.serve(mirrorHost, "192.88.0.1", closed) }, []string{"warning mirror-login"}, "without a login"},
		"this machine may pull nothing": {func(w *world) { w.serve(mirrorHost, "192.88.0.1", denied) }, []string{"problem mirror-denied"}, "not [1m today"},
		"the login is refused":          {func(w *world) { w.serve(mirrorHost, "192.88.0.1", closed); w.options.Mirror.Username = "ann" }, []string{"problem mirror-login"}, "ann"},
		"the login is good":             {func(w *world) { w.serve(mirrorHost, "192.88.0.1", closed); w.options.Mirror.Username = "bob" }, nil, ""},
		"no runtime uses the mirror": {func(w *world) {
			w.options.Targets = []runtimes.Target{fake{name: "k3s", found: runtimes.Found{Present: true}}}
		}, []string{"problem runtime-unused"}, "k3s"},
		"a runtime uses somebody else": {func(w *world) {
			w.options.Targets = []runtimes.Target{fake{name: "k3s", found: runtimes.Found{Present: true, Mirrors: []string{"https://evil" + mirrorHost}}}}
		}, []string{"problem runtime-unused"}, ""},
		"one of two uses the mirror": {func(w *world) {
			w.options.Targets = append(w.options.Targets, fake{name: "k3s", found: runtimes.Found{Present: true}})
		}, []string{"warning runtime-unused"}, "k3s"},
		"Docker's containerd is Docker's": {
			func(w *world) {
				w.options.Targets = []runtimes.Target{
					fake{name: "docker", found: runtimes.Found{Present: true, Mirrors: []string{"https://" + mirrorHost}}},
					fake{name: "containerd", found: runtimes.Found{Present: true}},
				}
			},
			nil, "",
		},
		"an access code is the mirror": {func(w *world) {
			w.options.Targets = []runtimes.Target{fake{name: "docker", found: runtimes.Found{Present: true, Mirrors: []string{"https://abcdefghij0123456789." + mirrorHost + "/"}}}}
		}, nil, ""},
		"settings cannot be read": {func(w *world) { w.options.Targets = append(w.options.Targets, fake{name: "k3s", err: errRefused}) }, []string{"problem runtime-settings"}, "k3s"},
		"no runtime is there":     {func(w *world) { w.options.Targets = []runtimes.Target{fake{name: "k3s"}} }, []string{"warning runtime-none"}, ""},
		"a registry answers": {func(w *world) {
			w.serve("quay.io", "192.88.0.2", answers(401))
			w.options.Registries = []Registry{quay}
		}, nil, ""},
		"a registry has no address": {func(w *world) { w.options.Registries = []Registry{quay} }, []string{"warning registry-unreachable"}, "quay.io"},
		"a registry is silent": {func(w *world) {
			w.names["quay.io"] = "192.88.0.2"
			w.servers["quay.io:443"] = "hang"
			w.options.Registries = []Registry{quay}
		}, []string{"warning registry-unreachable"}, ""},
		"a registry is ill": {func(w *world) {
			w.serve("quay.io", "192.88.0.2", answers(502))
			w.options.Registries = []Registry{quay}
		}, []string{"warning registry-unreachable"}, ""},
		"DNS says a private address":  {func(w *world) { w.names["quay.io"] = "10.1.2.3"; w.options.Registries = []Registry{quay} }, []string{"warning registry-forged"}, ""},
		"DNS says an address made up": {func(w *world) { w.names["quay.io"] = "198.18.0.7"; w.options.Registries = []Registry{quay} }, []string{"warning registry-forged"}, ""},
		"DNS says this machine":       {func(w *world) { w.names["quay.io"] = "::ffff:127.0.0.1"; w.options.Registries = []Registry{quay} }, []string{"warning registry-forged"}, ""},
		"DNS says the mirror":         {func(w *world) { w.names["quay.io"] = "192.88.0.1"; w.options.Registries = []Registry{quay} }, nil, ""},
		"somebody else is the registry": {func(w *world) {
			w.serve("other.example.com", "192.88.0.2", answers(200))
			w.names["quay.io"] = "192.88.0.2"
			w.servers["quay.io:443"] = w.servers["other.example.com:443"]
			w.options.Registries = []Registry{quay}
		}, []string{"warning registry-forged"}, "quay.io"},
		"neither mirror nor registry": {
			func(w *world) { delete(w.names, mirrorHost); w.options.Registries = []Registry{quay} },
			[]string{"problem mirror-name", "problem registry-unreachable"},
			"",
		},
		"the mirror goes through a proxy": {func(w *world) {
			w.options.Machine.Environ = []string{"https_proxy=http://ann:secret@proxy.example.com:3128"}
		}, []string{"warning proxy"}, "http://ann:xxxxx@proxy.example.com:3128"},
		"the mirror is spared the proxy": {func(w *world) {
			w.options.Machine.Environ = []string{"HTTPS_PROXY=http://proxy.example.com:3128", "NO_PROXY=.example.com"}
		}, nil, ""},
		"a disk is full":        {func(w *world) { w.disk(100 << 20) }, []string{"problem disk"}, "100 MiB"},
		"a disk is nearly full": {func(w *world) { w.disk(1 << 30) }, []string{"warning disk"}, "/var/lib/docker"},
		"what explains the rest comes first": {
			func(w *world) {
				w.options.Targets = []runtimes.Target{fake{name: "k3s", found: runtimes.Found{Present: true}}}
				w.disk(1 << 20)
				w.now = w.now.Add(time.Hour)
				w.options.Registries = []Registry{quay}
			},
			[]string{"problem clock", "problem disk", "problem runtime-unused", "warning registry-unreachable"},
			"",
		},
	} {
		t.Run(fact, func(t *testing.T) {
			w := newWorld(t)
			c.change(w)
			r := Run(t.Context(), w.options)
			if got := ids(r); !slices.Equal(got, c.want) {
				t.Fatalf("got %q, want %q: %+v", got, c.want, r.Findings)
			}
			if len(r.Findings) > 0 && !strings.Contains(r.Findings[0].What.English, c.says) {
				t.Errorf("it says %q, which has no %q", r.Findings[0].What.English, c.says)
			}
			if r.Problems() != slices.ContainsFunc(c.want, func(s string) bool { return strings.HasPrefix(s, "problem") }) {
				t.Errorf("problems: %v", r.Problems())
			}
			for _, f := range r.Findings {
				if strings.Contains(f.What.English+f.Do.English, "secret") {
					t.Errorf("a password is shown: %+v", f)
				}
			}
		})
	}
}

// closed lets bob in.
func closed(w http.ResponseWriter, r *http.Request) {
	if name, _, _ := r.BasicAuth(); name != "bob" {
		w.Header().Set("WWW-Authenticate", `Bearer realm="https://mirror.example.com/v2/token",service="sampan"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	sampan(w, r)
}

// denied answers, and lets nobody pull.
func denied(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.URL.Path, "/manifests/") {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"errors":[{"code":"DENIED","message":"not\u001b[1m today"}]}`)
		return
	}
	sampan(w, r)
}

// Another resolver shows that a name is forged, and is not asked where there is no need.
func TestAnotherResolverKnowsBetter(t *testing.T) {
	for fact, c := range map[string]struct {
		change func(w *world)
		state  string
		says   string
		asked  bool
	}{
		"the first is right":                {func(w *world) { w.serve("quay.io", "192.88.0.2", answers(401)) }, Reachable, "401", false},
		"the first knows nothing":           {func(w *world) { w.second("quay.io", "192.88.0.9") }, Forged, "192.88.0.9, which answers", true},
		"the first leads to nobody":         {func(w *world) { w.second("quay.io", "192.88.0.9"); w.names["quay.io"] = "192.88.0.3" }, Forged, "192.88.0.9", true},
		"the second says the same":          {func(w *world) { w.second("quay.io", "192.88.0.9"); w.names["quay.io"] = "192.88.0.9" }, Unreachable, "refused", true},
		"the second's is nobody's either":   {func(w *world) { w.second("quay.io", "192.88.0.9"); delete(w.servers, "192.88.0.9:443") }, Unresolved, "no such host", true},
		"the second's is not the registry":  {func(w *world) { w.second("other.example.com", "192.88.0.9") }, Unresolved, "no such host", true},
		"the second knows nothing of it":    {func(w *world) { w.second("quay.io", "192.88.0.9"); w.elsewhere = nil }, Unresolved, "no such host", true},
		"the name leads to the mirror here": {func(w *world) { w.names["quay.io"] = "192.88.0.1" }, AtMirror, "", false},
	} {
		t.Run(fact, func(t *testing.T) {
			w := newWorld(t)
			c.change(w)
			asked := false
			w.options.Registries = []Registry{{"quay.io", "quay.io"}}
			w.options.Second = func(_ context.Context, host string) ([]netip.Addr, error) {
				asked = true
				if w.elsewhere == nil {
					return nil, &net.DNSError{Err: "no such host", Name: host}
				}
				return w.elsewhere, nil
			}
			got := Run(t.Context(), w.options).Registries[0]
			if got.State != c.state || !strings.Contains(got.Says.English, c.says) || asked != c.asked {
				t.Errorf("got %+v, asked: %v", got, asked)
			}
		})
	}
}

// second has a host at an address that only the other resolver knows.
func (w *world) second(host, address string) {
	w.serve(host, address, answers(200))
	w.servers[address+":443"] = w.servers[host+":443"]
	delete(w.servers, host+":443")
	delete(w.names, host)
	w.elsewhere = []netip.Addr{netip.MustParseAddr(address)}
}

func (w *world) disk(free uint64) {
	if err := os.MkdirAll(filepath.Join(w.options.Machine.Root, "var/lib/docker"), 0o755); err != nil {
		w.t.Fatal(err)
	}
	w.options.Free = func(string) (uint64, uint64, error) { return free, 200 << 30, nil }
}

// Where a proxy is set, registries are asked through it, and their names are its
// affair.
func TestRegistriesAreAskedThroughTheProxy(t *testing.T) {
	w := newWorld(t)
	w.serve("quay.io", "192.88.0.2", answers(200))
	behind := w.servers["quay.io:443"]
	delete(w.names, "quay.io")
	delete(w.servers, "quay.io:443")
	proxy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != "quay.io:443" {
			t.Errorf("the proxy was asked for %s %s", r.Method, r.Host)
		}
		tunnel(rw, behind)
	}))
	defer proxy.Close()
	w.servers["proxy.example.com:3128"] = proxy.Listener.Addr().String()
	w.options.Machine.Environ = []string{"HTTPS_PROXY=http://proxy.example.com:3128", "NO_PROXY=" + mirrorHost}
	w.options.Registries = []Registry{{"quay.io", "quay.io"}}
	r := Run(t.Context(), w.options)
	if r.Registries[0].State != Reachable {
		t.Errorf("got %+v", r.Registries[0])
	}
	if len(r.Findings) > 0 {
		t.Errorf("found %+v", r.Findings)
	}
}

func tunnel(rw http.ResponseWriter, to string) {
	there, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	here, _, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		_ = there.Close()
		return
	}
	_, _ = io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
	go func() {
		_, _ = io.Copy(there, here)
		_ = there.Close()
	}()
	_, _ = io.Copy(here, there)
	_ = here.Close()
}
