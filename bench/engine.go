package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// An engine is what sampan's fill engine told about itself during a run.
type engine struct {
	lines    int   // the most upstream connections of one fetch at a moment
	received int64 // bytes from upstream
	retries  int64 // attempts after one that broke
}

// inspect asks for a page of sampan's admin listener.
func (p *process) inspect(path string) ([]byte, error) {
	client := http.Client{Transport: &http.Transport{DialContext: p.place.dial, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+p.admin+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, resp.Status)
	}
	return raw, err
}

// metric returns the value of a metric that has no labels.
func (p *process) metric(name string) (int64, error) {
	raw, err := p.inspect("/metrics")
	if err != nil {
		return 0, err
	}
	_, rest, found := bytes.Cut(raw, []byte("\n"+name+" "))
	if !found {
		return 0, fmt.Errorf("%s has no metric %s", p.name, name)
	}
	value, _, _ := strings.Cut(string(rest), "\n")
	f, err := strconv.ParseFloat(value, 64)
	return int64(f), err
}

// watch looks at the running fetches of sampan, ten times a second, until the
// function that it returns is called.
func (p *process) watch() (end func() (engine, error)) {
	var e engine
	var failed error
	stop := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			var list struct{ Fills []struct{ Lines int } }
			raw, err := p.inspect("/api/v1/fills")
			if err == nil {
				err = json.Unmarshal(raw, &list)
			}
			if err != nil {
				failed = err
				continue
			}
			for _, f := range list.Fills {
				e.lines = max(e.lines, f.Lines)
			}
		}
	})
	return func() (engine, error) {
		close(stop)
		watching.Wait()
		var err error
		if failed != nil {
			return e, failed
		}
		if e.received, err = p.metric("sampan_fill_upstream_bytes_total"); err != nil {
			return e, err
		}
		e.retries, err = p.metric("sampan_fill_retries_total")
		return e, err
	}
}
