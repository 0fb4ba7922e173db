package config

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"

	"github.com/goccy/go-yaml"
)

// An Egress is how requests leave: for all upstreams, for one, or for the hosts
// that one redirects to. The zero value of each field means that nothing is said
// there, and that it is inherited ([Egress.Inherit]); the defaults at the end are
// the proxy of the environment (HTTPS_PROXY, HTTP_PROXY, NO_PROXY), and what the
// system does.
type Egress struct {
	Proxy Proxy
	// DNS are servers asked in order: udp:// and tcp:// with an address, or
	// https:// for DNS over HTTPS.
	DNS []*url.URL
	// Hosts are names, in lower case, that no server is asked for.
	Hosts map[string][]netip.Addr
	// Source is the local address that connections leave from.
	Source netip.Addr
	// CAFiles hold certificates, in PEM, that are trusted besides the system's.
	CAFiles []string
	// ClientCert and ClientKey are files, in PEM, and either both or neither set.
	ClientCert, ClientKey string
	Timeouts              Timeouts
	// Redirects are for hosts that are not those of the endpoints, in the order of
	// the file; the first that matches counts. Those of a Redirect are empty.
	Redirects []Redirect
}

// A Proxy is one proxy, or that there is none.
type Proxy struct {
	// URL has the scheme http, https, socks5 or socks5h, a host, and no user. Nil
	// means that nothing is said, or Direct.
	URL *url.URL
	// Direct: no proxy, not even that of the environment.
	Direct bool
	// Username and Password are for the proxy; empty: none.
	Username string
	Password Secret
	// PasswordFile is where Password was read from, when it was.
	PasswordFile string
}

// Timeouts bound parts of a request; zero means that nothing is said.
type Timeouts struct {
	Dial    Duration // resolving the name and connecting; default 10s
	TLS     Duration // the TLS handshake; default 10s
	Headers Duration // from the request to the headers of its answer; default 30s
	Stall   Duration // how long no byte of a blob may come; default fetch.stall
}

// MinTimeout is the least dial, TLS and header timeout that is accepted;
// [MinStall] is that of stall.
const MinTimeout = Duration(100e6)

// A Redirect is how requests leave for hosts that an upstream redirects to or has
// its token service at.
type Redirect struct {
	// Pattern is a host in lower case and without port, "*.example.com" for all
	// names below, or "*" for all.
	Pattern string
	// Private allows these hosts to be at private addresses.
	Private bool
	Egress
}

// IsZero tells whether nothing is said about a proxy.
func (p Proxy) IsZero() bool { return p.URL == nil && !p.Direct }

// Reveal returns the proxy with its user and password, nil for none.
func (p Proxy) Reveal() *url.URL {
	if p.URL == nil {
		return nil
	}
	u := *p.URL
	if p.Username != "" {
		u.User = url.UserPassword(p.Username, p.Password.Reveal())
	}
	return &u
}

// Inherit returns e with what is absent taken from another one, and the same for
// each of its Redirects, which inherit from e, except for the client certificate.
// Redirects of the other one come after those of e. Entries of Hosts are
// inherited one by one.
func (e Egress) Inherit(from Egress) Egress {
	own := e.Redirects
	e = e.inherit(from)
	base := e
	base.ClientCert, base.ClientKey = "", ""
	e.Redirects = nil
	for _, r := range slices.Concat(own, from.Redirects) {
		r.Egress = r.Egress.inherit(base)
		e.Redirects = append(e.Redirects, r)
	}
	return e
}

// inherit is Inherit for everything but Redirects.
func (e Egress) inherit(from Egress) Egress {
	if e.Proxy.IsZero() {
		e.Proxy = from.Proxy
	}
	if len(e.DNS) == 0 {
		e.DNS = from.DNS
	}
	hosts := maps.Clone(from.Hosts)
	if hosts == nil {
		hosts = e.Hosts
	} else {
		maps.Copy(hosts, e.Hosts)
	}
	e.Hosts = hosts
	if !e.Source.IsValid() {
		e.Source = from.Source
	}
	if len(e.CAFiles) == 0 {
		e.CAFiles = from.CAFiles
	}
	if e.ClientCert == "" {
		e.ClientCert, e.ClientKey = from.ClientCert, from.ClientKey
	}
	e.Timeouts = Timeouts{
		Dial:    cmp.Or(e.Timeouts.Dial, from.Timeouts.Dial),
		TLS:     cmp.Or(e.Timeouts.TLS, from.Timeouts.TLS),
		Headers: cmp.Or(e.Timeouts.Headers, from.Timeouts.Headers),
		Stall:   cmp.Or(e.Timeouts.Stall, from.Timeouts.Stall),
	}
	return e
}

// show is the egress as the file has it; empty when nothing is said.
func (e Egress) show() yaml.MapSlice {
	var m yaml.MapSlice
	add := func(key string, value any) { m = append(m, yaml.MapItem{Key: key, Value: value}) }
	switch p := e.Proxy; {
	case p.Direct:
		add("proxy", direct)
	case p.URL != nil:
		add("proxy", escape(p.URL.String()))
		if p.Username == "" {
			break
		}
		add("proxy_username", escape(p.Username))
		if p.PasswordFile != "" {
			add("proxy_password_file", escape(p.PasswordFile))
		} else if !p.Password.IsZero() {
			add("proxy_password", cmp.Or(p.Password.source, p.Password.String()))
		}
	}
	if len(e.DNS) > 0 {
		var servers []string
		for _, u := range e.DNS {
			servers = append(servers, escape(u.String()))
		}
		add("dns", servers)
	}
	if len(e.Hosts) > 0 {
		var hosts yaml.MapSlice
		for _, name := range slices.Sorted(maps.Keys(e.Hosts)) {
			hosts = append(hosts, yaml.MapItem{Key: name, Value: texts(e.Hosts[name])})
		}
		add("hosts", hosts)
	}
	if e.Source.IsValid() {
		add("source", e.Source.String())
	}
	if len(e.CAFiles) > 0 {
		var files []string
		for _, name := range e.CAFiles {
			files = append(files, escape(name))
		}
		add("ca_files", files)
	}
	if e.ClientCert != "" {
		add("client_cert", escape(e.ClientCert))
		add("client_key", escape(e.ClientKey))
	}
	if timeouts := e.Timeouts.show(); len(timeouts) > 0 {
		add("timeouts", timeouts)
	}
	if len(e.Redirects) > 0 {
		var rules yaml.MapSlice
		for _, r := range e.Redirects {
			rules = append(rules, yaml.MapItem{Key: r.Pattern, Value: r.show()})
		}
		add("redirects", rules)
	}
	return m
}

func (r Redirect) show() yaml.MapSlice {
	m := yaml.MapSlice{}
	if r.Private {
		m = append(m, yaml.MapItem{Key: "private", Value: true})
	}
	return append(m, r.Egress.show()...)
}

func (t Timeouts) show() yaml.MapSlice {
	var m yaml.MapSlice
	for _, item := range []struct {
		key string
		d   Duration
	}{{"dial", t.Dial}, {"tls", t.TLS}, {"headers", t.Headers}, {"stall", t.Stall}} {
		if item.d != 0 {
			m = append(m, yaml.MapItem{Key: item.key, Value: item.d.String()})
		}
	}
	return m
}

func texts[T fmt.Stringer](addrs []T) []string {
	list := make([]string, len(addrs))
	for i, a := range addrs {
		list[i] = a.String()
	}
	return list
}

// ReadsFiles tells whether certificates are read from files, which may change while
// their names do not.
func (e Egress) ReadsFiles() bool {
	if len(e.CAFiles) > 0 || e.ClientCert != "" {
		return true
	}
	for _, r := range e.Redirects {
		if len(r.CAFiles) > 0 || r.ClientCert != "" {
			return true
		}
	}
	return false
}
