package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"sampan/internal/client"
	"sampan/internal/config"
	"sampan/internal/doctor"
	"sampan/internal/runtimes"
)

func newDoctorCommand() *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: text("Find out why images do not come from the mirror, and what to do", "查找镜像没有从镜像站拉取的原因，并给出处理办法"),
		Long: text(
			"Look at the container runtimes of this machine and whether they use the mirror, at the mirror's name,\nconnection, certificate and answer, at the clock, at where the names of the registries lead and whether they\ncan be reached without the mirror, at proxies and at disks; and say what to do, the most important first.\nNothing is changed. The registries are asked for /v2/ and nothing else.\n\nThe exit code is 0 when there is no problem, 3 when there is one, and 2 for a mistake in the command.",
			"检查本机的容器运行时是否使用镜像站，镜像站的域名、连接、证书和应答，时钟，各仓库域名的解析结果以及\n不经镜像站能否访问，代理和磁盘；并按重要程度给出处理办法。不做任何修改；对各仓库只访问 /v2/。\n\n退出码：0 表示没有问题，3 表示有问题，2 表示命令有误。"),
		Example: "  sampan doctor --mirror mirror.example.com\n" +
			"  sampan doctor --mirror https://mirror.example.com:8443 --ca ca.pem -o json",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	o.client.addFlags(f)
	o.client.addAccessFlags(f)
	f.DurationVar(&o.timeout, "timeout", doctor.DefaultTimeout, text("`TIME` that each question may take", "每项检查的最长时间 `TIME`"))
	f.StringVar(&o.resolver, "resolver", "", text("`ADDRESS` of another DNS server, to be asked where this machine's answers lead nowhere; nobody else is asked by default", "另一个 DNS 服务器的地址 `ADDRESS`，在本机解析结果不可用时查询；默认不查询其他服务器"))
	f.StringVarP(&o.output, "output", "o", "text", text("`FORMAT`: text or json", "输出格式 `FORMAT`：text 或 json"))
	return cmd
}

// doctorOptions are what the command line says.
type doctorOptions struct {
	client   clientOptions
	timeout  time.Duration
	resolver string
	output   string
}

func (o doctorOptions) run(cmd *cobra.Command) error {
	if o.output != "text" && o.output != "json" {
		return usagef(text("--output is text or json, not %q", "--output 应为 text 或 json，而不是 %q"), o.output)
	}
	if o.timeout <= 0 {
		return usagef("%s", text("--timeout is more than nothing, such as 5s", "--timeout 应大于 0，例如 5s"))
	}
	second, err := secondResolver(o.resolver)
	if err != nil {
		return err
	}
	m, err := o.client.open()
	if err != nil {
		return err
	}
	report := doctor.Run(cmd.Context(), doctor.Options{
		Machine: thisMachine(), Targets: runtimes.Here(), Mirror: patient(m), Registries: directRegistries(m),
		Dial: new(net.Dialer).DialContext, Lookup: lookup, Second: second, Now: time.Now, Free: freeSpace, Timeout: o.timeout,
	})
	if err := context.Cause(cmd.Context()); err != nil {
		return err
	}
	if o.output == "json" {
		err = writeDiagnosis(cmd.OutOrStdout(), report)
	} else {
		_, err = io.WriteString(cmd.OutOrStdout(), diagnosis(report, m.URL()))
	}
	if err == nil && report.Problems() {
		err = &unwell{}
	}
	return err
}

// unwell: there is a problem.
type unwell struct{}

func (*unwell) Error() string { return text("there are problems", "发现问题") }

// thisMachine is the one that the command runs on.
func thisMachine() *runtimes.Machine {
	m := &runtimes.Machine{UID: os.Geteuid(), Environ: os.Environ()}
	m.Home = m.Getenv("HOME")
	return m
}

func patient(m *client.Mirror) doctor.Mirror {
	return doctor.Mirror{
		URL: m.URL(), Host: m.Host(), PlainHTTP: m.PlainHTTP, Assumed: m.Assumed,
		CA: m.CA, Username: m.Username, Password: m.Password,
	}
}

// directRegistries are those that the mirror is known to serve, where they are.
func directRegistries(m *client.Mirror) []doctor.Registry {
	hosts := map[string]string{}
	for _, u := range config.Default(nil).Upstreams {
		if len(u.Endpoints) > 0 {
			hosts[u.Registry.String()] = u.Endpoints[0].URL.Host
		}
	}
	var list []doctor.Registry
	for _, r := range m.Registries() {
		name := r.String()
		if strings.Contains(name, "*") {
			continue
		}
		host := hosts[name]
		if host == "" {
			host = name
		}
		list = append(list, doctor.Registry{Name: name, Host: host})
	}
	return list
}

func lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// secondResolver asks a DNS server by its address; nil for none.
func secondResolver(address string) (func(context.Context, string) ([]netip.Addr, error), error) {
	if address == "" {
		return nil, nil
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		const dns = 53
		ip, err := netip.ParseAddr(strings.Trim(address, "[]"))
		if err != nil {
			return nil, usagef(text("--resolver is an IP address, with a port or without, not %q", "--resolver 应为 IP 地址，可带端口，而不是 %q"), address)
		}
		at = netip.AddrPortFrom(ip, dns)
	}
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, at.String())
	}}
	return func(ctx context.Context, host string) ([]netip.Addr, error) { return r.LookupNetIP(ctx, "ip", host) }, nil
}

// freeSpace tells the bytes that are free for everybody on a disk, and its size.
func freeSpace(dir string) (free, size uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	block := uint64(st.Bsize)
	return st.Bavail * block, st.Blocks * block, nil
}

// diagnosis is a report for people.
func diagnosis(r *doctor.Report, url string) string {
	var b strings.Builder
	mark := func(ok bool) string {
		if ok {
			return text("ok  ", "正常")
		}
		return text("BAD ", "异常")
	}
	say := func(t runtimes.Text) string { return withoutControl(text(t.English, t.Chinese)) }
	line := func(ok bool, name, says string) { fmt.Fprintf(&b, "  %s  %-20s %s\n", mark(ok), name, says) }

	fmt.Fprintf(&b, text("Mirror %s\n", "镜像站 %s\n"), url)
	for _, c := range r.Mirror {
		line(c.OK, checkName(c.ID), say(c.Says))
	}
	b.WriteString(text("\nRuntimes on this machine\n", "\n本机的容器运行时\n"))
	for _, t := range r.Runtimes {
		line(t.Uses && t.Err == nil, strings.TrimSpace(t.Name+" "+t.Version), runtimeState(t))
	}
	if len(r.Runtimes) == 0 {
		b.WriteString(text("  none was found\n", "  没有找到\n"))
	}
	b.WriteString(text("\nRegistries, without the mirror\n", "\n不经镜像站访问各仓库\n"))
	for _, reg := range r.Registries {
		line(reg.State == doctor.Reachable || reg.State == doctor.AtMirror, reg.Name, say(reg.Says))
	}
	for _, d := range r.Disks {
		fmt.Fprintf(&b, text("\nDisk of %s: %s of %s are free\n", "\n%s 所在磁盘：剩余 %s，共 %s\n"), d.Dir, gibibytes(d.Free), gibibytes(d.Size))
	}
	for _, p := range r.Proxies {
		fmt.Fprintf(&b, text("\nProxy: %s=%s\n", "\n代理：%s=%s\n"), p.ID, say(p.Says))
	}
	if len(r.Findings) == 0 {
		b.WriteString(text("\nAll is well.\n", "\n一切正常。\n"))
		return b.String()
	}
	b.WriteString(text("\nWhat to do, the most important first\n", "\n处理办法（按重要程度）\n"))
	for i, f := range r.Findings {
		kind := text("problem: ", "问题：")
		if f.Severity == doctor.Warning {
			kind = text("warning: ", "注意：")
		}
		fmt.Fprintf(&b, "%3d. %s%s\n     → %s\n", i+1, kind, say(f.What), say(f.Do))
	}
	return b.String()
}

// withoutControl is a text without what could steer a terminal: parts of it come from
// strangers' servers and certificates.
func withoutControl(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '\ufffd'
		}
		return r
	}, s)
}

func gibibytes(n uint64) string { return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30)) }

// checkName is what a check of the mirror is called.
func checkName(id string) string {
	switch id {
	case "name":
		return text("name", "域名")
	case "connection":
		return text("connection", "连接")
	case "certificate":
		return text("certificate", "证书")
	case "answer":
		return text("answer", "应答")
	case "login":
		return text("login", "登录")
	case "pull":
		return text("pull", "拉取")
	case "clock":
		return text("clock", "时钟")
	default:
		return id
	}
}

func runtimeState(t doctor.Runtime) string {
	switch {
	case t.Err != nil:
		return text("its settings cannot be used", "配置无法使用")
	case t.Uses && t.Name == "docker" && t.Kind == "classic":
		return text("uses the mirror for Docker Hub alone; other registries are asked themselves, unless names at the mirror are used (sampan name)", "只对 Docker Hub 使用镜像站；其他仓库直接访问，除非使用镜像站上的名字（sampan name）")
	case t.Uses && t.Closed:
		return text("uses the mirror, and nothing else", "使用镜像站，且只使用镜像站")
	case t.Uses:
		return text("uses the mirror; the registries themselves are asked when it does not answer", "使用镜像站；镜像站没有应答时访问原仓库")
	case len(t.Mirrors) > 0:
		return fmt.Sprintf(text("uses others: %s", "使用其他镜像站：%s"), strings.Join(t.Mirrors, ", "))
	default:
		return text("asks the registries themselves", "直接访问各仓库")
	}
}

// writeDiagnosis is a report for programs. Texts are in the language of the
// environment; what is called id, state or severity never changes.
func writeDiagnosis(out io.Writer, r *doctor.Report) error {
	say := func(t runtimes.Text) string { return text(t.English, t.Chinese) }
	type check struct {
		ID      string `json:"id"`
		OK      bool   `json:"ok"`
		Message string `json:"message"`
	}
	type runtime struct {
		Name         string   `json:"name"`
		Version      string   `json:"version,omitempty"`
		Kind         string   `json:"kind,omitempty"`
		Mirrors      []string `json:"mirrors"`
		UsesMirror   bool     `json:"uses_mirror"`
		NeverDirect  bool     `json:"never_direct"`
		SettingsFail string   `json:"error,omitempty"`
	}
	type registry struct {
		Name      string       `json:"name"`
		State     string       `json:"state"`
		Message   string       `json:"message"`
		Addresses []netip.Addr `json:"addresses,omitempty"`
	}
	type disk struct {
		Dir       string `json:"dir"`
		FreeBytes uint64 `json:"free_bytes"`
		SizeBytes uint64 `json:"size_bytes"`
	}
	type finding struct {
		ID       string          `json:"id"`
		Severity doctor.Severity `json:"severity"`
		Message  string          `json:"message"`
		Advice   string          `json:"advice"`
	}
	answer := struct {
		OK         bool              `json:"ok"`
		Mirror     []check           `json:"mirror"`
		Runtimes   []runtime         `json:"runtimes"`
		Registries []registry        `json:"registries"`
		Proxies    map[string]string `json:"proxies,omitempty"`
		Disks      []disk            `json:"disks"`
		Findings   []finding         `json:"findings"`
	}{OK: !r.Problems(), Mirror: []check{}, Runtimes: []runtime{}, Registries: []registry{}, Proxies: map[string]string{}, Disks: []disk{}, Findings: []finding{}}
	for _, c := range r.Mirror {
		answer.Mirror = append(answer.Mirror, check{c.ID, c.OK, say(c.Says)})
	}
	for _, t := range r.Runtimes {
		one := runtime{t.Name, t.Version, t.Kind, append([]string{}, t.Mirrors...), t.Uses, t.Closed, ""}
		if t.Err != nil {
			one.SettingsFail = t.Err.Error()
		}
		answer.Runtimes = append(answer.Runtimes, one)
	}
	for _, g := range r.Registries {
		answer.Registries = append(answer.Registries, registry{g.Name, g.State, say(g.Says), g.Addresses})
	}
	for _, p := range r.Proxies {
		answer.Proxies[p.ID] = say(p.Says)
	}
	for _, d := range r.Disks {
		answer.Disks = append(answer.Disks, disk{d.Dir, d.Free, d.Size})
	}
	for _, f := range r.Findings {
		answer.Findings = append(answer.Findings, finding{f.ID, f.Severity, say(f.What), say(f.Do)})
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(answer)
}
