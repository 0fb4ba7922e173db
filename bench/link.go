package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
)

// roundTrip is the time that the usual emulated link takes there and back.
const roundTrip = 20 * time.Millisecond

// link measures the time to the first byte of what is not there, over a link of
// 20 ms, beside a client that pulls directly over the same link.
func (b *bench) link() (string, error) {
	t := table{head: []string{"upstream", "question", "direct", "through sampan", "ratio", "spread", "target", "kept"}}
	hub := registrytest.DockerHub()
	hub.Redirect.Target = registrytest.TargetCDN // at the far end of the link, too
	for _, u := range []struct {
		name     string
		behavior registrytest.Behavior
	}{
		{"anonymous, no redirects", registrytest.Behavior{}},
		{"as docker.io", hub},
	} {
		if err := b.linkTo(&t, u.name, u.behavior); err != nil {
			return "", err
		}
	}
	return "Time to the first byte of the body over a link of 20 ms there and back, connections included. Each round is a new, empty mirror and a new direct client:\n\n" + t.String(), nil
}

func (b *bench) linkTo(t *table, name string, behavior registrytest.Behavior) error {
	up, err := registrytest.Start(registrytest.Options{Hostname: farAway, Behavior: behavior})
	if err != nil {
		return err
	}
	defer func() { _ = up.Close() }() // it has nothing to lose
	end, err := road(roundTrip).to(up)
	if err != nil {
		return err
	}
	defer end()
	image := up.AddImage(repository, "latest", registrytest.ImageSpec{Layers: []int64{8 << 20, 8 << 20}, Seed: 3})
	questions := []struct{ name, below string }{
		{"manifest by tag, first contact", "/manifests/latest"},
		{"first blob", "/blobs/" + image.Layers[0][0].Digest.String()},
		{"second blob", "/blobs/" + image.Layers[0][1].Digest.String()},
	}
	direct, through := make([][]float64, len(questions)), make([][]float64, len(questions))
	for range 2 * b.rounds {
		p, err := b.sampan("sampan-link", up.URL())
		if err != nil {
			return err
		}
		near, far := newPuller(), newPuller()
		for i, q := range questions {
			d, err := far.first(up.URL() + "/v2/" + repository + q.below)
			if err != nil {
				return err
			}
			m, err := near.first("http://" + p.addr + "/v2/" + registryName + "/" + repository + q.below)
			if err != nil {
				return err
			}
			direct[i], through[i] = append(direct[i], d.Seconds()), append(through[i], m.Seconds())
		}
		near.client.CloseIdleConnections()
		far.client.CloseIdleConnections()
		p.stop()
	}
	for i, q := range questions {
		rs := ratios(through[i], direct[i])
		m := median(rs)
		t.add(name, q.name, milliseconds(median(direct[i])), milliseconds(median(through[i])), fmt.Sprintf("%.2f", m), spread(rs), "≤ 1.2", verdict(m, 1.2))
	}
	return nil
}

// A puller is a client that authenticates as registry clients do: a token for
// the challenge, kept.
type puller struct {
	client *http.Client
	token  string
}

func newPuller() *puller {
	return &puller{client: &http.Client{
		Transport: &http.Transport{DisableCompression: true},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) == 10 {
				return errors.New("ten redirects")
			}
			if req.URL.Host != via[0].URL.Host { // net/http looks at the name alone
				req.Header.Del("Authorization")
			}
			return nil
		},
	}}
}

// first returns the time to the first byte of a body, which it then reads to
// its end.
func (p *puller) first(url string) (time.Duration, error) {
	began := time.Now()
	resp, err := p.get(url)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode == http.StatusUnauthorized {
		_, err := io.Copy(io.Discard, resp.Body) // so that the connection serves again
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return 0, err
		}
		if err := p.authenticate(resp.Header.Get("WWW-Authenticate")); err != nil {
			return 0, err
		}
		if resp, err = p.get(url); err != nil {
			return 0, err
		}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %s", url, resp.Status)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
		return 0, err
	}
	took := time.Since(began)
	_, err = io.Copy(io.Discard, resp.Body)
	return took, err
}

func (p *puller) get(url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", oci.MediaTypeImageManifest)
	if p.token != "" {
		req.Header.Set("Authorization", "Bearer "+p.token)
	}
	return p.client.Do(req)
}

// authenticate gets a token for a challenge of the simulated upstream, which
// quotes its parameters.
func (p *puller) authenticate(challenge string) error {
	values := url.Values{}
	var realm string
	for part := range strings.SplitSeq(strings.TrimPrefix(challenge, "Bearer "), ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		value = strings.Trim(value, `"`)
		if key == "realm" {
			realm = value
			continue
		}
		values.Set(key, value)
	}
	resp, err := p.get(realm + "?" + values.Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct{ Token string }
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	p.token = ""
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&answer); err != nil {
		return err
	}
	p.token = answer.Token
	return nil
}
