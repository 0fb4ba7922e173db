package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// Challenges by which an authority is shown that a name is ours.
const (
	ChallengeTLS  = "tls-alpn" // at port 443 of the name, by this process
	ChallengeHTTP = "http"     // at port 80 of the name, by this process
	ChallengeDNS  = "dns"      // by a record that a program sets; the only one for wildcards
)

// ACMEOptions configure an [ACME]. Dir, Domains and Log are needed.
type ACMEOptions struct {
	// Dir keeps the account, keys and certificates.
	Dir string
	// Domains are the names to get certificates for; "*.example.com" needs
	// ChallengeDNS.
	Domains []string
	// Email is where the authority writes to; empty for nowhere.
	Email string
	// Directory is the URL of the authority's directory; empty means that of
	// Let's Encrypt.
	Directory string
	// CAFile holds further roots, in PEM, to trust when speaking to the authority;
	// empty for none.
	CAFile string
	// Challenge is one of the three; empty means ChallengeTLS and ChallengeHTTP,
	// whichever the authority reaches.
	Challenge string
	// Hook is the program of ChallengeDNS: it is run as "Hook present NAME VALUE",
	// has to have the TXT record NAME with VALUE in the DNS when it ends with 0, and
	// as "Hook cleanup NAME VALUE" to remove it.
	Hook string
	// TLSPort and HTTPPort are where this process listens for the challenges; 0
	// means 443 and 80. What the authority asks at 443 and 80 has to arrive there.
	TLSPort, HTTPPort int
	Log               *slog.Logger
}

// An ACME gets certificates from an authority (RFC 8555) and renews them in time.
// While it has none for a name, handshakes for it fail; what was got is kept over
// restarts.
type ACME struct {
	o      ACMEOptions
	cache  *certmagic.Cache
	config *certmagic.Config
	issuer *certmagic.ACMEIssuer
}

// NewACME makes an ACME, to be closed. It asks nobody before Run.
func NewACME(o ACMEOptions) (*ACME, error) {
	if o.Dir == "" || len(o.Domains) == 0 || o.Log == nil {
		return nil, errors.New("edge: ACME needs Dir, Domains and Log")
	}
	roots, err := rootsOf(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("edge: %w", err)
	}
	log := zap.New(slogCore{o.Log.Handler()})
	a := &ACME{o: o}
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return a.config, nil },
		Logger:           log,
	})
	a.config = certmagic.New(a.cache, certmagic.Config{
		Storage:            &certmagic.FileStorage{Path: o.Dir},
		FallbackServerName: o.Domains[0],
		DefaultServerName:  o.Domains[0],
		Logger:             log,
	})
	template := certmagic.ACMEIssuer{
		CA: o.Directory, Email: o.Email, Agreed: true, TrustedRoots: roots,
		DisableHTTPChallenge:    o.Challenge != "" && o.Challenge != ChallengeHTTP,
		DisableTLSALPNChallenge: o.Challenge != "" && o.Challenge != ChallengeTLS,
		AltHTTPPort:             o.HTTPPort, AltTLSALPNPort: o.TLSPort,
		Logger: log,
	}
	if template.CA == "" {
		template.CA = certmagic.LetsEncryptProductionCA
	}
	if o.Challenge == ChallengeDNS {
		template.DNS01Solver = hookSolver{program: o.Hook, log: o.Log}
	}
	a.issuer = certmagic.NewACMEIssuer(a.config, template)
	a.config.Issuers = []certmagic.Issuer{a.issuer}
	return a, nil
}

// rootsOf are the system's roots and those of a file; nil, which is the system's,
// without one.
func rootsOf(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return roots, nil
}

// Run gets what is missing and renews what will expire, until ctx is done. What an
// authority refuses is told to the log and tried again, ever more rarely.
func (a *ACME) Run(ctx context.Context) error {
	if err := a.config.ManageAsync(ctx, a.o.Domains); err != nil {
		return fmt.Errorf("certificates of %s: %w", a.o.Domains[0], err)
	}
	<-ctx.Done()
	return nil
}

// Close lets go of the certificates. It may be called once, after Run.
func (a *ACME) Close() { a.cache.Stop() }

// Get is for [tls.Config.GetCertificate]. It answers challenges, too.
func (a *ACME) Get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return a.config.GetCertificateWithContext(hello.Context(), hello)
}

// Challenged answers challenges by HTTP, and leaves everything else to h.
func (a *ACME) Challenged(h http.Handler) http.Handler { return a.issuer.HTTPChallengeHandler(h) }

// hookTimeout bounds one run of a hook.
const hookTimeout = 10 * time.Minute
