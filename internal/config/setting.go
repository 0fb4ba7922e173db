package config

import (
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"sampan/internal/oci"
)

// A setting is a single value that the file and the environment both have.
type setting struct {
	path string // in the file: "data.max_size"
	set  func(*Config, string) *complaint
}

// variable is the setting's name in the environment.
func (s setting) variable() string {
	return "SAMPAN_" + strings.ToUpper(strings.ReplaceAll(s.path, ".", "_"))
}

// settings lists them in the order of the manual.
func settings() []setting {
	return []setting{
		listenSetting(),
		{"limits.connections", func(c *Config, s string) *complaint { return setCount(&c.Limits.Connections, s) }},
		{"limits.connections_per_client", func(c *Config, s string) *complaint { return setCount(&c.Limits.ConnectionsPerClient, s) }},
		{"limits.min_rate", func(c *Config, s string) *complaint { return setSize(&c.Limits.MinRate, s) }},
		{"proxy_protocol", func(c *Config, s string) *complaint { return setBool(&c.ProxyProtocol, s) }},
		{"admin.listen", setAdmin},
		{"data.dir", setDataDir},
		{"data.max_size", setMaxSize},
		{"data.soft_size", func(c *Config, s string) *complaint { return setBound(&c.Data.SoftSize, s) }},
		{"data.min_free", func(c *Config, s string) *complaint { return setSize(&c.Data.MinFree, s) }},
		{"data.max_age", func(c *Config, s string) *complaint { return setDuration(&c.Data.MaxAge, s) }},
		{"data.scrub.every", setScrubEvery},
		{"data.scrub.rate", setScrubRate},
		{"domain", setDomain},
		{"default", setDefault},
		{"page", func(c *Config, s string) *complaint { return setBool(&c.Page, s) }},
		{"offline", func(c *Config, s string) *complaint { return setBool(&c.Offline, s) }},
		{"tags.fresh_for", func(c *Config, s string) *complaint { return setDuration(&c.Tags.FreshFor, s) }},
		{"tags.stale_if_error", func(c *Config, s string) *complaint { return setLongDuration(&c.Tags.StaleIfError, s) }},
		{"tags.missing_for", func(c *Config, s string) *complaint { return setDuration(&c.Tags.MissingFor, s) }},
		{"tags.refresh", func(c *Config, s string) *complaint { return setBool(&c.Tags.Refresh, s) }},
		{"fetch.lines", func(c *Config, s string) *complaint { return setLines(&c.Fetch.Lines, s) }},
		{"fetch.lines_per_upstream", func(c *Config, s string) *complaint { return setLines(&c.Fetch.LinesPerUpstream, s) }},
		{"fetch.lines_total", func(c *Config, s string) *complaint { return setLines(&c.Fetch.LinesTotal, s) }},
		{"fetch.stall", setStall},
		{"fetch.prefetch", func(c *Config, s string) *complaint { return setBool(&c.Fetch.Prefetch, s) }},
		{"shutdown.grace", func(c *Config, s string) *complaint { return setDuration(&c.Shutdown.Grace, s) }},
		{"log.level", func(c *Config, s string) *complaint {
			return setChoice(&c.Log.Level, s, "debug", "info", "warn", "error")
		}},
		{"log.format", func(c *Config, s string) *complaint { return setChoice(&c.Log.Format, s, "text", "json") }},
		{"log.access", func(c *Config, s string) *complaint { return setBool(&c.Log.Access, s) }},
		{"log.access_format", func(c *Config, s string) *complaint {
			return setChoice(&c.Log.AccessFormat, s, "text", "json", "combined")
		}},
		{"log.audit", setAudit},
		{"tracing.endpoint", setCollector},
		{"tracing.sample", setSample},
	}
}

func setAddress(to *string, s string) *complaint {
	if !printable(s) {
		return complainf(msgUnprintableAddress, s)
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil || strings.ContainsAny(host, "/@ ") {
		return complainf(msgBadAddress, s)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return complainf(msgBadAddress, s)
	}
	*to = s
	return nil
}

func setAdmin(c *Config, s string) *complaint {
	if s == "off" {
		c.Admin.Listen = ""
		return nil
	}
	return setAddress(&c.Admin.Listen, s)
}

// setCollector takes the address of a collector, or off.
func setCollector(c *Config, s string) *complaint {
	if s == "off" {
		c.Tracing.Endpoint = ""
		return nil
	}
	u, bad := parseURL(s)
	if bad != nil {
		return bad
	}
	c.Tracing.Endpoint = u.String()
	return nil
}

func setSample(c *Config, s string) *complaint {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0 && f <= 1) {
		return complainf(msgBadSample, s)
	}
	c.Tracing.Sample = f
	return nil
}

// setAudit takes off, stderr, or the absolute path of a file.
func setAudit(c *Config, s string) *complaint {
	switch {
	case s == "off":
		c.Log.Audit = ""
	case s == "stderr" || filepath.IsAbs(s):
		c.Log.Audit = s
	default:
		return complainf(msgBadAudit, s)
	}
	return nil
}

func setDataDir(c *Config, s string) *complaint {
	if s == "" {
		return complainf(msgEmpty)
	}
	c.Data.Dir = s
	return nil
}

func setDomain(c *Config, s string) *complaint {
	r, err := oci.ParseRegistry(s)
	if _, ip := netip.ParseAddr(s); s != "" && (err != nil || ip == nil || strings.Contains(s, ":")) {
		return complainf(msgBadDomain, s)
	}
	c.Domain = r.String()
	return nil
}

func setDefault(c *Config, s string) *complaint {
	r, err := oci.ParseRegistry(s)
	if err != nil {
		return complainf(msgBadRegistry, s)
	}
	c.Default = r
	return nil
}

func setDuration(to *Duration, s string) *complaint {
	d, err := ParseDuration(s)
	if err != nil {
		return complainf(msgBadDuration, s)
	}
	*to = d
	return nil
}

func setLines(to *int, s string) *complaint {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > MaxLines {
		return complainf(msgBadLines, s, MaxLines)
	}
	*to = n
	return nil
}

func setStall(c *Config, s string) *complaint {
	var d Duration
	if bad := setDuration(&d, s); bad != nil {
		return bad
	}
	if d < MinStall {
		return complainf(msgShortStall, s, MinStall)
	}
	c.Fetch.Stall = d
	return nil
}

func setChoice(to *string, s string, choices ...string) *complaint {
	if !slices.Contains(choices, s) {
		c := complainf(msgBadChoice, s, strings.Join(choices, ", "))
		c.meant = suggest(s, choices)
		return c
	}
	*to = s
	return nil
}

func setBool(to *bool, s string) *complaint {
	switch s {
	case "true":
		*to = true
	case "false":
		*to = false
	default:
		return complainf(msgBadBool, s)
	}
	return nil
}

// parseURL reads the URL of an API.
func parseURL(s string) (*url.URL, *complaint) {
	u, err := url.Parse(s)
	bad := err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" ||
		u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(s, "#")
	if !bad && u.Port() != "" {
		_, err := strconv.ParseUint(u.Port(), 10, 16)
		bad = err != nil
	}
	if bad {
		return nil, complainf(msgBadURL, redactURL(s))
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	return u, nil
}

// redactURL takes user and password out of what looks like a URL.
func redactURL(s string) string {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		scheme, rest = "", s
	} else {
		scheme += "://"
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest = masked + rest[at:]
	}
	return scheme + rest
}

// validLabel tells whether s is one label of a host name in lower case.
func validLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
