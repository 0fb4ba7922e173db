package config

import (
	"slices"

	"github.com/goccy/go-yaml/ast"

	"sampan/internal/oci"
)

// readEndpoints reads the addresses of an upstream. At least one of them must be asked
// for everything.
func (d *decoder) readEndpoints(e *entry, n node) {
	items := d.list(n)
	if len(items) == 0 {
		d.complain(n.at, complainf(msgNoEndpoint))
		return
	}
	e.Endpoints = nil
	for _, item := range items {
		if endpoint, ok := d.readEndpoint(e.Registry, item); ok {
			e.Endpoints = append(e.Endpoints, endpoint)
		}
	}
	if c := checkEndpoints(e.Upstream); c != nil {
		d.complain(n.at, c)
	}
}

// checkEndpoints looks at what endpoints are together.
func checkEndpoints(u Upstream) *complaint {
	asked := func(list []Endpoint) bool {
		return len(list) == 0 || slices.ContainsFunc(list, func(ep Endpoint) bool { return !ep.BlobsOnly })
	}
	network := u.Network()
	told := len(network) == 0 || slices.ContainsFunc(network, func(ep Endpoint) bool {
		return !ep.BlobsOnly && (ep.Credentials == nil || *ep.Credentials)
	})
	switch {
	case !asked(u.Endpoints):
		return complainf(msgOnlyBlobs)
	case !asked(network):
		return complainf(msgOnlyBlobsBehind)
	case !told:
		return complainf(msgNobodyTold)
	default:
		return nil
	}
}

// readEndpoint reads one of them, an address alone or with what is said about it; false
// when it has complained.
func (d *decoder) readEndpoint(r oci.Registry, item node) (endpoint Endpoint, ok bool) {
	read := func(n node) (written bool) {
		s, _, written := d.scalar(n)
		if !written {
			return false
		}
		parsed, c := d.endpoint(s)
		if c != nil {
			d.complain(n.at, c)
			return true
		}
		endpoint, ok = parsed, true
		return true
	}
	if isText(item.Node) {
		if !read(item) {
			d.complain(item.at, complainf(msgNoEndpoint))
		}
		return endpoint, ok
	}
	found, serves := false, "all"
	var credentials *bool
	var repository oci.Repository
	var onlyNetwork, onlyLocal place
	d.fields(item, map[string]func(node){
		"url":         func(n node) { found = read(n) },
		"credentials": func(n node) { onlyNetwork = n.at; d.readOptionalBool(&credentials)(n) },
		"repository":  func(n node) { onlyLocal = n.at; d.readRepository(r, &repository)(n) },
		"serves": func(n node) {
			if s, _, written := d.scalar(n); written {
				if c := setChoice(&serves, s, "all", "blobs"); c != nil {
					d.complain(n.at, c)
				}
			}
		},
	})
	switch local := !endpoint.Local.IsZero(); {
	case !found:
		d.complain(item.at, complainf(msgNoEndpoint))
	case ok && local && onlyNetwork.line > 0:
		d.complain(onlyNetwork, complainf(msgOnlyForURL))
	case ok && !local && onlyLocal.line > 0:
		d.complain(onlyLocal, complainf(msgOnlyForLocal))
	case local:
		endpoint.Local.Repository = repository
	}
	endpoint.BlobsOnly, endpoint.Credentials = serves == "blobs", credentials
	return endpoint, ok
}

// isText tells whether a value is one text.
func isText(n ast.Node) bool {
	_, ok := n.(*ast.StringNode)
	return ok
}

func (d *decoder) readHedge(e *entry, n node) {
	s, _, ok := d.scalar(n)
	if !ok {
		return
	}
	var hedge Duration
	switch c := setDuration(&hedge, s); {
	case c != nil:
		d.complain(n.at, c)
	case hedge != 0 && hedge < MinHedge:
		d.complain(n.at, complainf(msgShortHedge, s, MinHedge))
	default:
		e.Hedge = hedge
	}
}
