package config

import "slices"

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
		if endpoint, ok := d.readEndpoint(item); ok {
			e.Endpoints = append(e.Endpoints, endpoint)
		}
	}
	if len(e.Endpoints) > 0 && !slices.ContainsFunc(e.Endpoints, func(ep Endpoint) bool { return !ep.BlobsOnly }) {
		d.complain(n.at, complainf(msgOnlyBlobs))
	} else if len(e.Endpoints) > 0 && !slices.ContainsFunc(e.Endpoints, func(ep Endpoint) bool {
		return !ep.BlobsOnly && (ep.Credentials == nil || *ep.Credentials)
	}) {
		d.complain(n.at, complainf(msgNobodyTold))
	}
}

// readEndpoint reads one of them; false when it has complained.
func (d *decoder) readEndpoint(item node) (endpoint Endpoint, ok bool) {
	found, serves := false, "all"
	var credentials *bool
	d.fields(item, map[string]func(node){
		"url": func(n node) {
			s, _, written := d.scalar(n)
			found = written
			if !written {
				return
			}
			parsed, c := parseEndpoint(s)
			if c != nil {
				d.complain(n.at, c)
				return
			}
			endpoint, ok = parsed, true
		},
		"credentials": d.readOptionalBool(&credentials),
		"serves": func(n node) {
			if s, _, written := d.scalar(n); written {
				if c := setChoice(&serves, s, "all", "blobs"); c != nil {
					d.complain(n.at, c)
				}
			}
		},
	})
	if !found {
		d.complain(item.at, complainf(msgNoEndpoint))
	}
	endpoint.BlobsOnly, endpoint.Credentials = serves == "blobs", credentials
	return endpoint, ok
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
