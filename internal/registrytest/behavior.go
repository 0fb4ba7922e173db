package registrytest

import (
	"sync"
	"sync/atomic"
	"time"
)

// A Behavior says how the registry answers. The zero value is a plain, correct,
// anonymous registry that serves its blobs itself. [DockerHub], [Quay], [GHCR],
// [GCR], [K8s] and [MCR] are those of real ones. A Behavior must not be changed after it was
// given to the registry: give it another.
type Behavior struct {
	Challenge Challenge
	Token     Token
	Redirect  Redirect
	Missing   Missing
	RateLimit RateLimit
	Manifest  ManifestForm
	Blob      BlobForm
	Tags      TagsForm
	// NoReferrers answers 404 to the referrers API, as ghcr.io and docker.io
	// do. The tag schema's fallback tags "sha256-<hex>" then exist, generated
	// from the same artifacts; the list of tags does not show them.
	NoReferrers bool
	Pace        Pace
	// Faults break responses. For each response the first that matches and is
	// not used up decides; the others are not consulted.
	Faults []Fault
}

// A Scheme is what a challenge asks for.
type Scheme string

// The schemes.
const (
	SchemeNone   Scheme = ""
	SchemeBasic  Scheme = "Basic"  // the account of Token on every request
	SchemeBearer Scheme = "Bearer" // a token of the token server
)

// A Challenge is the 401 that a request without the right credentials gets.
type Challenge struct {
	Scheme Scheme
	// Unquoted writes service=x without quotes, as gcr.io does.
	Unquoted bool
	// Service is the parameter's value; empty is the registry's host and port.
	Service string
	// NoService leaves the parameter out, as *-docker.pkg.dev does.
	NoService bool
	// PingScope is a scope on the ping's challenge, where there ought to be
	// none: ghcr.io puts the placeholder "repository:user/image:pull" there.
	PingScope string
	// Scope replaces the scope on every challenge: public.ecr.aws wants "aws"
	// for everything.
	Scope string
	// PingOnly leaves WWW-Authenticate out of the 401 of real requests, as
	// gcr.io may: the ping's challenge is the one to use.
	PingOnly bool
	// PingOpen answers 200 to the ping while real requests are challenged.
	PingOpen bool
	// PublicOpen challenges only the ping and the private repositories, as
	// gcr.io does: public content needs no token.
	PublicOpen bool
	// RealmHost replaces the host name of the realm, keeping the port of the
	// token server: "localhost" is another host for a client that pins
	// credentials. Empty is the registry's own name.
	RealmHost string
	// Realm replaces the whole realm; empty is [Registry.TokenURL].
	Realm string
}

// A TokenField says which of the two names a token has in the answer.
type TokenField int

// The fields.
const (
	TokenBoth       TokenField = iota // as docker.io
	TokenOnly                         // as quay.io
	AccessTokenOnly                   // as OAuth 2 has it
)

// Token is how the token server answers and what its tokens are good for.
type Token struct {
	// Lifetime of a token, enforced; zero is 300 s.
	Lifetime time.Duration
	// Field names the token in the answer.
	Field TokenField
	// Bare leaves expires_in and issued_at out, as ghcr.io and quay.io do.
	Bare bool
	// Unbound makes a token good for every repository that its owner may read,
	// whatever scope it was asked for, as on ghcr.io.
	Unbound bool
	// Forbid answers 403 when any one requested scope is denied, as gcr.io and
	// ghcr.io do. Otherwise the token is granted with less, as on docker.io,
	// and the registry answers 401 insufficient_scope. A repository that does
	// not exist is denied, too, where Missing says that this looks the same.
	Forbid bool
	// Username and Password are the account that reads everything; an empty
	// Username is none. Any other credentials but those of Users get 401.
	Username, Password string
	// Users are further accounts, each for some of the private repositories.
	Users []User
	// Private lists the repositories that only accounts read; "*" is all.
	Private []string
}

// Target is where a redirect leads.
type Target int

// The targets.
const (
	TargetCDN       Target = iota // the CDN's port on the registry's host name
	TargetOtherHost               // the CDN under a host name that is no relative: "localhost", in memory "cdn.test"
	TargetSubdomain               // the CDN at "cdn." + the registry's host name, which only DialContext finds
	TargetSelf                    // the registry itself, by an absolute URL
	TargetRelative                // the registry itself, by a path alone, as gcr.io does
)

// Redirect sends blobs elsewhere. Its URLs are signed over the path and the
// query exactly as written, expire, and are served by the CDN, without
// authentication.
type Redirect struct {
	// Status is 301, 302, 303, 307 or 308; zero serves blobs in place.
	Status int
	Target Target
	// Head redirects HEAD too. Otherwise HEAD is answered in place with 200, as
	// docker.io and quay.io do.
	Head bool
	// DoubleSlash puts "//" into the path, as mcr.microsoft.com does.
	DoubleSlash bool
	// Lifetime of a URL; zero is 20 minutes. See [Registry.ExpireRedirects].
	Lifetime time.Duration
	// Loop leads from one redirect to the next, without end.
	Loop bool
	// Manifests redirects manifests and tags with 307 as well, below
	// /v2/k8s-artifacts-prod/images/ of the target, dropping the query string,
	// as registry.k8s.io does.
	Manifests bool

	// RejectAuthorization makes the target answer 400 to a request that carries
	// Authorization, as S3 and R2 do: the signature is one mechanism already.
	RejectAuthorization bool
	// RejectHead makes the target answer 403 to HEAD: the signature is for GET.
	RejectHead bool
	// RejectMultiRange makes the target answer 400 to several ranges.
	RejectMultiRange bool
}

// Missing is what a repository, manifest or blob that does not exist gets.
type Missing int

// The forms.
const (
	MissingSpec         Missing = iota // 404 with the specification's JSON
	MissingUnauthorized                // 401 for a repository that does not exist, token or not, as quay.io and docker.io
	MissingDenied                      // 403 DENIED for such a repository, as gitlab.com
	MissingXML                         // 404 with Azure's XML, as mcr.microsoft.com
	MissingText                        // 404 text/plain
	MissingEmpty                       // 404 without a body
)

// RateLimit counts GETs of manifests, as docker.io does; HEAD is free.
type RateLimit struct {
	// Pulls is how many are allowed; zero is any number, and no headers.
	Pulls int
	// Window is told in the headers, and is when the count starts anew; zero is
	// six hours.
	Window time.Duration
	// Form of the 429.
	Form TooManyForm
	// RetryAfter of the 429; zero leaves the header out.
	RetryAfter time.Duration
	// Untold leaves out the headers that tell the limit and what remains.
	Untold bool
	// Heads counts and limits HEAD as well.
	Heads bool
}

// TooManyForm is a shape of 429.
type TooManyForm int

// The forms.
const (
	TooManyHub  TooManyForm = iota // TOOMANYREQUESTS as docker.io words it
	TooManyGHCR                    // "retry-after: 43.988µs, allowed: 44000/minute"
	TooManyBare                    // neither body nor header
	TooManyECR                     // "Rate exceeded", as public.ecr.aws
)

// ManifestForm is how manifests are answered.
type ManifestForm struct {
	// Schema1 converts an image to Docker's schema 1, with another digest, when
	// Accept does not name its exact media type; "*/*" is not enough. quay.io
	// does so.
	Schema1 bool
	// NoDigestOnHead leaves Docker-Content-Digest out of HEAD, NoDigest out of
	// all.
	NoDigestOnHead, NoDigest bool
	// WrongDigest puts the digest of other content into the header.
	WrongDigest bool
	// NoETag leaves ETag out, as quay.io does.
	NoETag bool
	// ContentType replaces the type; ContentTypeSuffix is appended to it, such
	// as "; charset=utf-8"; NoContentType leaves it out.
	ContentType       string
	ContentTypeSuffix string
	NoContentType     bool
	// Chunked leaves out the Content-Length.
	Chunked bool
	// PadTo makes the body at least so many bytes by spaces at its end, which
	// its digest does not cover.
	PadTo int64
	// CacheControl is the header's value; empty leaves it out.
	CacheControl string
}

// BlobForm is how blobs are answered, here and at the CDN.
type BlobForm struct {
	// NoAcceptRanges leaves Accept-Ranges out; IgnoreRange also answers 200
	// with everything to a Range request.
	NoAcceptRanges, IgnoreRange bool
	// RejectMultiRange answers 400 to several ranges; otherwise everything is
	// sent with 200.
	RejectMultiRange bool
	// Chunked leaves out the Content-Length.
	Chunked bool
	// NoDigest leaves Docker-Content-Digest out, which the CDN never sends;
	// NoETag the ETag.
	NoDigest, NoETag bool
	// CacheControl is the header's value, such as the "private" that the CDN of
	// registry.gitlab.com sends; empty leaves it out.
	CacheControl string
}

// TagsForm is how tags are listed.
type TagsForm struct {
	// Page is the most tags a page holds, whatever n asks for; zero is as many
	// as asked for. quay.io has 100.
	Page int
	// Unsorted lists the oldest first, as ghcr.io does; then last continues
	// after the tag it names.
	Unsorted bool
	// Extra adds the fields manifest and child, as gcr.io does.
	Extra bool
	// AbsoluteLink writes a whole URL into Link instead of a path.
	AbsoluteLink bool
}

// Pace slows everything that is not broken: every answer by its latency, the
// bodies of manifests and blobs by their rate.
type Pace struct {
	// Latency passes before each answer, on every kind of request.
	Latency time.Duration
	// BytesPerSecond bounds the body of each response: HTTP/1.1 has one at a
	// time on a connection. Zero is unbounded.
	BytesPerSecond int64
	// TotalBytesPerSecond bounds all such bodies of all sites together.
	TotalBytesPerSecond int64
}

// state is a Behavior with what it has done so far.
type state struct {
	Behavior
	faults []faultUse // parallel to Faults
	total  pacer
	pulls  pulls
}

type faultUse struct{ seen atomic.Int64 }

// pulls counts for RateLimit.
type pulls struct {
	mu    sync.Mutex
	used  int
	until time.Time // when the count starts anew
}

// SetBehavior changes how requests are answered from now on; responses that are
// running go on as they began. Counts of the earlier Behavior (uses of faults,
// rate limits) are forgotten. Tokens and redirect URLs stay valid.
func (r *Registry) SetBehavior(b Behavior) {
	r.state.Store(&state{Behavior: b, faults: make([]faultUse, len(b.Faults))})
}

// Behavior returns the one in force.
func (r *Registry) Behavior() Behavior { return r.state.Load().Behavior }

// ExpireTokens makes all tokens issued until now invalid.
func (r *Registry) ExpireTokens() { r.tokenEpoch.Add(1) }

// ExpireRedirects makes all redirect URLs given out until now answer 403.
func (r *Registry) ExpireRedirects() { r.urlEpoch.Add(1) }

// pacer spaces bytes in time. The zero value is ready to use.
type pacer struct {
	mu   sync.Mutex
	next time.Time
}

// slack is what a pacer may catch up after a late timer.
const slack = 20 * time.Millisecond

// reserve returns how long to wait until n more bytes have passed at rate.
func (p *pacer) reserve(n int, rate int64) time.Duration {
	if rate <= 0 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if earliest := now.Add(-slack); p.next.IsZero() {
		p.next = now
	} else if p.next.Before(earliest) {
		p.next = earliest
	}
	p.next = p.next.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	return p.next.Sub(now)
}
