package edge

import (
	"crypto/tls"
	"slices"

	"github.com/mholt/acmez/v3"
)

// TLSConfig meets clients with TLS 1.2 or 1.3 and the certificates of get, over
// HTTP/2 where http2 allows it and they ask for it.
func TLSConfig(get func(*tls.ClientHelloInfo) (*tls.Certificate, error), http2 bool) *tls.Config {
	protocols := []string{"http/1.1"}
	if http2 {
		protocols = []string{"h2", "http/1.1"}
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, GetCertificate: get, NextProtos: protocols,
		// Small records at the beginning are for browsers, which show half a page.
		// They cost a system call for each kilobyte of the first 128 of a connection.
		DynamicRecordSizingDisabled: true,
	}
}

// Meet is [TLSConfig] for certificates of files, of an authority, or of both, in
// which case those of files come first. One of the two may be nil.
func Meet(files *Certificates, authority *ACME, http2 bool) *tls.Config {
	if authority == nil {
		return TLSConfig(files.Get, http2)
	}
	c := TLSConfig(func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if files != nil && !slices.Contains(hello.SupportedProtos, acmez.ACMETLS1Protocol) {
			if cert := files.find(hello); cert != nil {
				return cert, nil
			}
		}
		return authority.Get(hello)
	}, http2)
	c.NextProtos = append(c.NextProtos, acmez.ACMETLS1Protocol)
	return c
}
