package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"sampan/internal/registrytest"
)

// secure measures what comes of a stored blob over TLS 1.3, with one certificate for
// both servers.
func (b *bench) secure() (string, error) {
	const size = 64 << 20
	cert, key, err := b.certificate()
	if err != nil {
		return "", err
	}
	up, err := registrytest.Start(registrytest.Options{CountsOnly: true})
	if err != nil {
		return "", err
	}
	defer up.Close() //nolint:errcheck // always nil
	image := up.AddImage(repository, "latest", registrytest.ImageSpec{Layers: []int64{size, 4 << 10}, Seed: 1})
	layers := image.Layers[0]
	config := filepath.Join(b.work, "tls.yaml")
	text := fmt.Sprintf("tls: {certificates: [{cert: %s, key: %s}]}\n", cert, key)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return "", err
	}
	p, err := b.sampan("sampan", up.URL(), "SAMPAN_CONFIG="+config)
	if err != nil {
		return "", err
	}
	defer p.stop()
	base := "/v2/" + registryName + "/" + repository + "/blobs/"
	sampan := contender{process: p, blob: base + layers[0].Digest.String(), small: base + layers[1].Digest.String()}
	www, err := b.directory("www-tls")
	if err != nil {
		return "", err
	}
	for i, path := range []string{sampan.blob, sampan.small} {
		if r, err := b.load(p.addr, "-tls", path); err != nil || r.Requests != 1 {
			return "", fmt.Errorf("%+v: %w", r, err)
		}
		hex := layers[i].Digest.Hex()
		file := filepath.Join(b.work, "sampan-data", "blobs", "sha256", hex[:2], hex)
		if err := waitFor(file); err != nil {
			return "", err
		}
		if err := os.Link(file, filepath.Join(www, []string{"blob", "small"}[i])); err != nil {
			return "", err
		}
	}
	addr, err := freeAddr()
	if err != nil {
		return "", err
	}
	n, err := b.nginx("nginx-tls", addr, fmt.Sprintf(
		"server { listen %s ssl; ssl_certificate %s; ssl_certificate_key %s; ssl_protocols TLSv1.3; root %s; }", addr, cert, key, www))
	if err != nil {
		return "", err
	}
	defer n.stop()
	nginx := contender{process: n, blob: "/blob", small: "/small"}
	return b.race(sampan, nginx)
}

// race has the two serve the same, in turn, and compares what came in a second.
func (b *bench) race(sampan, nginx contender) (string, error) {
	t := table{head: []string{"request", "connections", "sampan", "nginx", "CPU s/GiB: sampan", "nginx", "× nginx", "spread", "target", "kept"}}
	for _, c := range []struct {
		label           string
		small           bool
		conns, requests int
	}{
		{"blob of 64 MiB", false, 1, 16},
		{"blob of 64 MiB", false, 8, 32},
		{"blob of 64 MiB", false, 64, 64},
		{"blob of 4 KiB", true, 8, 20000},
	} {
		rates, cpus := make([][]float64, 2), make([][]float64, 2)
		for range b.rounds {
			for _, i := range mathrand.Perm(2) {
				who := []contender{sampan, nginx}[i]
				path := who.blob
				if c.small {
					path = who.small
				}
				d, r, err := b.cost(who.process, "-tls", "-conns", strconv.Itoa(c.conns), "-requests", strconv.Itoa(c.requests), path)
				if err == nil {
					err = r.clean()
				}
				if err != nil {
					return "", err
				}
				rates[i] = append(rates[i], float64(r.Bytes)/r.Seconds/(1<<20))
				cpus[i] = append(cpus[i], perGiB(d, r.Bytes))
			}
		}
		rs := ratios(rates[0], rates[1])
		m := median(rs)
		kept := "yes"
		if m < 0.8 {
			kept = "**no**"
		}
		t.add(c.label, strconv.Itoa(c.conns), fmt.Sprintf("%.0f MiB/s", median(rates[0])), fmt.Sprintf("%.0f MiB/s", median(rates[1])),
			fmt.Sprintf("%.2f", median(cpus[0])), fmt.Sprintf("%.2f", median(cpus[1])), fmt.Sprintf("%.2f", m), spread(rs), "≥ 0.8", kept)
	}
	return "Bytes per second of stored blobs over TLS 1.3 and HTTP/1.1, one ECDSA certificate, client and server on the same processors:\n\n" + t.String(), nil
}

// certificate makes one that nobody trusts.
func (b *bench) certificate() (cert, key string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"bench.test"}, NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return "", "", err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", err
	}
	cert, key = filepath.Join(b.work, "tls.crt"), filepath.Join(b.work, "tls.key")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			return "", "", err
		}
	}
	return cert, key, nil
}
