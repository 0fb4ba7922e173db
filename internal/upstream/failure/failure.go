// Package failure is what can go wrong with a registry, as facts: who failed, how, and what
// was said. Rooms that meet a failure put one into their error; commands tell of it in the
// language of a person.
//
// It promises that [Facts] say all that the message of its error does, and that the
// sentence they make is safe to send. The package does not decide what a failure means for a client:
// that is the code of the [oci.Error].
package failure

import (
	"fmt"
	"time"

	"sampan/internal/oci"
)

// Facts are what an error is about. They are the Err of most [oci.Error] that upstream
// gives, see [Of], and an error of their own where a blob breaks off.
type Facts struct {
	Kind     Kind
	Registry oci.Registry
	// Host is who failed or is spoken of, an endpoint or where one led; empty where that
	// is not told.
	Host string
	// Proxy tells that Kind is what befell the proxy on the way to the registry.
	Proxy bool
	// Repository is the path of the one that was asked for; empty where it is not told.
	Repository string
	// Status is that of an answer; 0 where it is not told.
	Status int
	// Said are the registry's own words, clean and short; empty for none.
	Said string
	// What continues, for Unusable, a sentence that begins with the registry's name; for
	// LoginUnknown it is the ways.
	What string
	// Last is, for LeftAlone, what failed before, nil where that is not known; Again is
	// when the registry is asked again, from the moment on when the error was made.
	Last  *Facts
	Again time.Duration

	Err error // the cause, for the log; nil for none
}

// A Kind is what happened.
type Kind int

// The kinds. What is "told" is in the field of that name.
const (
	Unusable Kind = iota // it did, or sent, what no question can be answered with: What

	NotThere       // it does not have what was asked for: Said
	Hidden         // it does not show Repository to strangers
	HiddenFromUser // it does not show Repository to the configured credentials
	Forbidden      // it denies access: Said
	ForbiddenUser  // it denies access to the configured credentials
	LoginNeeded    // it asks for credentials, and there are none
	LoginRefused   // it refuses the credentials
	LoginUnread    // the credentials cannot be read on this side
	LoginUnknown   // it asks for credentials in ways that are not spoken here: What
	LoginElsewhere // it asks for a token at Host, which is not told the credentials

	Limited      // it limits the rate of requests: Said
	TokenLimited // its token endpoint does: Said
	BadStatus    // it answered with Status: Said
	TokenStatus  // its token endpoint answered with Status
	Unsupported  // it does not support the request: Said
	Rejected     // it refuses the request: Said
	NotTaken     // it refuses with Status what was sent: Said
	ReadOnly     // it does not let this account write to Repository: Said
	ReadOnlyAnon // it does not let a stranger write to Repository: Said
	OldManifest  // it has a manifest only in Docker's schema 1

	Unreachable       // it cannot be reached, for no reason that is told
	NoSuchName        // its name does not exist in the DNS
	NameUnresolved    // its name cannot be resolved
	DNSSilent         // none of the configured DNS servers answers
	CertUntrusted     // its TLS certificate is not trusted
	NoTLS             // it does not speak TLS
	ConnectionRefused // it refuses the connection
	Silent            // it did not answer in time
	BrokenOff         // it broke off the connection
	ProxyLogin        // the proxy on the way asks for other credentials
	ProxyStatus       // the proxy on the way refuses with Status
	ProxySOCKS        // the SOCKS proxy on the way does not connect
	PrivateAddress    // it leads to the private address of Host
	NoAddress         // it leads to something that is no address
	PlainAddress      // it leads from https to plain http
	Circle            // it redirects too many times
	StorageRefused    // it leads to a storage, Host, that refuses the request
	LeftAlone         // it is not asked now: Last, Again
)

// Of returns what e itself is about, and not what it was caused by; nil where that
// is not known. e may be nil.
func Of(e *oci.Error) *Facts {
	if e == nil {
		return nil
	}
	f, _ := e.Err.(*Facts) //nolint:errorlint // what is behind it is another error's
	return f
}

// Error returns the cause, for the log; it is empty where there is none.
func (f *Facts) Error() string {
	if f.Err == nil {
		return ""
	}
	return f.Err.Error()
}

// Unwrap returns the cause.
func (f *Facts) Unwrap() error { return f.Err }

// Answered tells whether somebody was there and said something, however useless; it is what
// a question that is worth asking again has, and a host that was mistyped has not.
func (f *Facts) Answered() bool {
	if f.Kind == LeftAlone {
		return f.Last != nil && f.Last.Answered()
	}
	return f.answer() != "" && f.Kind != LoginUnread || f.Kind == StorageRefused
}

// Sentence says it in English, in words that are safe to send.
func (f *Facts) Sentence() string {
	name := f.Registry.String()
	switch f.Kind {
	case LoginUnread:
		return "the credentials for " + name + " cannot be read"
	case LeftAlone:
		last := name + " cannot be reached"
		if f.Last != nil {
			last = f.Last.Sentence()
		}
		return fmt.Sprintf("%s; it is asked again in %s", last, f.Again)
	}
	if what := f.answer(); what != "" {
		if f.Said != "" {
			what += ": " + f.Said
		}
		return name + " " + what
	}
	s := name + " " + f.silence()
	if f.Host != "" {
		s += " (" + f.Host + ")"
	}
	return s
}

// answer continues the sentence where somebody has answered; it is empty otherwise.
func (f *Facts) answer() string {
	switch f.Kind {
	case Unusable:
		return f.What
	case NotThere:
		return "does not have it"
	case Hidden:
		return "does not show " + f.repository() + " without credentials: it does not exist or is private"
	case HiddenFromUser:
		return "does not show " + f.repository() + " to the configured credentials"
	case Forbidden:
		return "denies access"
	case ForbiddenUser:
		return "denies access to " + f.repository() + " with the configured credentials"
	case LoginNeeded:
		return "asks for credentials and none are configured for it"
	case LoginRefused:
		return "refuses the credentials that are configured for it"
	case LoginUnknown:
		return "asks for authentication of a kind that sampan does not know (" + f.What + ")"
	case LoginElsewhere:
		return "asks for a token at " + f.Host + ", to which its credentials are not sent unless the host is configured as a token realm"
	case PrivateAddress:
		return "leads to the private address of " + f.Host + ", which is refused unless an endpoint that is configured for it is private itself or egress.redirects allows it"
	case NoAddress:
		return "leads to something that is not an address"
	case PlainAddress:
		return "leads from https to plain http, which is refused"
	case Circle:
		return "redirects in a circle"
	case OldManifest:
		return "has the manifest only in Docker's schema 1, which sampan does not carry"
	case Limited:
		return "limits the rate of requests"
	case TokenLimited:
		return "limits the rate of requests for tokens"
	case BadStatus:
		return fmt.Sprintf("answered with status %d", f.Status)
	case TokenStatus:
		return fmt.Sprintf("has a token endpoint that answered with status %d", f.Status)
	case Unsupported:
		return "does not support the request"
	case Rejected:
		return "refuses the request"
	case NotTaken:
		return fmt.Sprintf("refuses it with status %d", f.Status)
	case ReadOnly:
		return "does not let this account write to " + f.repository()
	case ReadOnlyAnon:
		return "does not let a stranger write to " + f.repository()
	default:
		return ""
	}
}

// silence continues the sentence where nobody has.
func (f *Facts) silence() string {
	const unreachable = "cannot be reached"
	switch why, full := f.reason(); {
	case f.Proxy && why == "":
		return unreachable + ": the proxy on the way does not answer: " + unreachable
	case f.Proxy:
		return unreachable + ": the proxy on the way does not answer: " + why
	case why == "":
		return unreachable
	case full:
		return why
	default:
		return unreachable + ": " + why
	}
}

// reason tells why a connection failed, and whether that says it all; it is empty where it
// is not known.
func (f *Facts) reason() (why string, full bool) {
	switch f.Kind {
	case Silent:
		return "did not answer in time", true
	case BrokenOff:
		return "broke off the connection", true
	case StorageRefused:
		return "redirects to a storage that refuses the request", true
	case NoSuchName:
		return "its name does not exist in the DNS", false
	case NameUnresolved:
		return "its name cannot be resolved", false
	case DNSSilent:
		return "none of the configured DNS servers answers", false
	case CertUntrusted:
		return "its TLS certificate is not trusted", false
	case NoTLS:
		return "it does not speak TLS; an http:// endpoint means plain HTTP", false
	case ConnectionRefused:
		return "connection refused", false
	case ProxyLogin:
		return "the proxy on the way asks for other credentials", false
	case ProxyStatus:
		return fmt.Sprintf("the proxy on the way refuses with status %d", f.Status), false
	case ProxySOCKS:
		return "the SOCKS proxy on the way does not connect", false
	default:
		return "", false
	}
}

func (f *Facts) repository() string {
	if f.Repository == "" {
		return "the repository"
	}
	return f.Repository
}
