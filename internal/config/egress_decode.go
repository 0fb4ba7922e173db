package config

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// direct is the value of proxy that means none.
const direct = "direct"

// maxPEMSize bounds a file with certificates or a key, in bytes.
const maxPEMSize = 4 << 20

// An egressReader reads one mapping that says how requests leave.
type egressReader struct {
	*decoder
	egress *Egress
	at     map[string]place // of the values of the keys that are there
	login  bool             // the URL of the proxy has a user
}

// readEgress reads the egress of all upstreams or of one.
func (d *decoder) readEgress(e *Egress, n node) {
	r := &egressReader{decoder: d, egress: e, at: make(map[string]place)}
	r.read(n, map[string]func(node){"redirects": r.readRedirects})
}

// read reads the keys that every level has, and those given.
func (r *egressReader) read(n node, more map[string]func(node)) {
	known := map[string]func(node){
		"proxy":               r.readProxy,
		"proxy_username":      func(n node) { r.text(&r.egress.Proxy.Username, n) },
		"proxy_password":      func(n node) { r.egress.Proxy.Password = r.readSecret(n) },
		"proxy_password_file": r.readPasswordFile,
		"dns":                 r.readDNS,
		"hosts":               r.readHostEntries,
		"source": func(n node) {
			if a := r.readAddr(n); a.IsValid() {
				r.egress.Source = a
			}
		},
		"ca_files":    r.readCAFiles,
		"client_cert": func(n node) { r.text(&r.egress.ClientCert, n) },
		"client_key":  func(n node) { r.text(&r.egress.ClientKey, n) },
		"timeouts":    r.readTimeouts,
	}
	for key, read := range more {
		known[key] = read
	}
	for key, read := range known {
		known[key] = func(n node) {
			r.at[key] = n.at
			read(n)
		}
	}
	r.fields(n, known)
	r.checkLogin()
	r.checkPair()
}

// text reads a single value, which must not be empty when it is written.
func (r *egressReader) text(to *string, n node) {
	s, _, ok := r.scalar(n)
	switch {
	case !ok:
		return
	case s == "":
		r.complain(n.at, complainf(msgEmpty))
	default:
		*to = s
	}
}

func (r *egressReader) readProxy(n node) {
	s, source, ok := r.scalar(n)
	if !ok {
		return
	}
	p := &r.egress.Proxy
	if s == direct {
		p.Direct = true
		return
	}
	u := parseProxy(s)
	if u == nil {
		r.complain(n.at, complainf(msgBadProxy, redactURL(s)))
		return
	}
	if u.User != nil {
		r.login = true
		p.Username = u.User.Username()
		password, _ := u.User.Password()
		p.Password = Secret{value: password, source: r.passwordSource(source, password)}
		u.User = nil
	}
	p.URL = u
}

// parseProxy reads the URL of a proxy; nil when it is none.
func parseProxy(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) || !validServer(u) ||
		u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(s, "#") {
		return nil
	}
	if password, _ := u.User.Password(); u.User != nil && (u.User.Username() == "" || password == "") {
		return nil
	}
	u.Path = ""
	return u
}

// validServer tells whether a URL has a host and, if any, a port that there can be.
func validServer(u *url.URL) bool {
	host := u.Hostname()
	if _, err := netip.ParseAddr(host); err != nil && !validHost(strings.ToLower(host)) || u.Opaque != "" {
		return false
	}
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && port != 0
}

// passwordSource returns the part of a URL with variables that its password came
// from, where it stands for the same password by itself; otherwise "".
func (r *egressReader) passwordSource(source, password string) string {
	_, rest, _ := strings.Cut(source, "://")
	at := strings.LastIndexByte(rest, '@')
	if at < 0 {
		return ""
	}
	_, written, _ := strings.Cut(rest[:at], ":")
	if text, c := r.expand(written); c != nil || text != password || written == escape(password) {
		return ""
	}
	return written
}

func (r *egressReader) readPasswordFile(n node) {
	p := &r.egress.Proxy
	p.PasswordFile, p.Password = r.readSecretFile(n, p.Password)
}

// checkLogin looks at what says who sampan is to the proxy.
func (r *egressReader) checkLogin() {
	username, hasUsername := r.at["proxy_username"]
	password, hasPassword := r.at["proxy_password"]
	file, hasFile := r.at["proxy_password_file"]
	first := username
	if !hasUsername {
		if first = password; !hasPassword {
			first = file
		}
	}
	if !hasUsername && !hasPassword && !hasFile {
		return
	}
	_, hasProxy := r.at["proxy"]
	switch {
	case !hasProxy || r.egress.Proxy.Direct:
		r.complain(first, complainf(msgProxyLogin))
	case r.login:
		r.complain(first, complainf(msgTwoProxyLogins))
	case hasPassword && hasFile:
		r.complain(file, complainf(msgTwoSecrets, "proxy_password", "proxy_password_file"))
	case hasUsername != (hasPassword || hasFile):
		r.complain(first, complainf(msgHalfProxyLogin))
	}
}

func (r *egressReader) readDNS(n node) {
	items := r.list(n)
	if len(items) == 0 {
		r.complain(n.at, complainf(msgEmpty))
	}
	for _, item := range items {
		s, ok := r.address(item)
		if !ok {
			continue
		}
		u, err := url.Parse(s)
		if err == nil && validServer(u) && u.User == nil && u.Fragment == "" {
			_, notAddress := netip.ParseAddr(u.Hostname())
			plain := (u.Scheme == "udp" || u.Scheme == "tcp") && notAddress == nil && u.RequestURI() == "/"
			if plain || u.Scheme == "https" {
				r.egress.DNS = append(r.egress.DNS, u)
				continue
			}
		}
		r.complain(item.at, complainf(msgBadDNS, redactURL(s)))
	}
}

// address is scalar for what may have a port. Within braces, the parser takes
// udp://1.1.1.1:53 of a list for a mapping from udp://1.1.1.1 to 53, although no
// blank follows the colon.
func (r *egressReader) address(n node) (string, bool) {
	v, ok := r.bare(n)
	if !ok {
		return "", false
	}
	m, split := v.Node.(*ast.MappingValueNode)
	if all, ok := v.Node.(*ast.MappingNode); ok && len(all.Values) == 1 {
		m, split = all.Values[0], true
	}
	if !split || !strings.Contains(keyText(m.Key), "://") {
		s, _, ok := r.scalar(n)
		return s, ok
	}
	port, _, ok := r.scalar(node{m.Value, n.at})
	if !ok {
		return "", false
	}
	host, c := r.expand(keyText(m.Key))
	if c != nil {
		r.complain(n.at, c)
		return "", false
	}
	return host + ":" + port, true
}

func (r *egressReader) readHostEntries(n node) {
	for _, p := range r.mapping(n) {
		name := strings.TrimSuffix(strings.ToLower(p.key), ".")
		if _, err := netip.ParseAddr(name); err == nil || !validHost(name) {
			r.complain(p.at, complainf(msgBadHost, p.key))
			continue
		}
		var addrs []netip.Addr
		items := r.list(p.value)
		for _, item := range items {
			if a := r.readAddr(item); a.IsValid() {
				addrs = append(addrs, a)
			}
		}
		if len(items) == 0 {
			r.complain(p.value.at, complainf(msgEmpty))
		}
		if r.egress.Hosts == nil {
			r.egress.Hosts = make(map[string][]netip.Addr)
		}
		if r.egress.Hosts[name] != nil {
			r.complain(p.at, complainf(msgDuplicateKey, name))
		}
		r.egress.Hosts[name] = addrs
	}
}

// readAddr reads an IP address; the zero value when it is none.
func (r *egressReader) readAddr(n node) netip.Addr {
	s, _, ok := r.scalar(n)
	if !ok {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		r.complain(n.at, complainf(msgBadIP, s))
	}
	return a
}

// readCAFiles reads each file, to refuse it here and not at the first pull.
func (r *egressReader) readCAFiles(n node) {
	items := r.list(n)
	if len(items) == 0 {
		r.complain(n.at, complainf(msgEmpty))
	}
	for _, item := range items {
		name, _, ok := r.scalar(item)
		if !ok {
			continue
		}
		pem, err := readBounded(name, maxPEMSize)
		switch {
		case err != nil:
			r.complain(item.at, complainf(msgUnreadable, err))
		case !x509.NewCertPool().AppendCertsFromPEM(pem):
			r.complain(item.at, complainf(msgNoCertificate, name))
		default:
			r.egress.CAFiles = append(r.egress.CAFiles, name)
		}
	}
}

// checkPair reads the client certificate and its key, for the same reason.
func (r *egressReader) checkPair() {
	cert, hasCert := r.at["client_cert"]
	key, hasKey := r.at["client_key"]
	e := r.egress
	switch {
	case !hasCert && !hasKey:
	case !hasKey:
		r.complain(cert, complainf(msgHalfCertificate))
	case !hasCert:
		r.complain(key, complainf(msgHalfCertificate))
	case e.ClientCert == "" || e.ClientKey == "": // complained of
	default:
		certPEM, err := readBounded(e.ClientCert, maxPEMSize)
		if err != nil {
			r.complain(cert, complainf(msgUnreadable, err))
		}
		keyPEM, keyErr := readBounded(e.ClientKey, maxPEMSize)
		if keyErr != nil {
			r.complain(key, complainf(msgUnreadable, keyErr))
		}
		if err != nil || keyErr != nil {
			return
		}
		if _, err := tls.X509KeyPair(certPEM, keyPEM); err != nil {
			r.complain(cert, complainf(msgBadPair, e.ClientCert, err))
		}
	}
}

func (r *egressReader) readTimeouts(n node) {
	t := &r.egress.Timeouts
	read := func(to *Duration, least Duration) func(node) {
		return func(n node) {
			s, _, ok := r.scalar(n)
			if !ok {
				return
			}
			var d Duration
			if c := setDuration(&d, s); c != nil {
				r.complain(n.at, c)
			} else if d < least {
				r.complain(n.at, complainf(msgShortStall, s, least))
			} else {
				*to = d
			}
		}
	}
	r.fields(n, map[string]func(node){
		"dial":    read(&t.Dial, MinTimeout),
		"tls":     read(&t.TLS, MinTimeout),
		"headers": read(&t.Headers, MinTimeout),
		"stall":   read(&t.Stall, MinStall),
	})
}

func (r *egressReader) readRedirects(n node) {
	for _, p := range r.mapping(n) {
		pattern := strings.TrimSuffix(strings.ToLower(p.key), ".")
		host, wild := strings.CutPrefix(pattern, "*.")
		_, notAddress := netip.ParseAddr(host)
		if pattern != "*" && !validHost(host) && (wild || notAddress != nil) {
			r.complain(p.at, complainf(msgBadHostPattern, p.key))
			continue
		}
		if slices.ContainsFunc(r.egress.Redirects, func(other Redirect) bool { return other.Pattern == pattern }) {
			r.complain(p.at, complainf(msgSamePattern, pattern))
			continue
		}
		rule := Redirect{Pattern: pattern}
		one := &egressReader{decoder: r.decoder, egress: &rule.Egress, at: make(map[string]place)}
		one.read(p.value, map[string]func(node){"private": func(n node) {
			if s, _, ok := r.scalar(n); ok {
				if c := setBool(&rule.Private, s); c != nil {
					r.complain(n.at, c)
				}
			}
		}})
		r.egress.Redirects = append(r.egress.Redirects, rule)
	}
}

// validHost tells whether s is a host name in lower case.
func validHost(s string) bool {
	if s == "" || len(s) > 253 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
		return false
	}
	return !slices.Contains(strings.Split(s, "."), "")
}
