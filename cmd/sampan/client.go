package main

import (
	"os"
	"slices"

	"github.com/spf13/pflag"

	"sampan/internal/client"
	"sampan/internal/config"
	"sampan/internal/mirror"
)

// clientOptions say which mirror a person uses.
type clientOptions struct {
	file string
	set  client.Settings
}

func (o *clientOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.set.Mirror, "mirror", "", text("`ADDRESS` of the mirror, such as mirror.example.com (default SAMPAN_MIRROR, then client.yaml, then localhost:5000)", "镜像站地址 `ADDRESS`，例如 mirror.example.com（默认依次为 SAMPAN_MIRROR、client.yaml、localhost:5000）"))
	f.StringVar(&o.set.Style, "style", "", text("`STYLE` of names: path (mirror.example.com/docker.io/…, the default) or host (docker.mirror.example.com/…)", "命名方式 `STYLE`：path（mirror.example.com/docker.io/…，默认）或 host（docker.mirror.example.com/…）"))
	f.StringSliceVar(&o.set.Registries, "registry", nil, text("`NAME` of a registry that the mirror serves beside the built-in ones; \"*\" for every public one; may be repeated", "镜像站在内置仓库之外提供的仓库 `NAME`；\"*\" 表示所有公开仓库；可重复"))
	f.StringVar(&o.file, "client-config", "", text("`FILE` with your settings (default ~/.config/sampan/client.yaml)", "个人配置文件 `FILE`（默认 ~/.config/sampan/client.yaml）"))
}

// addAccessFlags adds what only those need who speak to the mirror.
func (o *clientOptions) addAccessFlags(f *pflag.FlagSet) {
	f.StringVar(&o.set.CA, "ca", "", text("`FILE` with the certificates, PEM, that the mirror's is signed by (default the system's)", "签发镜像站证书的 CA 证书文件 `FILE`，PEM 格式（默认使用系统证书）"))
	f.StringVar(&o.set.Username, "username", "", text("your `NAME` at the mirror", "在镜像站的用户名 `NAME`"))
	f.StringVar(&o.set.PasswordFile, "password-file", "", text("`FILE` with your password at the mirror", "在镜像站的密码文件 `FILE`"))
	f.StringVar(&o.set.CodeFile, "code-file", "", text("`FILE` with your access code", "访问码文件 `FILE`"))
}

// open finds the mirror. Nobody is asked.
func (o clientOptions) open() (*client.Mirror, error) {
	builtin := config.Default(os.Environ())
	s := client.Source{Flags: o.set, File: o.file, Environ: os.Environ(), Aliases: builtin.Aliases, Text: text}
	for _, u := range builtin.Upstreams {
		s.Upstreams = append(s.Upstreams, mirror.Upstream{Registry: u.Registry, Hosts: slices.Clone(u.Hosts)})
	}
	m, err := client.Load(s)
	if err != nil {
		return nil, &usageError{err}
	}
	return m, nil
}
