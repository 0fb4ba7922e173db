package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"sampan/internal/client"
	"sampan/internal/oci"
	"sampan/internal/proof"
	"sampan/internal/runtimes"
)

// askForProof asks the mirror for the image that only mirrors have, before anything is
// changed: a mirror that does not answer now would not answer the runtime.
func askForProof(ctx context.Context, m *client.Mirror) error {
	const patience = 15 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	address := m.URL() + "/v2/" + proof.Path + "/manifests/" + proof.Nonce().String() + "?ns=" + oci.DockerHub.String()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, address, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", oci.MediaTypeImageIndex)
	if m.Username != "" {
		req.SetBasicAuth(m.Username, m.Password)
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	if m.CA != nil {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		pool.AppendCertsFromPEM(m.CA)
		transport.TLSClientConfig.RootCAs = pool
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if failure := (*url.Error)(nil); errors.As(err, &failure) {
		return fmt.Errorf(text("the mirror %s does not answer: %w", "镜像站 %s 没有应答：%w"), m.Address, failure.Err)
	} else if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<10)) // a HEAD has none
	switch digest := resp.Header.Get("Docker-Content-Digest"); {
	case resp.StatusCode == http.StatusOK && digest == proof.Digest().String():
		return nil
	case resp.StatusCode == http.StatusUnauthorized && m.Username == "" && m.Code == "":
		return fmt.Errorf(text("the mirror %s wants to know who you are: --username with --password-file, or --code-file", "镜像站 %s 需要身份：请使用 --username 和 --password-file，或 --code-file"), m.Address)
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return fmt.Errorf(text("the mirror %s does not let you in: %s", "镜像站 %s 拒绝访问：%s"), m.Address, resp.Status)
	default:
		return fmt.Errorf(text("%s answers (%s), and is no sampan that can prove itself", "%s 有应答（%s），但不是能够自证的 sampan"), m.Address, resp.Status)
	}
}

// comingUp is how long a runtime may take after it was restarted.
const comingUp = 30 * time.Second

// prove has the runtime pull, and tells who answered. One that was restarted just now
// gets time to come up.
func (s *setup) prove(ctx context.Context, plan *runtimes.Plan, restarted bool) error {
	if restarted {
		plan.Proof.Await(ctx, s.machine)
	}
	err := s.pullAll(ctx, plan.Proof)
	if restarted {
		err = s.pullUntil(ctx, plan.Proof, err)
	}
	if err == nil || errors.Is(err, runtimes.ErrNoClient) || ctx.Err() != nil {
		return noClient(err)
	}
	// Where nothing changed, it may never have read what is there.
	if again := plan.After; !restarted && len(again) > 0 {
		if waiting, stepErr := s.takeSteps(ctx, again); stepErr != nil {
			return stepErr
		} else if !waiting {
			plan.Proof.Await(ctx, s.machine)
			err = s.pullUntil(ctx, plan.Proof, err)
		}
	}
	if err == nil {
		return nil
	}
	return s.blame(ctx, plan.Proof, err)
}

// pullUntil pulls once more after an error, until there is none or the time is over.
func (s *setup) pullUntil(ctx context.Context, p *runtimes.Proof, err error) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for end := time.Now().Add(comingUp); err != nil && !errors.Is(err, runtimes.ErrNoClient) && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
			err = s.pullAll(ctx, p)
		}
	}
	return err
}

// pullAll pulls the image that only mirrors have from each registry, by a name that
// nobody used before.
func (s *setup) pullAll(ctx context.Context, p *runtimes.Proof) error {
	registries := p.Registries
	if registries == nil {
		ref, err := oci.ParseReference(p.Image)
		if err != nil {
			return err
		}
		registries = []oci.Registry{ref.Repository.Registry()}
	}
	for _, registry := range registries {
		ref, err := proof.Reference(registry, proof.Nonce())
		if err != nil {
			return err
		}
		if err := p.Fetch(ctx, s.machine, ref.String()); err != nil {
			return &unproven{registry.String(), err}
		}
		s.sayf(text("Proven: the mirror answered for %s.", "已验证：%s 由镜像站应答。"), registry)
		if err := p.Discard(ctx, s.machine, ref.String()); err != nil {
			s.sayf(text("The image %s stays: %v", "镜像 %s 没有删除：%v"), ref, err)
		}
	}
	return nil
}

// unproven: the runtime did not get what only mirrors have.
type unproven struct {
	registry string
	err      error
}

func (u *unproven) Error() string {
	return fmt.Sprintf(text("the runtime did not get the proof for %s from the mirror: %v", "运行时没有从镜像站得到 %s 的验证镜像：%v"), u.registry, u.err)
}

func (u *unproven) Unwrap() error { return u.err }

// noClient says what is missing to prove anything.
func noClient(err error) error {
	if errors.Is(err, runtimes.ErrNoClient) {
		return errors.New(text("not proven: no command that pulls with this runtime is here; pull something, or say --no-prove", "未验证：本机没有能用此运行时拉取的命令；请自行拉取，或使用 --no-prove"))
	}
	return err
}

// blame finds out who answers, where the mirror was not asked.
func (s *setup) blame(ctx context.Context, p *runtimes.Proof, err error) error {
	if s.noFallback {
		return fmt.Errorf(text("not proven: %w", "未验证：%w"), err)
	}
	if p.Fetch(ctx, s.machine, p.Image) != nil {
		return fmt.Errorf(text("not proven, and neither the mirror nor the registry answers the runtime: %w", "未验证，镜像站和原仓库都没有应答：%w"), err)
	}
	return fmt.Errorf(text("not proven: the registry itself answered for %s, and not the mirror: %w", "未验证：%s 由原仓库而不是镜像站应答：%w"), p.Image, err)
}
