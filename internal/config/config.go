// Package config is the configuration of sampan: one struct that reads as the
// manual, its defaults, and strict loading.
//
// Values come from, each overriding the one before: the built-in defaults; the
// file; SAMPAN_* variables of the environment; flags. Nothing has to be written
// anywhere. What is wrong is refused all at once ([Problem]), with file, line,
// column, field and, for a misspelt key, a suggestion. A configuration that Load
// returns is valid.
//
// The package opens no connection and resolves no name. It reads the
// configuration file and the files with secrets, certificates and keys that the
// configuration names, looks whether archives and layouts are there, and nothing else.
package config

import (
	"crypto/sha256"
	"net/netip"
	"net/url"
	"time"

	"sampan/internal/oci"
)

// Config is a complete configuration.
type Config struct {
	// File is where it was read from; empty when there was no file. FileSum is the
	// SHA-256 of what was read.
	File    string
	FileSum [sha256.Size]byte

	// Listen are the addresses of the registry API: host:port, where an empty host
	// means every interface; unix:/path for a Unix socket; systemd or systemd:NAME
	// for the sockets that systemd hands over. Default 127.0.0.1:5000.
	Listen []string
	TLS    TLS
	Limits Limits
	// TrustedProxies may say who the client is, by X-Forwarded-For and, where
	// ProxyProtocol is set, by the PROXY protocol. Default nobody.
	TrustedProxies []netip.Prefix
	// CORS are the origins of pages that may read this mirror's answers in
	// browsers; "*" is any, without login. Default none.
	CORS []string
	// ProxyProtocol expects the PROXY protocol, version 1 or 2, of TrustedProxies
	// at every address of Listen. Default false.
	ProxyProtocol bool
	Admin         Admin
	Data          Data

	// Domain is the mirror's own host name. Names below it choose the upstream:
	// docker.mirror.example.com. Empty (the default): the first label of any
	// host name may.
	Domain string
	// Default is the upstream of names that choose none. Default docker.io.
	Default oci.Registry
	// Page shows people who open the mirror's address in a browser how to use it.
	// Default true.
	Page bool
	// Offline answers from what is here alone: no upstream is ever asked. Default
	// false.
	Offline bool

	Tags     Tags
	Fetch    Fetch
	Shutdown Shutdown
	Log      Log
	Tracing  Tracing

	// Users and Codes are who clients may be, and Issuers whose tokens tell it.
	Users   []User
	Codes   []Code
	Issuers []Issuer
	// TokenKeyFile has the secret of tokens, which replicas of a mirror share. Empty
	// means one that is made and kept in the data directory.
	TokenKeyFile string
	// Access are the rules of who may have what, in order; the first one that matches
	// counts, and what none matches is denied. Nil (the default) allows everything.
	Access []Rule
	// Policy says what may be had at all.
	Policy Policy

	// Schedule is what the mirror does at set times. Default nothing.
	Schedule []Task

	// Egress is how requests leave for all upstreams, as far as they say nothing
	// else themselves. It is as the file has it: see [Egress.Inherit].
	Egress Egress

	// Upstreams are the registries served, by name; the built-in ones and those
	// configured. An upstream of the file is merged over the built-in one of the
	// same name.
	Upstreams []Upstream
	// Open allows registries that are not among Upstreams, over https and at
	// public addresses only. In the file: upstreams: {"*": {}}. Default false.
	Open bool
	// Aliases maps "registry" or "registry/path" to the same of another place.
	// An alias of the file is added to the built-in ones.
	Aliases map[string]string
}

// Admin is the listener for health, metrics and administration.
type Admin struct {
	// Listen is its address, host:port. Empty means none; "off" in the file, the
	// environment and the flag. Default 127.0.0.1:5001.
	Listen string
	// Token is what has to be sent for what is below /api, and TokenFile where it was
	// read from, when it was. Empty: changes are for who comes from this machine.
	Token     Secret
	TokenFile string
}

// Data is where and how much is kept.
type Data struct {
	// Dir is the directory; it is created if need be. Default:
	// $XDG_DATA_HOME/sampan, or else /var/lib/sampan for root and
	// ~/.local/share/sampan for everybody else.
	Dir string
	// MaxSize bounds what the directory may hold; a share is one of its file system.
	// Zero (the default) means no limit, otherwise at least [MinSize].
	MaxSize Bound
	// SoftSize is from where on room is made in the background; a share is one of
	// MaxSize. Default 95%.
	SoftSize Bound
	// MinFree is how much of the file system stays free, whoever writes there. Zero
	// (the default) means none.
	MinFree Size
	// MaxAge is how long what is not used stays. Zero (the default): for ever.
	MaxAge Duration
	Scrub  Scrub
}

// Scrub is how what is stored is read to see whether it is still what it was.
type Scrub struct {
	// Every is from the beginning of one pass to that of the next. Zero (the default)
	// means off, otherwise at least [MinScrub].
	Every Duration
	// Rate bounds it, in bytes per second; 0 means that nothing does. Default 20MiB.
	Rate Size
}

// MinScrub is the least data.scrub.every besides 0: below it, a disk would do
// nothing else.
const MinScrub = Duration(time.Hour)

// MinSize is the least max_size that is accepted: room for a few manifests of
// the largest kind.
const MinSize = 2 * oci.MaxManifestSize

// Fetch is how blobs are brought from upstream.
type Fetch struct {
	// Lines bounds the connections that one blob is fetched over, from 1 to
	// [MaxLines]. Further ones than the first are opened only while they make it
	// faster; 1 turns them off. Default 16.
	Lines int
	// LinesPerUpstream bounds those to one upstream, and LinesTotal all of them,
	// from 1 to [MaxLines]; fetches beyond wait for their turn. Default 64 and 256.
	LinesPerUpstream, LinesTotal int
	// Stall is how long no byte may come before the upstream is asked anew, at
	// least [MinStall]. Default 30s.
	Stall Duration
	// Prefetch: an image manifest that a client gets starts the fetches of its
	// config and layers. Default true.
	Prefetch bool
}

const (
	// MaxLines is the most that any bound of lines may be.
	MaxLines = 10_000
	// MinStall is the least fetch.stall that is accepted: below it, links that
	// merely lose packets would be taken for dead.
	MinStall = Duration(time.Second)
)

// Shutdown is how the process ends.
type Shutdown struct {
	// Grace is how long running responses may take to end. Zero means that they
	// are cut at once. Default 30s.
	Grace Duration
}

// Log is what is written to the standard streams.
type Log struct {
	Level  string // debug, info, warn or error; default info
	Format string // text or json; default text
	Access bool   // one line per request; default true
	// AccessFormat is that of these lines: text, json, or combined as web servers have
	// it. Empty (the default) is Format.
	AccessFormat string
	// Audit is the file that denials and administrative acts are appended to; stderr
	// for the log's own stream. Empty (the default) is none.
	Audit string
}

// Tracing is where spans of requests go.
type Tracing struct {
	// Endpoint is the address of an OpenTelemetry collector that takes OTLP over HTTP.
	// Empty (the default) traces nothing.
	Endpoint string
	// Sample is the part of requests that are traced, from 0 to 1. Default 1.
	Sample float64
}

// An Upstream is one registry.
type Upstream struct {
	// Registry is its name, the key in the file.
	Registry oci.Registry
	// Hosts are the labels below the domain that choose it, such as "docker".
	Hosts []string
	// Endpoints are the addresses of its API, tried in order, those on this machine's
	// disk before all others. Never empty, and never for blobs alone; default
	// https://NAME.
	Endpoints []Endpoint
	// Hedge is how long an endpoint may be silent before the next one is asked as
	// well, at least [MinHedge]. Zero (the default) means that it is not.
	Hedge Duration
	// RateLimitWait is how long a client waits for a manifest where the registry
	// limits the rate, before it gets 429. Zero means that it does not. Default
	// [DefaultRateLimitWait].
	RateLimitWait Duration

	// Username and Password are sent to the registry's token service, or to the
	// registry itself where it wants Basic authentication. Empty: anonymous.
	Username string
	Password Secret
	// PasswordFile is where Password was read from, when it was.
	PasswordFile string
	// Token is sent as a bearer token, instead of a user name. Empty: none.
	Token Secret
	// TokenFile is where Token was read from, when it was.
	TokenFile string
	// Accounts are further ones; of several that are for a repository, the one
	// with most of its budget left is used.
	Accounts []Account
	// Public tells that what these credentials can read may be given to everybody
	// who can reach this mirror. Credentials need it, or PassThrough, since nobody
	// else may have what they read; without credentials it has no meaning.
	Public bool
	// PassThrough asks the registry as the client itself, and gives to it what the
	// registry would.
	PassThrough bool

	// Tags is what differs for its tags from the section tags.
	Tags TagRule
	// Repositories are rules for some of its repositories, in the order of the
	// file; the first one that matches and says something counts.
	Repositories []RepositoryRule

	// MaxSize is how much of the disk it takes: above it, its blobs leave first, also
	// when there is room. MinSize is what others leave it. Shares are of Data.MaxSize.
	// Zero (the default): none.
	MaxSize, MinSize Bound
	// MaxAge is for its blobs instead of Data.MaxAge. Zero (the default): that one.
	MaxAge Duration

	// Egress is how requests leave for this one. What it does not say is inherited
	// from Config.Egress: see [Egress.Inherit].
	Egress Egress
}

// An Endpoint is one address of an upstream.
type Endpoint struct {
	// URL has the scheme https, or http for plain HTTP, and a host. It has no
	// user, query or fragment. Nil where Local is not zero.
	URL *url.URL
	// Local is what is on this machine's disk instead.
	Local Local
	// BlobsOnly tells that only the bytes of blobs are asked for there, each proven
	// by its digest: serves is blobs. Default false: serves is all.
	BlobsOnly bool
	// Credentials tells whether they are sent there; nil means: when it is the
	// first one that is not for blobs only and has nil here.
	Credentials *bool
}

const (
	// MinHedge is the least hedge that is accepted besides 0: below it, every
	// question would be asked twice.
	MinHedge = Duration(10 * time.Millisecond)
	// DefaultRateLimitWait is that of upstreams that do not say it.
	DefaultRateLimitWait = Duration(3 * time.Second)
)

// Upstream returns the configured upstream with the given name, if there is one.
func (c *Config) Upstream(r oci.Registry) (Upstream, bool) {
	for _, u := range c.Upstreams {
		if u.Registry == r {
			return u, true
		}
	}
	return Upstream{}, false
}

// HasCredentials tells whether anything but anonymous access is configured for
// the upstream itself.
func (u Upstream) HasCredentials() bool { return len(u.AllAccounts()) > 0 }
