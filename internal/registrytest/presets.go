package registrytest

import (
	"net/http"
	"time"
)

// DockerHub behaves as docker.io: a Bearer challenge, a token per repository
// with expires_in, blobs by 307 to a presigned URL that rejects HEAD and
// Authorization, HEAD in place, no referrers. A repository that does not exist
// gets a token and 401. It sets no rate limit.
func DockerHub() Behavior {
	return Behavior{
		Challenge:   Challenge{Scheme: SchemeBearer, Service: "registry.docker.io"},
		Redirect:    presigned(http.StatusTemporaryRedirect),
		Missing:     MissingUnauthorized,
		NoReferrers: true,
	}
}

// Quay behaves as quay.io: {"token"} alone, good for an hour; 401 for what does
// not exist; schema 1 unless Accept is exact; pages of 100 tags; no ETag on
// manifests; blobs by 302.
func Quay() Behavior {
	return Behavior{
		Challenge: Challenge{Scheme: SchemeBearer, Service: "quay.io"},
		Token:     Token{Field: TokenOnly, Bare: true, Lifetime: time.Hour},
		Redirect:  presigned(http.StatusFound),
		Missing:   MissingUnauthorized,
		Manifest:  ManifestForm{Schema1: true, NoETag: true},
		Tags:      TagsForm{Page: 100},
	}
}

// GHCR behaves as ghcr.io: a placeholder scope on the ping, {"token"} without
// an end that reads any public repository, 403 from the token server for what is
// private or does not exist, tags oldest first, no referrers.
func GHCR() Behavior {
	return Behavior{
		Challenge:   Challenge{Scheme: SchemeBearer, Service: "ghcr.io", PingScope: "repository:user/image:pull"},
		Token:       Token{Field: TokenOnly, Bare: true, Unbound: true, Forbid: true},
		Redirect:    presigned(http.StatusTemporaryRedirect),
		Missing:     MissingUnauthorized,
		Tags:        TagsForm{Unsorted: true},
		NoReferrers: true,
	}
}

// GCR behaves as gcr.io and *-docker.pkg.dev: an unquoted service on the ping,
// no challenge elsewhere, public content without a token, 403 from the token
// server when any scope is denied, blobs by a relative 302, extra fields beside
// the tags.
func GCR() Behavior {
	return Behavior{
		Challenge: Challenge{Scheme: SchemeBearer, Service: "gcr.io", Unquoted: true, PingOnly: true, PublicOpen: true},
		Token:     Token{Forbid: true, Lifetime: time.Hour},
		Redirect:  Redirect{Status: http.StatusFound, Target: TargetRelative, Head: true},
		Tags:      TagsForm{Extra: true},
	}
}

// K8s behaves as registry.k8s.io: no challenge, everything by 307, manifests
// and tags without their query, 404 as text.
func K8s() Behavior {
	return Behavior{
		Redirect: Redirect{Status: http.StatusTemporaryRedirect, Head: true, Manifests: true},
		Missing:  MissingText,
	}
}

// MCR behaves as mcr.microsoft.com: no challenge, blobs by 307 to a signed path
// with "//", 404 as Azure's XML.
func MCR() Behavior {
	b := Behavior{Redirect: presigned(http.StatusTemporaryRedirect), Missing: MissingXML}
	b.Redirect.DoubleSlash = true
	return b
}

// presigned is a redirect to an object store under another host name.
func presigned(status int) Redirect {
	return Redirect{Status: status, Target: TargetOtherHost, RejectAuthorization: true, RejectHead: true, RejectMultiRange: true}
}
