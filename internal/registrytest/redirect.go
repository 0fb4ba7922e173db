package registrytest

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sampan/internal/oci"
)

const (
	// selfPrefix is where the registry serves redirected blobs itself.
	selfPrefix = "/artifacts-downloads/"
	// k8sPrefix is where registry.k8s.io sends manifests.
	k8sPrefix = "/v2/k8s-artifacts-prod/images/"
)

// redirectTo returns the host part of the Location, empty for a relative one.
func (r *Registry) redirectTo(t Target) string {
	switch t {
	case TargetOtherHost:
		if r.opts.InMemory {
			return r.siteURL(roleCDN, "cdn.test")
		}
		return r.siteURL(roleCDN, "localhost")
	case TargetSubdomain:
		return r.siteURL(roleCDN, "cdn."+r.hostname)
	case TargetSelf:
		return r.URL()
	case TargetRelative:
		return ""
	default:
		return r.CDNURL()
	}
}

// location returns the signed URL of a blob. hop counts redirects of a loop.
func (r *Registry) location(st *state, d oci.Digest, hop int) string {
	lifetime := st.Redirect.Lifetime
	if lifetime == 0 {
		lifetime = 20 * time.Minute
	}
	prefix := "/registry-v2"
	if t := st.Redirect.Target; t == TargetSelf || t == TargetRelative {
		prefix = selfPrefix + "registry-v2"
	}
	slash := "/"
	if st.Redirect.DoubleSlash {
		slash = "//"
	}
	path := fmt.Sprintf("%s%sdocker/registry/v2/blobs/%s/%s/%s/data", prefix, slash, d.Algorithm(), d.Hex()[:2], d.Hex())
	// The order and the escapes are unlike what url.Values writes: whoever
	// parses and writes the query again breaks the signature.
	query := fmt.Sprintf("sv=%d&se=%d&sp=r&hop=%d&ep=a%%3Ab", r.urlEpoch.Load(), time.Now().Add(lifetime).UnixNano(), hop)
	return r.redirectTo(st.Redirect.Target) + path + "?" + query + "&sig=" + sign("url", path+"?"+query) + "%3D"
}

// redirectAPI sends a manifest or tags request to the CDN, without its query.
func (r *Registry) redirectAPI(w *recorder, req *http.Request, st *state) {
	rest := strings.TrimPrefix(req.URL.EscapedPath(), "/v2/")
	w.Header().Set("Location", r.redirectTo(st.Redirect.Target)+k8sPrefix+rest)
	w.WriteHeader(http.StatusTemporaryRedirect)
}

// redirectBlob sends a blob request to its signed URL.
func (r *Registry) redirectBlob(w *recorder, st *state, d oci.Digest, hop int) {
	w.Header().Set("Location", r.location(st, d, hop))
	w.Header()["Content-Type"] = nil
	w.WriteHeader(st.Redirect.Status)
}

// serveCDN serves what redirects lead to.
func (r *Registry) serveCDN(w *recorder, req *http.Request, st *state) {
	if rest, ok := strings.CutPrefix(req.URL.Path, k8sPrefix); ok {
		r.serveAPI(w, req, st, parseAPI(rest))
		return
	}
	switch {
	case st.Redirect.RejectAuthorization && req.Header.Get("Authorization") != "":
		writeXML(w, http.StatusBadRequest, "InvalidArgument", "Only one auth mechanism allowed")
		return
	case st.Redirect.RejectHead && req.Method == http.MethodHead:
		writeXML(w, http.StatusForbidden, "SignatureDoesNotMatch", "The method is not the signed one")
		return
	case st.Redirect.RejectMultiRange && strings.Contains(req.Header.Get("Range"), ","):
		writeXML(w, http.StatusBadRequest, "InvalidRange", "One range only")
		return
	}
	d, hop, problem := r.checkURL(req)
	if problem != "" {
		writeXML(w, http.StatusForbidden, "AccessDenied", problem)
		return
	}
	if st.Redirect.Loop {
		r.redirectBlob(w, st, d, hop+1)
		return
	}
	b := r.content.anyBlob(d)
	if b == nil {
		writeXML(w, http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
		return
	}
	f := st.fault(req.Method, d, KindBlob, KindCDN)
	if !r.before(f, w, req) {
		return
	}
	r.sendBlob(w, req, st, b, f)
}

// checkURL verifies the signature over the URL as it was sent, and returns what
// it is for, or what is wrong with it.
func (r *Registry) checkURL(req *http.Request) (d oci.Digest, hop int, problem string) {
	signed, signature, ok := strings.Cut(req.URL.RawQuery, "&sig=")
	path := req.URL.EscapedPath()
	if !ok || signature != sign("url", path+"?"+signed)+"%3D" {
		return d, 0, "The request signature we calculated does not match the signature you provided."
	}
	query := req.URL.Query()
	expires, err := strconv.ParseInt(query.Get("se"), 10, 64)
	if err != nil || time.Now().UnixNano() >= expires || query.Get("sv") != strconv.FormatInt(r.urlEpoch.Load(), 10) {
		return d, 0, "Request has expired"
	}
	parts := strings.Split(path, "/")
	n := len(parts)
	d, err = oci.ParseDigest(parts[n-4] + ":" + parts[n-2])
	if err != nil {
		return d, 0, err.Error()
	}
	hop, err = strconv.Atoi(query.Get("hop"))
	if err != nil {
		return d, 0, err.Error()
	}
	return d, hop, ""
}

// writeXML answers as object stores do.
func writeXML(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>%s</Message></Error>", code, message)
}
