package server

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"sampan/internal/access/rate"
	"sampan/internal/mirror"
	"sampan/internal/oci"
)

// A kind is what a URL asks for.
type kind string

const (
	kindPing      kind = "ping"
	kindManifest  kind = "manifest"
	kindBlob      kind = "blob"
	kindTags      kind = "tags"
	kindReferrers kind = "referrers"
)

// A request is a URL, parsed. Exactly one of tag and digest is set for a
// manifest; digest for a blob and for referrers.
type request struct {
	kind    kind
	address mirror.Address
	tag     oci.Tag
	digest  oci.Digest

	visit *rate.Visit // what the client may take; nil without limits
}

// parse reads every shape of URL that clients make of a mirror's address:
//
//	/v2/<name>/manifests/<reference>            the specification's
//	/<prefix>/v2/<name>/manifests/<reference>   a mirror address with a path
//	/<prefix>/<name>/manifests/<reference>      containerd's former mirrors
func parse(r *http.Request) (request, error) {
	segments, err := split(r.URL)
	if err != nil {
		return request{}, err
	}
	prefix, rest := cut(segments)
	req, ok, err := parseRest(rest)
	if err != nil {
		return request{}, err
	}
	if !ok || len(segments) == 0 {
		return request{}, oci.Errorf(oci.CodeNameUnknown, "this is a mirror of container registries: it answers /v2/<name>/manifests, blobs, tags/list and referrers")
	}
	req.address.Host = r.Host
	req.address.Prefix = strings.Join(prefix, "/")
	req.address.NS = r.URL.Query().Get("ns")
	return req, nil
}

// split cuts the path into its decoded segments. Decoding comes last, so that an
// encoded slash stays within its segment, where the grammar refuses it.
func split(u *url.URL) ([]string, error) {
	path := strings.TrimPrefix(u.EscapedPath(), "/")
	path = strings.TrimSuffix(path, "/")
	if path == "" {
		return nil, nil
	}
	segments := strings.Split(path, "/")
	for i, s := range segments {
		d, err := url.PathUnescape(s)
		if err != nil || d == "" || d == "." || d == ".." {
			return nil, oci.Errorf(oci.CodeNameInvalid, "the path has an empty or relative part")
		}
		segments[i] = d
	}
	return segments, nil
}

// cut separates what stands before "v2". A repository may have a component "v2"
// itself: the first one that leaves a complete question behind it counts.
func cut(segments []string) (prefix, rest []string) {
	for i, s := range segments {
		if s != "v2" {
			continue
		}
		if _, ok, _ := parseRest(segments[i+1:]); ok || i == 0 {
			return segments[:i], segments[i+1:]
		}
	}
	return nil, segments
}

// parseRest reads what stands behind "v2". Not ok: it is no question of the
// protocol. An error: it is one with a wrong part.
func parseRest(s []string) (req request, ok bool, err error) {
	if len(s) == 0 {
		return request{kind: kindPing}, true, nil
	}
	if len(s) < 3 {
		return request{}, false, nil
	}
	name, verb, arg := s[:len(s)-2], s[len(s)-2], s[len(s)-1]
	switch {
	case verb == "manifests" && strings.Contains(arg, ":"):
		req.kind = kindManifest
		req.digest, err = oci.ParseDigest(arg)
	case verb == "manifests":
		req.kind = kindManifest
		req.tag, err = oci.ParseTag(arg)
	case verb == "blobs":
		req.kind = kindBlob
		req.digest, err = oci.ParseDigest(arg)
	case verb == "tags" && arg == "list":
		req.kind = kindTags
	case verb == "referrers":
		req.kind = kindReferrers
		req.digest, err = oci.ParseDigest(arg)
	default:
		return request{}, false, nil
	}
	// A slash within a segment was encoded: no name has one.
	if slices.ContainsFunc(name, func(c string) bool { return strings.Contains(c, "/") }) {
		return request{}, true, oci.Errorf(oci.CodeNameInvalid, "the name has an encoded slash")
	}
	req.address.Path = strings.Join(name, "/")
	return req, true, err
}
