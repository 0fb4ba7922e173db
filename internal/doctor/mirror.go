package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"sampan/internal/proof"
	"sampan/internal/runtimes"
)

const (
	agent      = "sampan-doctor"    // how it calls itself
	maxAnswer  = 64 << 10           // bytes of an answer that are read
	soonOver   = 7 * 24 * time.Hour // an issuer renews earlier
	skewTold   = 2 * time.Minute
	skewBreaks = 10 * time.Minute // tokens are over by then
)

// mirror asks the mirror what a runtime would, step by step, until one fails.
func (x *examination) mirror(ctx context.Context) {
	m := x.o.Mirror
	host, port, err := net.SplitHostPort(m.Host)
	if err != nil {
		host, port = m.Host, "443"
		if m.PlainHTTP {
			port = "80"
		}
	}
	host = strings.Trim(host, "[]")
	if !x.resolve(ctx, host) {
		return
	}
	if !x.connect(ctx, host, port) {
		return
	}
	if !m.PlainHTTP && !x.certificate(ctx, host, port) {
		return
	}
	x.answer(ctx)
	if m.PlainHTTP && !loopbackOnly(x.addrs) {
		x.find(rankRest, Warning, "mirror-plain", say(
			"the mirror is reached without TLS: anybody on the way can read logins and change answers, and runtimes have to be told to allow it",
			"镜像站未使用 TLS：途中任何人都能读取账号、篡改应答，运行时也需要专门允许"),
			say("give the mirror a certificate", "给镜像站配置证书"))
	}
}

func loopbackOnly(addrs []netip.Addr) bool {
	for _, a := range addrs {
		if !a.IsLoopback() {
			return false
		}
	}
	return true
}

func (x *examination) resolve(ctx context.Context, host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		x.addrs = []netip.Addr{ip}
		return true
	}
	addrs, err := x.lookup(ctx, host)
	if err != nil {
		x.check("name", false, say("%s cannot be resolved: %v", "无法解析 %s：%v", host, err))
		x.find(rankMirror, Problem, "mirror-name",
			say("the mirror's name %s cannot be resolved: %v", "无法解析镜像站的名字 %s：%v", host, err),
			say("check how it is spelt, and the DNS servers of this machine", "检查拼写和本机的 DNS 服务器"))
		return false
	}
	x.addrs = addrs
	x.check("name", true, say("%s is %s", "%s 解析为 %s", host, join(addrs)))
	return true
}

// lookup resolves, within the time for one question.
func (x *examination) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	return x.lookupWith(ctx, x.o.Lookup, host)
}

func (x *examination) lookupWith(ctx context.Context, resolve func(context.Context, string) ([]netip.Addr, error), host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, x.o.Timeout)
	defer cancel()
	addrs, err := resolve(ctx, host)
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.Server != "":
		err = fmt.Errorf("%s (%s)", dns.Err, dns.Server)
	case dns != nil:
		err = errors.New(dns.Err)
	case err == nil && len(addrs) == 0:
		err = errNoAddress
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, err
}

var errNoAddress = errors.New("it has no address")

func join(addrs []netip.Addr) string {
	var s []string
	for _, a := range addrs {
		s = append(s, a.String())
	}
	return strings.Join(s, ", ")
}

func (x *examination) connect(ctx context.Context, host, port string) bool {
	ctx, cancel := context.WithTimeout(ctx, x.o.Timeout)
	defer cancel()
	at := net.JoinHostPort(host, port)
	conn, err := x.o.Dial(ctx, "tcp", at)
	if err == nil {
		_ = conn.Close() // nothing was sent
		x.check("connection", true, say("%s takes connections", "%s 可以连接", at))
		return true
	}
	err = bare(err)
	x.check("connection", false, say("%s takes no connections: %v", "无法连接 %s：%v", at, err))
	do := say("see that the mirror runs (sampan serve) and that no firewall is between", "确认镜像站正在运行（sampan serve），且没有防火墙阻挡")
	if x.o.Mirror.Assumed {
		do = say("name your mirror with --mirror, SAMPAN_MIRROR or in client.yaml; or start one here: sampan serve", "用 --mirror、SAMPAN_MIRROR 或 client.yaml 指定镜像站；或在本机启动：sampan serve")
	}
	x.find(rankMirror, Problem, "mirror-connect", say("the mirror does not answer at %s: %v", "镜像站 %s 没有应答：%v", at, err), do)
	return false
}

// bare is an error of dialling without the address, which the sentence around it has.
func bare(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err
	}
	return err
}

// roots are whom to trust for the mirror: the person's certificates beside the
// system's.
func (x *examination) roots() *x509.CertPool {
	pool := x.o.Roots
	if len(x.o.Mirror.CA) == 0 {
		return pool
	}
	if pool != nil {
		pool = pool.Clone()
	} else if system, err := x509.SystemCertPool(); err == nil {
		pool = system
	} else {
		pool = x509.NewCertPool()
	}
	pool.AppendCertsFromPEM(x.o.Mirror.CA)
	return pool
}

func (x *examination) certificate(ctx context.Context, host, port string) bool {
	ctx, cancel := context.WithTimeout(ctx, x.o.Timeout)
	defer cancel()
	raw, err := x.o.Dial(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return x.connect(ctx, host, port) // it is gone since
	}
	defer func() { _ = raw.Close() }() // it was only looked at
	conn := tls.Client(raw, &tls.Config{ServerName: host, RootCAs: x.roots(), Time: x.o.Now, MinVersion: tls.VersionTLS12})
	err = conn.HandshakeContext(ctx)
	if err != nil {
		what, do := x.untrusted(host, err)
		x.check("certificate", false, what)
		x.find(rankMirror, Problem, "mirror-certificate", what, do)
		return false
	}
	leaf := conn.ConnectionState().PeerCertificates[0]
	x.check("certificate", true, say("for %s, until %s", "适用于 %s，有效期至 %s", names(leaf), day(leaf.NotAfter)))
	if left := leaf.NotAfter.Sub(x.o.Now()); left < soonOver {
		x.find(rankMirror, Warning, "mirror-expires", say("the mirror's certificate ends on %s", "镜像站证书将于 %s 到期", day(leaf.NotAfter)),
			say("tell the mirror's operator: it is not being renewed", "通知镜像站管理员：证书没有自动续期"))
	}
	return true
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// names are those of a certificate, the first few.
func names(c *x509.Certificate) string {
	all := c.DNSNames
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	if len(all) == 0 {
		return c.Subject.String()
	}
	if len(all) > 4 {
		return strings.Join(all[:4], ", ") + ", …"
	}
	return strings.Join(all, ", ")
}

// untrusted says what is wrong with a certificate.
func (x *examination) untrusted(host string, err error) (what, do runtimes.Text) {
	var unverified *tls.CertificateVerificationError
	var leaf *x509.Certificate
	if errors.As(err, &unverified) && len(unverified.UnverifiedCertificates) > 0 {
		leaf = unverified.UnverifiedCertificates[0]
	}
	var name x509.HostnameError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case leaf != nil && errors.As(err, &name):
		return say("the certificate at %s is for other names: %s", "%s 的证书属于其他名字：%s", host, names(leaf)),
			say("use one of these names for the mirror, or have a certificate made for %s", "用证书中的名字访问镜像站，或为 %s 申请证书", host)
	case leaf != nil && errors.As(err, &authority):
		return say("the certificate of %s is signed by %s, whom this machine does not trust", "%s 的证书由 %s 签发，本机不信任", host, leaf.Issuer),
			say("name the certificates that it is signed by with --ca FILE; where it is none of the mirror's, somebody is between", "用 --ca FILE 指定签发者的证书；若不是镜像站的证书，则途中有人拦截")
	case leaf != nil && errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		x.expired = true
		return say("the certificate of %s is valid from %s until %s, and this machine's clock says %s", "%s 的证书有效期为 %s 至 %s，而本机时钟为 %s", host, day(leaf.NotBefore), day(leaf.NotAfter), day(x.o.Now())),
			say("set this machine's clock right; where it is right, tell the mirror's operator", "校准本机时钟；若时钟无误，请通知镜像站管理员")
	case isPlain(err):
		return say("%s speaks plain HTTP, not TLS", "%s 使用的是明文 HTTP，而不是 TLS", x.o.Mirror.Host),
			say("say --mirror http://%s", "请使用 --mirror http://%s", x.o.Mirror.Host)
	default:
		return say("no TLS connection with %s: %v", "无法与 %s 建立 TLS 连接：%v", host, err),
			say("where the address is right, something between breaks connections by the mirror's name: try another network or port", "若地址无误，则途中有设备按名字中断连接：换一个网络或端口再试")
	}
}

func isPlain(err error) bool {
	var record tls.RecordHeaderError
	return errors.As(err, &record) && strings.HasPrefix(string(record.RecordHeader[:]), "HTTP/")
}

// An exchange is one answer.
type exchange struct {
	status int
	header http.Header
	body   string
}

func (x *examination) client() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:       x.o.Dial,
			TLSClientConfig:   &tls.Config{RootCAs: x.roots(), Time: x.o.Now, MinVersion: tls.VersionTLS12},
			DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       x.o.Timeout,
	}
}

func (x *examination) get(ctx context.Context, c *http.Client, path string, login bool) (exchange, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, x.o.Mirror.URL+path, nil)
	if err != nil {
		return exchange{}, err
	}
	req.Header.Set("User-Agent", agent)
	if login {
		req.SetBasicAuth(x.o.Mirror.Username, x.o.Mirror.Password)
	}
	resp, err := c.Do(req)
	if err != nil {
		return exchange{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return exchange{resp.StatusCode, resp.Header, string(body)}, err
}

// answer asks for /v2/ as runtimes do, and who it is that answers.
func (x *examination) answer(ctx context.Context) {
	c := x.client()
	m := x.o.Mirror
	e, err := x.get(ctx, c, "/v2/", m.Username != "")
	switch {
	case err != nil:
		x.check("answer", false, say("no answer: %v", "没有应答：%v", err))
		x.find(rankMirror, Problem, "mirror-answer", say("the mirror takes connections and does not answer: %v", "镜像站可以连接，但没有应答：%v", err),
			say("see the mirror's log, and what is between: a proxy, or another program on this port", "查看镜像站日志，以及中间的代理或占用该端口的其他程序"))
		return
	case e.status == http.StatusUnauthorized && m.Username != "":
		x.check("answer", false, say("the login of %s is refused", "账号 %s 被拒绝", m.Username))
		x.find(rankMirror, Problem, "mirror-login", say("the mirror refuses the login of %s", "镜像站拒绝账号 %s", m.Username),
			say("check the name and the file with the password", "检查用户名和密码文件"))
		return
	case e.status != http.StatusOK && e.status != http.StatusUnauthorized:
		x.check("answer", false, say("it answers /v2/ with %d", "/v2/ 的应答为 %d", e.status))
		x.find(rankMirror, Problem, "mirror-answer", say("what answers at %s is no mirror, or one that refuses this machine: HTTP status %d", "%s 的应答者不是镜像站，或拒绝本机访问：HTTP 状态 %d", m.URL, e.status),
			say("check the address; ask the mirror's operator who may use it", "检查地址；向镜像站管理员确认谁可以使用"))
		return
	}
	x.works = true
	x.clock(e.header)
	if e.status == http.StatusUnauthorized {
		x.check("login", true, say("some of what is there needs a login", "部分内容需要登录"))
	}
	x.who(ctx, c)
}

// who finds out whether a sampan answers: it explains itself where a name is none.
func (x *examination) who(ctx context.Context, c *http.Client) {
	e, err := x.get(ctx, c, "/v2/_catalog", x.o.Mirror.Username != "")
	sampan := err == nil && (strings.Contains(e.body, "this is a mirror of container registries") || strings.Contains(e.header.Get("Www-Authenticate"), `service="sampan"`))
	if sampan {
		x.check("answer", true, say("a sampan answers", "应答者是 sampan"))
		x.pulls(ctx, c)
		return
	}
	x.check("answer", true, say("a registry answers, and not a sampan", "应答者是镜像仓库，但不是 sampan"))
	x.find(rankMirror, Warning, "mirror-other", say("what answers at %s is a registry, and not a sampan", "%s 的应答者是镜像仓库，但不是 sampan", x.o.Mirror.URL),
		say("check the address where that is not meant", "若并非有意，请检查地址"))
}

// pulls asks for the image that mirrors have of their own, as a pull would.
func (x *examination) pulls(ctx context.Context, c *http.Client) {
	e, err := x.get(ctx, c, "/v2/docker.io/"+proof.Path+"/manifests/"+proof.Nonce().String(), x.o.Mirror.Username != "")
	switch {
	case err != nil:
		x.check("pull", false, say("no answer: %v", "没有应答：%v", err))
		x.find(rankMirror, Problem, "mirror-answer", say("the mirror does not answer a pull: %v", "镜像站不应答拉取请求：%v", err), say("see the mirror's log", "查看镜像站日志"))
	case e.status == http.StatusOK:
		x.check("pull", true, say("this machine may pull", "本机可以拉取"))
	case e.status == http.StatusUnauthorized && x.o.Mirror.Username == "":
		x.check("pull", false, say("a login or an access code is needed", "需要账号或访问码"))
		x.find(rankMirror, Warning, "mirror-login", say("the mirror serves this machine nothing without a login or an access code", "没有账号或访问码，镜像站不向本机提供内容"),
			say("say --username and --password-file, or --code-file, here and to sampan setup", "在此命令和 sampan setup 中使用 --username 和 --password-file，或 --code-file"))
	case e.status == http.StatusNotFound: // an older sampan, or a rule that keeps the name secret
	default:
		x.check("pull", false, say("a pull is answered with %d: %s", "拉取的应答为 %d：%s", e.status, message(e.body)))
		x.find(rankMirror, Problem, "mirror-denied", say("the mirror lets this machine pull nothing: %s", "镜像站不允许本机拉取：%s", message(e.body)),
			say("ask the mirror's operator who may use it, and for what", "向镜像站管理员确认谁可以使用、可以拉取什么"))
	}
}

// message is what an answer says of itself, for a line of text.
func message(body string) string {
	var answer struct {
		Errors []struct{ Message string }
	}
	if json.Unmarshal([]byte(body), &answer) != nil || len(answer.Errors) == 0 {
		return "-"
	}
	const most = 300
	said := []rune(strings.Join(strings.FieldsFunc(answer.Errors[0].Message, unicode.IsControl), " "))
	return string(said[:min(len(said), most)])
}

// clock compares the clocks of both machines.
func (x *examination) clock(h http.Header) {
	theirs, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return
	}
	skew := x.o.Now().Sub(theirs).Abs().Round(time.Second)
	if skew < skewTold {
		x.check("clock", true, say("agrees with the mirror's", "与镜像站一致"))
		return
	}
	x.check("clock", false, say("differs from the mirror's by %s", "与镜像站相差 %s", skew))
	severity := Warning
	if skew >= skewBreaks {
		severity = Problem
	}
	x.find(rankClock, severity, "clock", say("this machine's clock and the mirror's differ by %s: certificates and tokens look expired, or not valid yet", "本机与镜像站的时钟相差 %s：证书和令牌会被视为过期或尚未生效", skew),
		say("set the clock right (timedatectl set-ntp true)", "校准时钟（timedatectl set-ntp true）"))
}
