// Package credential is where an upstream's credentials come from, beside the
// configuration itself: files, Docker's config.json, and credential helpers. Each
// is an [upstream.Credentials].
//
// It promises that a file is read again within seconds after it changed, and at
// once when the registry refuses what it said; that a file which cannot be read
// or understood any more leaves what it said before in force, and is told in the
// log once; that a helper runs once for all who wait for it, for a bounded time
// and with a bounded output, and that its answer is kept for minutes unless the
// registry refuses it. No secret is in a log line or an error.
//
// It knows no repositories and decides nothing: which account is for what, and
// which endpoints learn of it, is decided before it is asked.
//
// Lock order: every lock in this package is a leaf.
package credential

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"

	"sampan/internal/follow"
	"sampan/internal/oci"
	"sampan/internal/upstream"
)

// PasswordFile is a user whose password is the content of a file, without the
// newline at its end. now is what it said when the configuration was read.
func PasswordFile(username, path, now string, log *slog.Logger) upstream.Credentials {
	return secretFile(path, now, log, func(secret string) upstream.Credential {
		return upstream.Credential{Username: username, Password: secret}
	})
}

// TokenFile is a bearer token that is the content of a file, likewise.
func TokenFile(path, now string, log *slog.Logger) upstream.Credentials {
	return secretFile(path, now, log, func(secret string) upstream.Credential {
		return upstream.Credential{Token: secret}
	})
}

func secretFile(path, now string, log *slog.Logger, use func(string) upstream.Credential) upstream.Credentials {
	f := follow.Secret(path, now, log)
	return func(ctx context.Context, _ *url.URL) (upstream.Credential, error) {
		secret, err := f.Get(upstream.Refused(ctx))
		if err != nil {
			return upstream.Credential{}, fmt.Errorf("credentials: %w", err)
		}
		return use(secret), nil
	}
}

// dockerHub is the name under which Docker keeps the credentials of docker.io.
const dockerHub = "https://index.docker.io/v1/"

// serverOf names a registry as Docker's tools do: Docker Hub by its old address,
// others by the host of the endpoint.
func serverOf(registry oci.Registry, endpoint *url.URL) string {
	if registry == oci.DockerHub {
		return dockerHub
	}
	return endpoint.Host
}
