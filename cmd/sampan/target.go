package main

import (
	"strings"

	"github.com/spf13/pflag"

	"sampan/internal/mirror"
	"sampan/internal/oci"
)

// A target is where images go at a registry: a place, which is given as HOST/ or
// HOST/NAMESPACE/ and below which a rule names them, or one repository.
type target struct {
	registry oci.Registry
	below    string         // of a place; empty, or a path
	one      oci.Repository // zero for a place
	tag      oci.Tag        // of one; zero for that of the image
}

// parseTarget reads "registry.example.com/mirror/" or "localhost:5000/nginx:1". The host
// is written in full: nobody pushes to Docker Hub by leaving something out.
func parseTarget(what, s string) (target, error) {
	host, path, ok := strings.Cut(s, "/")
	registry, err := oci.ParseRegistry(host)
	if !ok || err != nil || host != "localhost" && !strings.ContainsAny(host, ".:") {
		return target{}, usagef(text("%s is HOST/, HOST/NAMESPACE/ or HOST/REPOSITORY[:TAG], not %q", "%s 应为 HOST/、HOST/NAMESPACE/ 或 HOST/REPOSITORY[:TAG]，而不是 %q"), what, s)
	}
	if path == "" {
		return target{registry: registry}, nil
	}
	if below, ok := strings.CutSuffix(path, "/"); ok {
		if _, err := registry.Repository(below); err != nil {
			return target{}, noNamespace(what, registry, path)
		}
		return target{registry: registry, below: below}, nil
	}
	ref, err := oci.ParseReference(s)
	if err != nil {
		return target{}, usagef("%s: %w", what, plain(err))
	}
	if !ref.Digest.IsZero() {
		return target{}, usagef(text("%s: a copy has the digest of its source; name it by a tag, not %q", "%s：副本的摘要与来源相同，请使用标签命名，而不是 %q"), what, s)
	}
	if registry == oci.DockerHub && strings.Count(ref.Repository.Path(), "/") != 1 {
		return target{}, usagef(text("%s: Docker Hub has no repository %q: names there are one namespace and one name", "%s：Docker Hub 没有仓库 %q：那里的名字由一级命名空间和一级名字组成"), what, ref.Repository.Path())
	}
	t := target{registry: registry, one: ref.Repository, tag: ref.Tag}
	if ref.Untagged() {
		t.tag = oci.Tag{}
	}
	return t, nil
}

// noNamespace says what is wrong with the path of a place, which ends in a slash.
func noNamespace(what string, registry oci.Registry, path string) error {
	const most = 255 // of a whole name
	if n := len(registry.String() + "/" + strings.TrimSuffix(path, "/")); n > most {
		return usagef(text("%s: a name has at most %d characters with its registry, and this namespace alone %d", "%s：名字连同仓库地址至多 %d 个字符，而仅到命名空间就有 %d 个"), what, most, n)
	}
	if strings.ToLower(path) != path {
		return usagef(text("%s: %q has capital letters; names of repositories are in lower case", "%s：%q 含有大写字母；仓库名应为小写"), what, path)
	}
	return usagef(text("%s: %q is no namespace: names are small letters and digits, with . _ or - between them", "%s：%q 不是命名空间：名字由小写字母和数字组成，其间可用 . _ 或 -"), what, path)
}

// isPlace tells whether a rule names what goes there.
func (t target) isPlace() bool { return t.one.IsZero() }

// name is what an image is called at the target: by its tag, where it or the target has
// one.
func (t target) name(ref oci.Reference, naming mirror.Naming) (oci.Reference, error) {
	named := oci.Reference{Repository: t.one, Tag: t.tag}
	if t.isPlace() {
		var err error
		if named.Repository, err = naming.Target(ref.Repository, t.registry, t.below); err != nil {
			return oci.Reference{}, err
		}
	}
	if named.Tag.IsZero() {
		named.Tag = ref.Tag
	}
	return named, nil
}

// addNamingFlags adds the rules by which images are named below a place.
func addNamingFlags(f *pflag.FlagSet, n *mirror.Naming) {
	f.BoolVar(&n.Flatten, "flatten", false, text("one name for the whole path: a/b becomes a.b", "把路径合并为一级名字：a/b 变为 a.b"))
	f.StringVar(&n.Separator, "separator", "", text("`TEXT` in the place of a slash (default .)", "代替斜线的字符 `TEXT`（默认 .）"))
	f.BoolVar(&n.Registry, "with-registry", false, text("put the name of the source's registry in front", "在名字前加上来源仓库的域名"))
	f.StringVar(&n.Template, "template", "", text("`TEMPLATE` of names, of {registry}, {path}, {flat}, {namespace} and {name}", "名字模板 `TEMPLATE`，可用 {registry}、{path}、{flat}、{namespace}、{name}"))
}

// checkNaming refuses rules that cannot be, and any for what is no place.
func (t target) checkNaming(n mirror.Naming, written string) error {
	if err := n.Check(); err != nil {
		return &usageError{plain(err)}
	}
	if n != (mirror.Naming{}) && !t.isPlace() {
		return notAPlace(written)
	}
	return nil
}

func notAPlace(written string) error {
	return usagef(text("names are made by a rule only below a place: write %s/", "只有在某个位置之下才按规则命名：请写 %s/"), written)
}
