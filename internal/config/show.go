package config

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/goccy/go-yaml"
)

// Show writes the configuration as YAML that Load accepts. Secrets from a file
// show its name, those from a variable the variable, others are masked.
func (c *Config) Show(w io.Writer) error {
	admin := cmp.Or(c.Admin.Listen, "off")
	doc := yaml.MapSlice{
		{Key: "listen", Value: showListen(c.Listen)},
		{Key: "tls", Value: c.TLS.show()},
		{Key: "limits", Value: c.Limits.show()},
		{Key: "trusted_proxies", Value: showNetworks(c.TrustedProxies)},
		{Key: "proxy_protocol", Value: c.ProxyProtocol},
		{Key: "cors_origins", Value: append([]string{}, c.CORS...)},
		{Key: "admin", Value: c.Admin.show(admin)},
		{Key: "data", Value: c.Data.show()},
		{Key: "domain", Value: c.Domain},
		{Key: "default", Value: c.Default.String()},
		{Key: "page", Value: c.Page},
		{Key: "offline", Value: c.Offline},
		{Key: "tags", Value: c.showTags()},
		{Key: "fetch", Value: yaml.MapSlice{
			{Key: "lines", Value: c.Fetch.Lines},
			{Key: "lines_per_upstream", Value: c.Fetch.LinesPerUpstream},
			{Key: "lines_total", Value: c.Fetch.LinesTotal},
			{Key: "stall", Value: c.Fetch.Stall.String()},
			{Key: "prefetch", Value: c.Fetch.Prefetch},
		}},
		{Key: "shutdown", Value: yaml.MapSlice{{Key: "grace", Value: c.Shutdown.Grace.String()}}},
		{Key: "log", Value: c.Log.show()},
		{Key: "tracing", Value: yaml.MapSlice{{Key: "endpoint", Value: escape(cmp.Or(c.Tracing.Endpoint, "off"))}, {Key: "sample", Value: c.Tracing.Sample}}},
	}
	doc = c.showPeople(doc)
	if len(c.Schedule) > 0 {
		doc = append(doc, yaml.MapItem{Key: "schedule", Value: shown(c.Schedule, Task.show)})
	}
	if egress := c.Egress.show(); len(egress) > 0 {
		doc = append(doc, yaml.MapItem{Key: "egress", Value: egress})
	}
	var upstreams yaml.MapSlice
	for _, u := range c.Upstreams {
		upstreams = append(upstreams, yaml.MapItem{Key: u.Registry.String(), Value: u.show()})
	}
	if c.Open {
		upstreams = append(upstreams, yaml.MapItem{Key: "*", Value: yaml.MapSlice{}})
	}
	var aliases yaml.MapSlice
	for _, from := range slices.Sorted(maps.Keys(c.Aliases)) {
		aliases = append(aliases, yaml.MapItem{Key: from, Value: c.Aliases[from]})
	}
	doc = append(doc, yaml.MapItem{Key: "upstreams", Value: upstreams}, yaml.MapItem{Key: "aliases", Value: aliases})
	text, err := yaml.MarshalWithOptions(doc, yaml.IndentSequence(true))
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	_, err = w.Write(text)
	return err
}

// show is the section as the file has it.
func (a Admin) show(listen string) yaml.MapSlice {
	m := yaml.MapSlice{{Key: "listen", Value: listen}}
	showSecret(func(key, value string) {
		if value != "" {
			m = append(m, yaml.MapItem{Key: key, Value: value})
		}
	}, "token", a.TokenFile, a.Token)
	return m
}

// show is the section as the file has it.
func (l Log) show() yaml.MapSlice {
	m := yaml.MapSlice{{Key: "level", Value: l.Level}, {Key: "format", Value: l.Format}, {Key: "access", Value: l.Access}}
	if l.AccessFormat != "" {
		m = append(m, yaml.MapItem{Key: "access_format", Value: l.AccessFormat})
	}
	return append(m, yaml.MapItem{Key: "audit", Value: escape(cmp.Or(l.Audit, "off"))})
}

// show is the upstream as the file has it.
func (u Upstream) show() yaml.MapSlice {
	hosts := append([]string{}, u.Hosts...)
	var endpoints []yaml.MapSlice
	for _, e := range u.Endpoints {
		endpoints = append(endpoints, e.show())
	}
	m := yaml.MapSlice{{Key: "hosts", Value: hosts}, {Key: "endpoints", Value: endpoints}}
	add := func(key, value string) {
		if value != "" {
			m = append(m, yaml.MapItem{Key: key, Value: value})
		}
	}
	secret := func(key, file string, s Secret) {
		if file != "" {
			add(key+"_file", escape(file))
			return
		}
		add(key, cmp.Or(s.source, s.String()))
	}
	if u.Hedge != 0 {
		add("hedge", u.Hedge.String())
	}
	if u.RateLimitWait != DefaultRateLimitWait {
		add("rate_limit_wait", u.RateLimitWait.String())
	}
	add("username", escape(u.Username))
	secret("password", u.PasswordFile, u.Password)
	secret("token", u.TokenFile, u.Token)
	if len(u.Accounts) > 0 {
		m = append(m, yaml.MapItem{Key: "accounts", Value: showAccounts(u.Accounts)})
	}
	if u.Public {
		m = append(m, yaml.MapItem{Key: "public", Value: true})
	}
	if u.PassThrough {
		m = append(m, yaml.MapItem{Key: "pass_through", Value: true})
	}
	for _, b := range []struct {
		key   string
		bound Bound
	}{{"max_size", u.MaxSize}, {"min_size", u.MinSize}} {
		if !b.bound.IsZero() {
			add(b.key, b.bound.String())
		}
	}
	if u.MaxAge != 0 {
		add("max_age", u.MaxAge.String())
	}
	if tags := u.Tags.show(); len(tags) > 0 {
		m = append(m, yaml.MapItem{Key: "tags", Value: tags})
	}
	if rules := u.showRepositories(); len(rules) > 0 {
		m = append(m, yaml.MapItem{Key: "repositories", Value: rules})
	}
	if egress := u.Egress.show(); len(egress) > 0 {
		m = append(m, yaml.MapItem{Key: "egress", Value: egress})
	}
	return m
}

// show is the endpoint as the file has it.
func (e Endpoint) show() yaml.MapSlice {
	m := yaml.MapSlice{}
	if e.Local.IsZero() {
		m = append(m, yaml.MapItem{Key: "url", Value: escape(e.URL.String())})
	} else {
		m = append(m, yaml.MapItem{Key: "url", Value: escape(e.Local.String())})
	}
	if repo := e.Local.Repository; !repo.IsZero() {
		m = append(m, yaml.MapItem{Key: "repository", Value: repo.Path()})
	}
	if e.BlobsOnly {
		m = append(m, yaml.MapItem{Key: "serves", Value: "blobs"})
	}
	if e.Credentials != nil {
		m = append(m, yaml.MapItem{Key: "credentials", Value: *e.Credentials})
	}
	return m
}
