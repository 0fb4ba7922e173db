package runtimes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Where the containers family looks, for all and for one person.
const (
	systemContainers = "/etc/containers"
	dropInName       = "50-sampan.conf"
)

// A registryTable is a [[registry]] of a registries.conf.
type registryTable struct {
	Prefix         string                `toml:"prefix"`
	Location       string                `toml:"location"`
	Insecure       bool                  `toml:"insecure"`
	Blocked        bool                  `toml:"blocked"`
	MirrorByDigest bool                  `toml:"mirror-by-digest-only"`
	Mirrors        []registryMirrorTable `toml:"mirror"`
	file           string
}

// A registryMirrorTable is a [[registry.mirror]].
type registryMirrorTable struct {
	Location string `toml:"location"`
	Insecure bool   `toml:"insecure"`
	Pull     string `toml:"pull-from-mirror"`
}

// prefix is what names have to begin with.
func (r *registryTable) prefix() string {
	if r.Prefix != "" {
		return r.Prefix
	}
	return r.Location
}

// registriesConf is what the files say together.
type registriesConf struct {
	tables []registryTable // in the order that the files are read: the last of a prefix counts
	old    string          // a file in the first version of the format; empty for none
}

// find is the table that counts for a prefix among those of files for which use is
// true.
func (c *registriesConf) find(prefix string, use func(file string) bool) *registryTable {
	for i := range slices.Backward(c.tables) {
		if t := &c.tables[i]; t.prefix() == prefix && use(t.file) {
			return t
		}
	}
	return nil
}

func (c *registriesConf) mirrors() []string {
	var all []string
	for _, t := range c.tables {
		for _, m := range t.Mirrors {
			all = append(all, t.prefix()+" = "+m.Location)
		}
		if t.Prefix != "" && t.Location != "" && t.Location != t.Prefix {
			all = append(all, t.Prefix+" = "+t.Location)
		}
	}
	return all
}

// closed tells whether every registry that has settings is elsewhere by its location.
func (c *registriesConf) closed() bool {
	some := false
	for _, t := range c.tables {
		if len(t.Mirrors) > 0 {
			return false
		}
		some = some || t.Prefix != "" && t.Location != "" && t.Location != t.Prefix
	}
	return some
}

// registriesFiles are the files that exist, in the order that they are read.
func registriesFiles(m *Machine) []string {
	main := path.Join(systemContainers, "registries.conf")
	if own := m.config("containers/registries.conf"); m.UID != 0 && m.Exists(own) {
		main = own
	}
	if named := m.Getenv("CONTAINERS_REGISTRIES_CONF"); named != "" {
		main = named
	}
	var files []string
	if m.Exists(main) {
		files = append(files, main)
	}
	own := ""
	if m.UID != 0 {
		own = m.config("containers/registries.conf.d")
	}
	more, err := m.dropIns(path.Join(systemContainers, "registries.conf.d"), own)
	if err != nil {
		return files // readRegistries tells
	}
	return append(files, more...)
}

// dropIns are the files of directories of settings in the order that they count.
func (m *Machine) dropIns(dirs ...string) ([]string, error) {
	var files []string
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		entries, err := os.ReadDir(m.Path(dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries { // by name
			if strings.HasSuffix(e.Name(), ".conf") {
				files = append(files, path.Join(dir, e.Name()))
			}
		}
	}
	return files, nil
}

// readRegistries reads all files.
func readRegistries(m *Machine) (*registriesConf, error) {
	c := &registriesConf{}
	for _, file := range registriesFiles(m) {
		raw, err := m.Read(file)
		if err != nil {
			return nil, err
		}
		var content struct {
			Registry   []registryTable `toml:"registry"`
			Registries map[string]any  `toml:"registries"`
		}
		if err := toml.Unmarshal(raw, &content); err != nil {
			return nil, unreadable(file, err)
		}
		if len(content.Registries) > 0 {
			c.old = file
		}
		for _, t := range content.Registry {
			t.file = file
			c.tables = append(c.tables, t)
		}
	}
	return c, nil
}

// planRegistries writes a drop-in of our own. What other files say of the same
// registries is taken over into it, since the file read last counts as a whole.
func planRegistries(m *Machine, mirror *Mirror) (*Plan, error) {
	base := systemContainers
	if m.UID != 0 {
		base = m.config("containers")
	}
	ours := path.Join(base, "registries.conf.d", dropInName)
	c, err := readRegistries(m)
	if err != nil {
		return nil, err
	}
	files := registriesFiles(m)
	at := slices.Index(files, ours)
	if at < 0 {
		at = slices.IndexFunc(files, func(f string) bool { return path.Dir(f) == path.Dir(ours) && f > ours })
	}
	if at < 0 {
		at = len(files)
	}
	before := func(file string) bool { i := slices.Index(files, file); return i < at && file != ours }
	after := func(file string) bool { return !before(file) && file != ours }

	p := &Plan{}
	var b strings.Builder
	b.WriteString("# Written by sampan setup; sampan setup --undo takes it back.\n")
	for _, registry := range mirror.registries() {
		theirs := c.find(registry, before)
		if theirs != nil {
			p.Notes = append(p.Notes, Note{Text: Text{
				fmt.Sprintf("what %s says of %s is taken over into %s, which counts from now on", theirs.file, registry, ours),
				fmt.Sprintf("%s 中关于 %s 的设置已并入 %s，此后以后者为准", theirs.file, registry, ours),
			}})
		}
		if later := c.find(registry, after); later != nil {
			p.Notes = append(p.Notes, Note{Text: Text{
				fmt.Sprintf("%s is read later, and what it says of %s wins: remove it there for the mirror to be used", later.file, registry),
				fmt.Sprintf("%s 读取在后，其中关于 %s 的设置优先：要使用镜像站，请删除那里的设置", later.file, registry),
			}})
		}
		writeRegistry(&b, registry, mirror, theirs)
	}
	p.Notes = append(p.Notes, narrower(c, mirror, ours)...)
	if c.old != "" {
		p.Notes = append(p.Notes, Note{Text: Text{
			c.old + " is in the first version of its format, which newer versions no longer read: it should be rewritten",
			c.old + " 使用旧的第一版格式，新版本不再读取：应当改写",
		}})
	}
	// A file that not everybody may read would stop everybody else's podman.
	if err := p.add(m, ours, []byte(b.String()), false); err != nil {
		return nil, err
	}
	if mirror.Code != "" && m.UID == 0 {
		p.Notes = append(p.Notes, Note{Text: Text{
			"everybody on this machine can read the access code in " + ours,
			"本机的所有用户都能读取 " + ours + " 中的访问码",
		}})
	}
	return p, p.addCA(m, mirror, path.Join(base, "certs.d", mirror.Host, "ca.crt"))
}

// narrower tells of tables for a part of a registry, which go past the mirror.
func narrower(c *registriesConf, mirror *Mirror, ours string) []Note {
	var notes []Note
	for _, t := range c.tables {
		registry, _, part := strings.Cut(t.prefix(), "/")
		if part && t.file != ours && slices.Contains(mirror.registries(), registry) {
			notes = append(notes, Note{Text: Text{
				fmt.Sprintf("%s has settings for %s, which stay as they are: these images do not come from the mirror", t.file, t.prefix()),
				fmt.Sprintf("%s 中有针对 %s 的设置，保持不变：这些镜像不经过镜像站", t.file, t.prefix()),
			}})
		}
	}
	return notes
}

// writeRegistry is one table, with what was said of the registry before.
func writeRegistry(b *strings.Builder, registry string, mirror *Mirror, theirs *registryTable) {
	here := registryMirrorTable{Location: mirror.Host + "/" + registry, Insecure: mirror.PlainHTTP}
	t := registryTable{Prefix: registry, Location: registry}
	if theirs != nil {
		t.Blocked, t.MirrorByDigest = theirs.Blocked, theirs.MirrorByDigest
		t.Insecure = theirs.Insecure
		if theirs.Location != "" {
			t.Location = theirs.Location
		}
		for _, m := range theirs.Mirrors {
			if m.Location != here.Location && !mirror.Replace {
				t.Mirrors = append(t.Mirrors, m)
			}
		}
	}
	if mirror.NoFallback {
		t.Location, t.Insecure, t.Mirrors = here.Location, here.Insecure, nil
	} else {
		t.Mirrors = slices.Insert(t.Mirrors, 0, here)
	}
	fmt.Fprintf(b, "\n[[registry]]\nprefix = %q\nlocation = %q\n", t.Prefix, t.Location)
	if t.Insecure {
		b.WriteString("insecure = true\n")
	}
	if t.Blocked {
		b.WriteString("blocked = true\n")
	}
	if t.MirrorByDigest {
		b.WriteString("mirror-by-digest-only = true\n")
	}
	for _, m := range t.Mirrors {
		fmt.Fprintf(b, "\n[[registry.mirror]]\nlocation = %q\n", m.Location)
		if m.Insecure {
			b.WriteString("insecure = true\n")
		}
		if m.Pull != "" {
			fmt.Fprintf(b, "pull-from-mirror = %q\n", m.Pull)
		}
	}
}
