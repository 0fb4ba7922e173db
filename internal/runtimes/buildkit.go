package runtimes

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// A BuildKit is a buildkitd of this machine, or those that docker buildx makes.
type BuildKit struct{ buildx bool }

// Buildx is BuildKit in containers that docker buildx makes.
func Buildx() BuildKit { return BuildKit{buildx: true} }

// Name implements [Target].
func (b BuildKit) Name() string {
	if b.buildx {
		return "buildx"
	}
	return "buildkit"
}

// file is the configuration.
func (b BuildKit) file(m *Machine) string {
	switch {
	case b.buildx:
		return m.config("sampan/buildkitd.toml")
	case m.UID != 0:
		return m.config("buildkit/buildkitd.toml")
	default:
		return "/etc/buildkit/buildkitd.toml"
	}
}

// A buildkitRegistry is a [registry."…"] of a buildkitd.toml.
type buildkitRegistry struct {
	Mirrors []string `toml:"mirrors"`
}

// Detect implements [Target].
func (b BuildKit) Detect(ctx context.Context, m *Machine) (Found, error) {
	command := []string{"buildkitd", "--version"}
	if b.buildx {
		command = []string{"docker", "buildx", "version"}
	}
	f := Found{}
	out, err := m.Run(ctx, command[0], command[1:]...)
	f.Present = err == nil || !b.buildx && !errors.Is(err, exec.ErrNotFound)
	for _, word := range strings.Fields(string(out)) {
		if strings.HasPrefix(word, "v") && strings.Count(word, ".") >= 2 {
			f.Version = word
		}
	}
	before, err := m.Read(b.file(m))
	if err != nil || before == nil {
		return f, err
	}
	f.Files = []string{b.file(m)}
	var c struct {
		Registry map[string]buildkitRegistry `toml:"registry"`
	}
	if err := toml.Unmarshal(before, &c); err != nil {
		return f, unreadable(b.file(m), err)
	}
	for registry, t := range c.Registry {
		for _, mirror := range t.Mirrors {
			f.Mirrors = append(f.Mirrors, registry+" = "+mirror)
		}
	}
	slices.Sort(f.Mirrors)
	return f, nil
}

// Plan implements [Target].
func (b BuildKit) Plan(_ context.Context, m *Machine, _ Found, mirror Mirror) (*Plan, error) {
	file := b.file(m)
	before, err := m.Read(file)
	if err != nil {
		return nil, err
	}
	p := &Plan{}
	ca := path.Join(path.Dir(file), "sampan-ca.crt")
	after := before
	for _, registry := range mirror.registries() {
		if after, err = withElement(after, registry, "mirrors", mirror.Host); err != nil {
			return nil, b.refuse(file, err, &mirror, ca)
		}
	}
	switch {
	case mirror.PlainHTTP:
		after, err = withValue(after, mirror.Host, "http", true)
	case len(mirror.CA) > 0:
		after, err = withElement(after, mirror.Host, "ca", ca)
	}
	if err != nil {
		return nil, b.refuse(file, err, &mirror, ca)
	}
	if err := p.add(m, file, after, false); err != nil {
		return nil, err
	}
	if err := p.addCA(m, &mirror, ca); err != nil {
		return nil, err
	}
	b.finish(p, file, &mirror)
	return p, nil
}

// finish says what follows the files.
func (b BuildKit) finish(p *Plan, file string, mirror *Mirror) {
	if mirror.NoFallback {
		p.Notes = append(p.Notes, Note{Text: Text{
			"BuildKit always asks the registry itself when the mirror does not answer, and cannot be told otherwise: write FROM " + mirror.Host + "/docker.io/… where that must not be",
			"镜像站没有应答时 BuildKit 总会访问原仓库，无法关闭：若不允许，请写 FROM " + mirror.Host + "/docker.io/…",
		}})
	}
	if mirror.Username != "" {
		p.Notes = append(p.Notes, Note{
			Text:  Text{"BuildKit has the login from whoever builds: each of them logs in once", "BuildKit 使用构建者自己的账号：每人登录一次"},
			Paste: "docker login --username " + mirror.Username + " " + mirror.Host,
		})
	}
	if b.buildx {
		p.Notes = append(p.Notes, mirror.notHere("a builder of docker buildx")...)
		p.Notes = append(p.Notes, Note{
			Text:  Text{"a builder has its settings from when it is made: make one with this file", "构建器的设置在创建时确定：请用此文件创建一个"},
			Paste: "docker buildx create --name sampan --driver docker-container --config " + file + " --use",
		})
		return
	}
	p.After = []Step{{Command: []string{"systemctl", "restart", "buildkit"}, Interrupts: true, Why: Text{
		"the file is read at the start alone; builds that are running end", "该文件只在启动时读取；正在进行的构建会中断",
	}}}
	p.Notes = append(p.Notes, Note{
		Text:  Text{"BuildKit pulls when it builds; this shows where from", "BuildKit 在构建时拉取；以下命令可以看到来源"},
		Paste: "printf 'FROM " + mirror.proofImage() + "\\n' >/tmp/Dockerfile && buildctl build --no-cache --progress plain --frontend dockerfile.v0 --local context=/tmp --local dockerfile=/tmp",
	})
}

// refuse is the refusal with the text to write by hand.
func (b BuildKit) refuse(file string, err error, mirror *Mirror, ca string) error {
	if !errors.Is(err, errByHand) {
		return unreadable(file, err)
	}
	var s strings.Builder
	for _, registry := range mirror.registries() {
		fmt.Fprintf(&s, "[registry.%q]\n  mirrors = [%q]\n", registry, mirror.Host)
	}
	if mirror.PlainHTTP {
		fmt.Fprintf(&s, "[registry.%q]\n  http = true\n", mirror.Host)
	} else if len(mirror.CA) > 0 {
		fmt.Fprintf(&s, "[registry.%q]\n  ca = [%q]\n", mirror.Host, ca)
	}
	return byHand(file, err, s.String())
}

var errByHand = errors.New("its tables are written in an unusual way")

// withElement puts a text first in a list of [registry."name"]; the others stay.
func withElement(src []byte, name, key, element string) ([]byte, error) {
	return editRegistry(src, name, key, func(old any) any {
		list, _ := old.([]any)
		if slices.Contains(list, any(element)) {
			return list
		}
		return append([]any{element}, list...)
	}, func(rest string) string {
		if open := strings.IndexByte(rest, '['); open >= 0 {
			sep := ", "
			switch next := strings.TrimLeft(rest[open+1:], " \t"); {
			case strings.HasPrefix(next, "]"):
				sep = ""
			case strings.HasPrefix(next, "\n"), strings.HasPrefix(next, "\r"):
				sep = ","
			}
			return rest[:open+1] + fmt.Sprintf("%q", element) + sep + rest[open+1:]
		}
		return rest
	}, fmt.Sprintf("[%q]", element))
}

// withValue sets a value of [registry."name"].
func withValue(src []byte, name, key string, value bool) ([]byte, error) {
	return editRegistry(src, name, key, func(any) any { return value }, func(rest string) string {
		return strings.Replace(rest, fmt.Sprint(!value), fmt.Sprint(value), 1)
	}, fmt.Sprint(value))
}

// editRegistry changes one key of [registry."name"] in the text, and proves that the
// file means what it should: want makes the new value of the old, change does the same
// with what stands after the key, and fresh is the text where there is none.
func editRegistry(src []byte, name, key string, want func(any) any, change func(string) string, fresh string) ([]byte, error) {
	var meant map[string]any
	if err := toml.Unmarshal(src, &meant); err != nil {
		return nil, err
	}
	if meant == nil {
		meant = map[string]any{}
	}
	registries, _ := meant["registry"].(map[string]any)
	if registries == nil {
		registries = map[string]any{}
		meant["registry"] = registries
	}
	table, known := registries[name].(map[string]any)
	if table == nil {
		table = map[string]any{}
		registries[name] = table
	}
	value := want(table[key])
	if known && reflect.DeepEqual(table[key], value) {
		return src, nil
	}
	table[key] = value
	eol := "\n"
	if strings.Contains(string(src), "\r\n") {
		eol = "\r\n"
	}
	var out string
	if known {
		out = changeTable(string(src), name, key, change, fresh, eol)
	} else {
		out = string(src)
		if out != "" && !strings.HasSuffix(out, "\n") {
			out += eol
		}
		if out != "" {
			out += eol
		}
		out += fmt.Sprintf("[registry.%q]%s  %s = %s%s", name, eol, key, fresh, eol)
	}
	var got map[string]any
	if err := toml.Unmarshal([]byte(out), &got); err != nil || !reflect.DeepEqual(got, meant) {
		return nil, errByHand
	}
	return []byte(out), nil
}

// changeTable changes a key in the lines of a table that is there.
func changeTable(src, name, key string, change func(string) string, fresh, eol string) string {
	header := regexp.MustCompile(`^\s*\[\s*registry\s*\.\s*["']` + regexp.QuoteMeta(name) + `["']\s*\]\s*(#.*)?$`)
	assign := regexp.MustCompile(`^\s*["']?` + regexp.QuoteMeta(key) + `["']?\s*=`)
	lines := strings.SplitAfter(src, "\n")
	in := -1
	for i, line := range lines {
		bare := strings.TrimRight(line, "\r\n")
		switch {
		case in < 0 && header.MatchString(bare):
			in = i
		case in >= 0 && assign.MatchString(bare):
			at := strings.IndexByte(line, '=') + 1
			lines[i] = line[:at] + change(line[at:])
			return strings.Join(lines, "")
		case in >= 0 && strings.HasPrefix(strings.TrimSpace(bare), "["):
			return strings.Join(slices.Insert(lines, in+1, "  "+key+" = "+fresh+eol), "")
		}
	}
	if in < 0 {
		return src // the proof fails
	}
	if !strings.HasSuffix(lines[in], "\n") {
		lines[in] += eol
	}
	return strings.Join(slices.Insert(lines, in+1, "  "+key+" = "+fresh+eol), "")
}

// sameBut fails where a hosts.toml with one more host does not mean the same besides.
func sameBut(before, after []byte) error {
	type file struct {
		Server string         `toml:"server"`
		Host   map[string]any `toml:"host"`
	}
	var old, now file
	if err := toml.Unmarshal(before, &old); err != nil {
		return err
	}
	if err := toml.Unmarshal(after, &now); err != nil {
		return err
	}
	if old.Server != now.Server || len(now.Host) != len(old.Host)+1 {
		return errByHand
	}
	for name, host := range old.Host {
		if !reflect.DeepEqual(host, now.Host[name]) {
			return errByHand
		}
	}
	return nil
}
