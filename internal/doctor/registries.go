package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpproxy"
	"golang.org/x/sync/errgroup"

	"sampan/internal/runtimes"
)

// atOnce is how many registries are asked at the same time.
const atOnce = 6

// A Reach is whether a registry can be reached from here without the mirror.
type Reach struct {
	Name      string
	Addresses []netip.Addr // that its name leads to
	// State is one of the states below, and Says the same for people.
	State string
	Says  runtimes.Text
}

// States of a registry.
const (
	Reachable   = "reachable"
	AtMirror    = "mirror"      // the name leads to the mirror
	Unresolved  = "unresolved"  // the name has no address
	Forged      = "forged"      // the name leads to somebody else
	Unreachable = "unreachable" // nobody answers
)

func (x *examination) registries(ctx context.Context) {
	found := make([]Reach, len(x.o.Registries))
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i, r := range x.o.Registries {
		group.Go(func() error {
			found[i] = x.reach(ctx, r)
			return nil
		})
	}
	_ = group.Wait() // none returns an error
	x.report.Registries = found
	x.judge(found)
}

// judge makes one finding of each kind, whatever the number of registries.
func (x *examination) judge(found []Reach) {
	by := map[string][]string{}
	for _, r := range found {
		by[r.State] = append(by[r.State], r.Name)
	}
	severity, do := Problem, say("use a mirror that reaches them: sampan setup RUNTIME --mirror ADDRESS", "请使用能访问它们的镜像站：sampan setup 运行时 --mirror 地址")
	if x.works {
		severity = Warning
		do = say("nothing, where all runtimes use the mirror; sampan setup RUNTIME --no-fallback saves the wait when the mirror misses something", "若所有运行时都使用镜像站，则无需处理；sampan setup 运行时 --no-fallback 可避免镜像站未命中时的等待")
	}
	if list := by[Forged]; len(list) > 0 {
		x.find(rankRegistry, severity, "registry-forged", say(
			"the names of these registries lead to somebody else from here: %s", "在本机，这些仓库的名字被解析到别处：%s", strings.Join(list, ", ")), do)
	}
	if list := slices.Concat(by[Unresolved], by[Unreachable]); len(list) > 0 {
		x.find(rankRegistry, severity, "registry-unreachable", say(
			"these registries cannot be reached from here: %s", "从本机无法访问这些仓库：%s", strings.Join(list, ", ")), do)
	}
}

// reach asks one registry. Where that leads nowhere, another resolver may know better.
func (x *examination) reach(ctx context.Context, r Registry) Reach {
	found := Reach{Name: r.Name}
	proxy, err := x.proxy().ProxyFunc()(&url.URL{Scheme: "https", Host: r.Host})
	if err == nil && proxy != nil { // it resolves names by itself
		x.ask(ctx, r, netip.Addr{}, &found)
		return found
	}
	x.direct(ctx, r, &found)
	if x.o.Second == nil || found.State == Reachable || found.State == AtMirror {
		return found
	}
	addrs, err := x.lookupWith(ctx, x.o.Second, r.Host)
	if err != nil {
		return found
	}
	for _, a := range addrs {
		if slices.Contains(found.Addresses, a) {
			continue // it says the same
		}
		if other := (Reach{Name: r.Name}); x.ask(ctx, r, a, &other) {
			found.State = Forged
			found.Says = say("this machine's DNS leads nowhere; the other resolver says %s, which answers", "本机的 DNS 结果不可用；另一个解析器给出 %s，可以访问", a)
			return found
		}
	}
	return found
}

// direct asks a registry where its name leads.
func (x *examination) direct(ctx context.Context, r Registry, found *Reach) {
	addrs, err := x.lookup(ctx, r.Host)
	if err != nil {
		found.State, found.Says = Unresolved, say("cannot be resolved: %v", "无法解析：%v", err)
		return
	}
	found.Addresses = addrs
	if slices.ContainsFunc(addrs, func(a netip.Addr) bool { return slices.Contains(x.addrs, a) }) {
		found.State, found.Says = AtMirror, say("its name leads to the mirror", "其名字指向镜像站")
		return
	}
	for _, a := range addrs {
		if why, bogus := bogon(a); bogus {
			found.State = Forged
			found.Says = runtimes.Text{English: fmt.Sprintf("DNS says %s: %s", a, why.English), Chinese: fmt.Sprintf("DNS 应答 %s：%s", a, why.Chinese)}
			return
		}
	}
	x.ask(ctx, r, netip.Addr{}, found)
}

// proxy is what the environment says about proxies.
func (x *examination) proxy() *httpproxy.Config {
	get := func(name string) string {
		if v := x.o.Machine.Getenv(name); v != "" {
			return v
		}
		return x.o.Machine.Getenv(strings.ToLower(name))
	}
	return &httpproxy.Config{HTTPProxy: get("HTTP_PROXY"), HTTPSProxy: get("HTTPS_PROXY"), NoProxy: get("NO_PROXY")}
}

// ask sends HEAD /v2/, to an address where there is one and else to where the name
// leads, and tells whether the registry answers.
func (x *examination) ask(ctx context.Context, r Registry, at netip.Addr, found *Reach) bool {
	through := x.proxy().ProxyFunc()
	dial := x.o.Dial
	if at.IsValid() {
		dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return x.o.Dial(ctx, network, net.JoinHostPort(at.String(), port))
		}
	}
	c := &http.Client{
		Transport: &http.Transport{
			Proxy:             func(req *http.Request) (*url.URL, error) { return through(req.URL) },
			DialContext:       dial,
			TLSClientConfig:   &tls.Config{RootCAs: x.o.Roots, Time: x.o.Now, MinVersion: tls.VersionTLS12},
			DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       x.o.Timeout,
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, "https://"+r.Host+"/v2/", nil)
	if err != nil {
		found.State, found.Says = Unreachable, say("%v", "%v", err)
		return false
	}
	req.Header.Set("User-Agent", agent)
	resp, err := c.Do(req)
	if err == nil {
		_ = resp.Body.Close() // HEAD has none
		found.State, found.Says = Reachable, say("answers with %d", "应答 %d", resp.StatusCode)
		if resp.StatusCode >= http.StatusInternalServerError {
			found.State = Unreachable
		}
		return found.State == Reachable
	}
	var name x509.HostnameError
	var authority x509.UnknownAuthorityError
	var timeout net.Error
	switch {
	case errors.As(err, &name), errors.As(err, &authority):
		found.State, found.Says = Forged, say("somebody else answers: the certificate is not the registry's", "应答者另有其人：证书不属于该仓库")
	case errors.As(err, &timeout) && timeout.Timeout():
		found.State, found.Says = Unreachable, say("no answer within %s", "%s 内没有应答", x.o.Timeout)
	default:
		found.State, found.Says = Unreachable, say("%v", "%v", inner(err))
	}
	return false
}

// inner is an error without the method and the address in front.
func inner(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return bare(u.Err)
	}
	return bare(err)
}

// bogon tells whether no public registry can have an address, and why.
func bogon(a netip.Addr) (runtimes.Text, bool) {
	private := say("an address of a private network", "私有网络地址")
	nobody := say("an address that nobody has", "不可能有主机的地址")
	switch {
	case a.IsLoopback():
		return say("this machine itself", "本机"), true
	case a.IsPrivate(), a.IsLinkLocalUnicast():
		return private, true
	case a.IsUnspecified(), a.IsMulticast():
		return nobody, true
	}
	for _, b := range []struct {
		prefix string
		why    runtimes.Text
	}{
		{"198.18.0.0/15", say("an address that proxies with made-up addresses give out", "代理软件的虚构地址（fake-ip）")},
		{"100.64.0.0/10", private},
		{"0.0.0.0/8", nobody},
		{"192.0.2.0/24", nobody},
		{"198.51.100.0/24", nobody},
		{"203.0.113.0/24", nobody},
		{"240.0.0.0/4", nobody},
		{"2001:db8::/32", nobody},
		{"2001::/32", nobody},
		{"100::/64", nobody},
	} {
		if netip.MustParsePrefix(b.prefix).Contains(a) {
			return b.why, true
		}
	}
	return runtimes.Text{}, false
}
