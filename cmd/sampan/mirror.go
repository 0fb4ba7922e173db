package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"sampan/internal/config"
)

// mirrorOptions say which running mirror is meant.
type mirrorOptions struct {
	config, admin, tokenFile string
	// flag is how admin was said; empty is --admin.
	flag string
}

func (o *mirrorOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.config, "config", "", text("configuration `FILE`", "配置文件 `FILE`"))
	f.StringVar(&o.admin, "admin", "", text("`URL` of the mirror's admin listener (default as configured, http://127.0.0.1:5001)", "镜像站管理地址 `URL`（默认取自配置，http://127.0.0.1:5001）"))
	f.StringVar(&o.tokenFile, "admin-token-file", "", text("`FILE` with the token of the admin listener (default as configured)", "管理地址令牌的文件 `FILE`（默认取自配置）"))
}

// A runningMirror is asked by its admin listener.
type runningMirror struct{ base, token string }

// open finds the mirror.
func (o mirrorOptions) open() (*runningMirror, error) {
	m := &runningMirror{}
	if o.admin != "" {
		u, err := url.Parse(o.admin)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, usagef(text("%s is a URL such as http://127.0.0.1:5001, not %q", "%s 应为 URL，例如 http://127.0.0.1:5001，而不是 %q"), cmp.Or(o.flag, "--admin"), o.admin)
		}
		m.base = strings.TrimRight(o.admin, "/")
	}
	if o.tokenFile != "" {
		token, err := os.ReadFile(o.tokenFile)
		if err != nil {
			return nil, &usageError{err}
		}
		m.token = strings.TrimSpace(string(token))
	}
	if m.base != "" {
		return m, nil
	}
	c, err := config.Load(config.Source{Environ: os.Environ(), Flags: config.Flags{Config: o.config}, Bystander: true})
	if err != nil {
		return nil, &usageError{err}
	}
	if m.token == "" {
		m.token = c.Admin.Token.Reveal()
	}
	host, port, err := net.SplitHostPort(c.Admin.Listen)
	if err != nil {
		return nil, usagef("%s", text("the admin listener is off: name that of the running mirror with --admin", "管理地址已关闭：请用 --admin 指定正在运行的镜像站的管理地址"))
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	m.base = "http://" + net.JoinHostPort(host, port)
	return m, nil
}

const (
	// adminTimeout bounds a question to the mirror, and maxAnswer its answer in
	// bytes.
	adminTimeout = 10 * time.Minute
	maxAnswer    = 32 << 20
)

// ask gets a JSON document from the admin listener, past any proxy. A body is sent as
// JSON; nil is none.
func (m *runningMirror) ask(ctx context.Context, method, path string, body any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		sent = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, m.base+path, sent)
	if err != nil {
		return nil, err
	}
	if m.token != "" {
		req.Header.Set("Authorization", "Bearer "+m.token)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, unreachable(req.URL.Host, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", req.URL.Host, err)
	case resp.StatusCode == http.StatusBadRequest:
		return nil, usagef("%s", strings.TrimSpace(string(answer)))
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s: %s: %.300s", req.URL.Host, resp.Status, strings.TrimSpace(string(answer)))
	}
	return answer, nil
}

// unreachable says that a mirror cannot be asked, and why.
func unreachable(host string, err error) error {
	var failure *url.Error
	if errors.As(err, &failure) {
		err = failure.Err // the address is told here, without its query
	}
	return fmt.Errorf("%s: %w\n%s", host, err, text(
		"Is the mirror running, and is this its admin listener? Name another with --admin.",
		"镜像站是否在运行？这是它的管理地址吗？可用 --admin 指定其他地址。"))
}
