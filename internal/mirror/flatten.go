package mirror

import (
	"regexp"
	"strings"

	"sampan/internal/oci"
)

// A Naming is how images are called in a registry that they are copied to. The zero value
// keeps the path of the source: gcr.io/a/b below HOST/team is HOST/team/a/b. Below a
// namespace of Docker Hub, which has names of one level, Flatten goes without saying.
type Naming struct {
	// Flatten makes one component of the path: a/b is a.b. "library/" of Docker Hub is
	// left out.
	Flatten bool
	// Separator is put where a slash was, by Flatten or {flat}; empty means ".".
	Separator string
	// Registry puts the name of the source's registry in front: gcr.io/a/b. A port's
	// colon becomes a dash.
	Registry bool
	// Template replaces the other rules; empty means none. In it, {registry}, {path},
	// {flat}, {namespace} and {name} stand for the source's registry, its path, its path
	// with the separator, its path up to the last slash, and what follows.
	Template string
}

// Check refuses a template with a word that it does not know or another rule beside it,
// and a separator that no name can have, or that separates nothing.
func (n Naming) Check() error {
	switch n.Separator {
	case "", ".", "_", "__", "-", "--":
	default:
		return oci.Errorf(oci.CodeNameInvalid, "%q cannot separate the parts of a name: use . _ __ or -", clip(n.Separator))
	}
	for _, word := range regexp.MustCompile(`\{[^{}]*\}?|\}`).FindAllString(n.Template, -1) {
		switch word {
		case "{registry}", "{path}", "{flat}", "{namespace}", "{name}":
		default:
			return oci.Errorf(oci.CodeNameInvalid, "%q is no word of a template: there are {registry}, {path}, {flat}, {namespace} and {name}", clip(word))
		}
	}
	if n.Separator != "" && !n.Flatten && !strings.Contains(n.Template, "{flat}") {
		return oci.Errorf(oci.CodeNameInvalid, "the separator %q is for what is flattened: it goes with flatten, or with {flat} in a template", n.Separator)
	}
	if n.Template != "" && (n.Flatten || n.Registry) {
		return oci.Errorf(oci.CodeNameInvalid, "a template is the whole rule: it goes with neither flatten nor with-registry, but may hold {flat} and {registry}")
	}
	if n.Template != "" && !strings.Contains(n.Template, "{") {
		return oci.Errorf(oci.CodeNameInvalid, "the template %q gives every image the same name", clip(n.Template))
	}
	return nil
}

// Target is what a source is called in a registry, below a path that may be empty. The
// grammar of the specification is respected; on Docker Hub a name needs exactly one
// namespace and one component. What cannot be is NAME_INVALID.
func (n Naming) Target(source oci.Repository, registry oci.Registry, below string) (oci.Repository, error) {
	if err := n.Check(); err != nil {
		return oci.Repository{}, err
	}
	path := n.path(source)
	if registry == oci.DockerHub && below != "" && n.Template == "" && strings.Contains(path, "/") {
		n.Flatten = true
		path = n.path(source)
	}
	if below = strings.Trim(below, "/"); below != "" {
		path = below + "/" + path
	}
	repo, err := registry.Repository(path)
	if err != nil {
		return oci.Repository{}, err
	}
	if registry == oci.DockerHub && strings.Count(path, "/") != 1 {
		return oci.Repository{}, oci.Errorf(oci.CodeNameInvalid, "Docker Hub has no repository %q: names there are one namespace and one name: copy below docker.io/NAMESPACE/, where they are flattened", path)
	}
	return repo, nil
}

// path is the source's name by the rules.
func (n Naming) path(source oci.Repository) string {
	path := source.Path()
	registry := strings.NewReplacer(":", "-", "[", "", "]", "").Replace(source.Registry().String())
	separator := n.Separator
	if separator == "" {
		separator = "."
	}
	flat := path
	if source.Registry() == oci.DockerHub {
		flat = strings.TrimPrefix(flat, "library/")
	}
	flat = strings.ReplaceAll(flat, "/", separator)
	switch {
	case n.Template != "":
		namespace, name := "", path
		if at := strings.LastIndexByte(path, '/'); at >= 0 {
			namespace, name = path[:at], path[at+1:]
		}
		filled := strings.NewReplacer(
			"{registry}", registry, "{path}", path, "{flat}", flat, "{namespace}", namespace, "{name}", name,
		).Replace(n.Template)
		return strings.Trim(strings.ReplaceAll(filled, "//", "/"), "/") // where there is no namespace
	case n.Flatten && n.Registry:
		return registry + separator + flat
	case n.Flatten:
		return flat
	case n.Registry:
		return registry + "/" + path
	default:
		return path
	}
}
