package config

import (
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// TLS is how clients are met over TLS. The zero value is plain HTTP.
type TLS struct {
	// Certificates are chosen by the name that a client asks for; the first is
	// for the others. With any, every address of listen speaks TLS. They are read
	// again when their files change.
	Certificates []KeyPair
	// Redirect is a further address, spoken plainly, where clients are led to
	// https. Empty means none. It needs certificates.
	Redirect string
	// HSTS is how long browsers are told to use https only; zero tells them
	// nothing. Default 180d, with certificates.
	HSTS Duration
	// ACME gets certificates from an authority, beside those or instead.
	ACME ACME
	// HTTP2 offers HTTP/2 beside HTTP/1.1. Blobs cost about twice the CPU time
	// over HTTP/2. Default true.
	HTTP2 bool
}

// Enabled tells whether there is TLS at all.
func (t TLS) Enabled() bool { return len(t.Certificates) > 0 || t.ACME.Enabled() }

// A KeyPair names the PEM files of a certificate and its private key.
type KeyPair struct{ Cert, Key string }

// Limits bound what clients may hold.
type Limits struct {
	// Connections bounds those of all clients, and ConnectionsPerClient those of
	// one address (of one /64 of IPv6); zero is no bound. Default 20000 and 5000.
	Connections, ConnectionsPerClient int
	// MinRate is how many bytes per second a client must take of a blob, over a
	// minute or two; slower ones are cut off. Zero is no bound. Default 8KiB.
	MinRate Size
	// Clients are what each of them may take: the first one that is about a client
	// counts. Default nothing, which is no limit.
	Clients []ClientLimits
}

// readListen reads one address or a list of them.
func (d *decoder) readListen(n node) {
	v, ok := d.bare(n)
	if !ok {
		return
	}
	if _, list := v.Node.(*ast.SequenceNode); !list {
		if text, _, ok := d.scalar(n); ok {
			d.apply(listenSetting(), text, n.at)
		}
		return
	}
	var addresses []string
	before := len(d.problems)
	for _, item := range d.list(n) {
		text, _, ok := d.scalar(item)
		if !ok {
			continue
		}
		if c := checkListen(text); c != nil {
			d.complain(item.at, c)
			continue
		}
		addresses = append(addresses, text)
	}
	if len(addresses) == 0 {
		if len(d.problems) > before {
			return
		}
		d.complain(n.at, complainf(msgEmpty))
		return
	}
	d.config.Listen, d.places["listen"] = addresses, n.at
}

func listenSetting() setting { return setting{"listen", setListen} }

// setListen takes addresses separated by commas.
func setListen(c *Config, s string) *complaint {
	var addresses []string
	for address := range strings.SplitSeq(s, ",") {
		address = strings.TrimSpace(address)
		if c := checkListen(address); c != nil {
			return c
		}
		addresses = append(addresses, address)
	}
	c.Listen = addresses
	return nil
}

// checkListen accepts host:port, unix:/path and systemd, with or without a name. A
// comma would make two addresses of one where it is written in a line.
func checkListen(s string) *complaint {
	if strings.Contains(s, ",") || !printable(s) {
		return complainf(msgUnprintableAddress, s)
	}
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if !filepath.IsAbs(path) {
			return complainf(msgBadAddress, s)
		}
		return nil
	}
	if s == "systemd" || strings.HasPrefix(s, "systemd:") {
		return nil
	}
	var ignored string
	return setAddress(&ignored, s)
}

// setRedirect takes host:port or systemd:NAME. All sockets of systemd, without a name,
// are for listen alone.
func setRedirect(to *string, s string) *complaint {
	if name, ok := strings.CutPrefix(s, "systemd:"); ok && name != "" && printable(s) {
		*to = s
		return nil
	}
	return setAddress(to, s)
}

// printable tells whether a person who reads s sees all of it.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func (d *decoder) readTLS(n node) {
	t := &d.config.TLS
	var redirect node
	d.fields(n, map[string]func(node){
		"certificates": func(n node) { d.readCertificates(t, n) },
		"redirect": func(n node) {
			redirect = n
			if s, _, ok := d.scalar(n); ok {
				if c := setRedirect(&t.Redirect, s); c != nil {
					d.complain(n.at, c)
				}
			}
		},
		"acme":  func(n node) { d.readACME(&t.ACME, n) },
		"hsts":  d.value(func(s string) *complaint { return setDuration(&t.HSTS, s) }),
		"http2": d.value(func(s string) *complaint { return setBool(&t.HTTP2, s) }),
	})
	if t.Redirect != "" && !t.Enabled() {
		d.complain(redirect.at, complainf(msgNeedsCertificates))
	}
}

// value reads a single value by set.
func (d *decoder) value(set func(string) *complaint) func(node) {
	return func(n node) {
		if s, _, ok := d.scalar(n); ok {
			if c := set(s); c != nil {
				d.complain(n.at, c)
			}
		}
	}
}

func (d *decoder) readCertificates(t *TLS, n node) {
	for _, item := range d.list(n) {
		var pair KeyPair
		file := func(to *string) func(node) {
			return d.value(func(s string) *complaint {
				if _, err := readBounded(s, MaxFileSize); err != nil {
					return complainf(msgUnreadable, err)
				}
				*to = s
				return nil
			})
		}
		before := len(d.problems)
		d.fields(item, map[string]func(node){"cert": file(&pair.Cert), "key": file(&pair.Key)})
		if len(d.problems) > before {
			continue
		}
		if pair.Cert == "" || pair.Key == "" {
			d.complain(item.at, complainf(msgHalfPair))
			continue
		}
		t.Certificates = append(t.Certificates, pair)
	}
}

func (d *decoder) readTrusted(n node) {
	d.config.TrustedProxies = nil
	for _, item := range d.list(n) {
		if p, ok := d.readNetwork(item); ok {
			d.config.TrustedProxies = append(d.config.TrustedProxies, p)
		}
	}
}

// readNetwork reads a network, or an address as one of its own.
func (d *decoder) readNetwork(n node) (netip.Prefix, bool) {
	s, _, ok := d.scalar(n)
	if !ok {
		return netip.Prefix{}, false
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		var addr netip.Addr
		if addr, err = netip.ParseAddr(s); err == nil {
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
	}
	if err != nil {
		d.complain(n.at, complainf(msgBadNetwork, s))
		return netip.Prefix{}, false
	}
	return prefix.Masked(), true
}

func (d *decoder) readOrigins(n node) {
	d.config.CORS = nil
	for _, item := range d.list(n) {
		s, _, ok := d.scalar(item)
		if !ok {
			continue
		}
		u, err := url.Parse(s)
		plain := err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && s == u.Scheme+"://"+u.Host
		if s != "*" && !plain {
			d.complain(item.at, complainf(msgBadOrigin, s))
			continue
		}
		d.config.CORS = append(d.config.CORS, s)
	}
}

func setCount(to *int, s string) *complaint {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return complainf(msgBadCount, s)
	}
	*to = n
	return nil
}

func setSize(to *Size, s string) *complaint {
	size, err := ParseSize(s)
	if err != nil {
		return complainf(msgBadSize, s)
	}
	*to = size
	return nil
}

// finishListen refuses one address for two purposes.
func (l *loader) finishListen() {
	c := l.config
	used := map[string]bool{}
	for i, address := range c.Listen {
		if used[address] && !free(address) {
			l.complain(l.places["listen"], complainf(msgSameAddress, c.Listen[i]))
		}
		used[address] = true
	}
	for _, other := range []struct{ field, address string }{{"admin.listen", c.Admin.Listen}, {"tls.redirect", c.TLS.Redirect}} {
		if other.address == "" || !used[other.address] || free(other.address) {
			continue
		}
		at, ok := l.places[other.field]
		if !ok {
			at = l.places["listen"]
		}
		l.complain(at, complainf(msgSameAddress, other.address))
	}
}

// free tells whether an address stands for whatever port is free.
func free(address string) bool {
	_, port, _ := net.SplitHostPort(address)
	return port == "0"
}

func (t TLS) show() yaml.MapSlice {
	pairs := []yaml.MapSlice{}
	for _, p := range t.Certificates {
		pairs = append(pairs, yaml.MapSlice{{Key: "cert", Value: escape(p.Cert)}, {Key: "key", Value: escape(p.Key)}})
	}
	m := yaml.MapSlice{{Key: "certificates", Value: pairs}}
	if t.ACME.Enabled() {
		m = append(m, yaml.MapItem{Key: "acme", Value: t.ACME.show()})
	}
	if t.Redirect != "" {
		m = append(m, yaml.MapItem{Key: "redirect", Value: escape(t.Redirect)})
	}
	return append(m, yaml.MapItem{Key: "hsts", Value: t.HSTS.String()}, yaml.MapItem{Key: "http2", Value: t.HTTP2})
}

// showListen is one address as it is written, and several as a list.
func showListen(addresses []string) any {
	if len(addresses) == 1 {
		return escape(addresses[0])
	}
	list := make([]string, len(addresses))
	for i, a := range addresses {
		list[i] = escape(a)
	}
	return list
}

func showNetworks(networks []netip.Prefix) []string {
	list := []string{}
	for _, n := range networks {
		list = append(list, n.String())
	}
	return list
}
