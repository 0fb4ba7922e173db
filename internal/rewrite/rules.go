package rewrite

import (
	"bytes"
	"path"
	"strings"

	"sampan/internal/oci"
)

// fields are the keys that may name an image by the rules of this package, besides
// those of paths and those that end in "image".
func fields() []string {
	return []string{
		"image", "reference", "newName", "name", "repository", "registry", "repo", "imageRegistry", "imageRepository",
		"image_repository", "image_registry", "hub", "source", "uses", "container", "services", "images", "value",
		"values", "valuesContent", "dockerfile_inline",
		"imageName", "image_name", "imageRepo", "image_repo", "imageRef", "imageReference", "imageURI", "imageUrl", "imageURL",
	}
}

// kubernetesFields are those of them in Kubernetes objects.
func kubernetesFields() []string {
	return []string{"image", "reference", "images", "value", "repository", "values", "valuesContent"}
}

// rules goes through a document and deals with what names an image.
func (u *run) rules(d dialect) {
	t := &u.tree
	if d == nothing {
		return
	}
	v := valueRules{run: u, root: -1}
	keys := u.keys
	if d == kubernetes && !u.hasValues() {
		keys = u.kube
	}
	for id := range place(len(t.nodes)) {
		n := &t.nodes[id]
		if d == helmValues && n.kind != scalarNode && endsInImages(t.keyOf(id)) {
			v.images(id)
			continue
		}
		if id == 0 || n.kind == sequenceNode {
			continue
		}
		if d == compose && string(t.keyOf(n.parent)) == "additional_contexts" {
			u.context(id)
			continue
		}
		key := t.keyOf(id)
		if len(key) == 0 {
			if key = t.keyOf(n.parent); len(key) == 0 {
				continue
			}
		}
		if !u.ends[key[len(key)-1]] || !keys[string(key)] && !endsInImage(key) {
			continue
		}
		if n.kind == mappingNode {
			if n.flow && bytes.HasPrefix(t.src[n.start:], []byte("{{")) && endsInImage(key) {
				u.find(n.start, Finding{Field: t.field(id), Reason: Template})
			}
			continue
		}
		switch d {
		case kubernetes:
			u.kubernetes(&v, id)
		case kustomize:
			u.kustomize(&v, id)
		case compose:
			u.compose(id)
		case github:
			u.github(id)
		case gitlab:
			u.gitlab(id)
		default:
			v.leaf(0, id)
		}
	}
}

// endsInImage is true for image, Image, sidecarImage and docker_image.
func endsInImage(key []byte) bool {
	return bytes.HasSuffix(key, []byte("mage")) && len(key) > 4 && (key[len(key)-5] == 'i' || key[len(key)-5] == 'I')
}

// endsInImages is the same for "images".
func endsInImages(key []byte) bool {
	one, several := bytes.CutSuffix(key, []byte("s"))
	return several && endsInImage(one)
}

// looksLikeImage tells whether a text is certainly meant as an image's name: it has a
// tag, a digest or a path, and nothing else looks like it.
func looksLikeImage(text string) bool {
	if variable(text) >= 0 {
		return strings.ContainsAny(text, ":/")
	}
	if !strings.ContainsAny(text, ":/") || len(text) > 500 {
		return false
	}
	switch strings.ToLower(path.Ext(text)) {
	case ".png", ".jpg", ".jpeg", ".gif", ".svg", ".ico", ".webp", ".iso", ".img", ".qcow2", ".vmdk", ".gz", ".xz", ".md", ".html":
		return false
	}
	_, err := oci.ParseReference(text)
	return err == nil
}

// hasRegistry tells whether the first part of a name is a registry, by Docker's rule.
func hasRegistry(name string) bool {
	first, _, more := strings.Cut(name, "/")
	return more && (strings.ContainsAny(first, ".:") || first == "localhost")
}

// kubernetes deals with a field of a Kubernetes object.
func (u *run) kubernetes(v *valueRules, id int32) {
	t := &u.tree
	object := t.objectOf(id)
	if object < 0 {
		return
	}
	kind := t.scalar(object, "kind")
	group, _, grouped := strings.Cut(t.scalar(object, "apiVersion"), "/")
	if !grouped {
		group = ""
	}
	if p, zone, ok := u.known(kind, group, object, id); ok {
		switch p.part {
		case wholeName:
			u.name(id)
		case beginning:
			u.prefix(id)
		case values:
			v.leaf(zone, id)
		}
		return
	}
	key := string(t.keyOf(id))
	parent := t.nodes[id].parent
	switch {
	case key == "image" && t.under(parent, "containers", "initContainers", "ephemeralContainers"):
		u.name(id)
		return
	case key == "reference" && string(t.keyOf(parent)) == "image" && t.under(t.nodes[parent].parent, "volumes"):
		u.name(id)
		return
	case key == "value" && t.under(parent, "kubeletExtraArgs") && t.scalar(parent, "name") == "pod-infra-container-image":
		u.name(id)
		return
	case kind == "Application" || kind == "ApplicationSet":
		if u.argo(id, key) {
			return
		}
	case key == "valuesContent" && group == "helm.cattle.io":
		u.embedded(id, asValues)
		return
	case kind == "ConfigMap" || kind == "Secret" || kind == "CustomResourceDefinition":
		return
	}
	part := key == "repository" && v.imageKey(parent) && strings.Contains(t.text(id), "/") && v.isName(t.text(id))
	if (part || endsInImage([]byte(key)) && looksLikeImage(t.text(id))) && t.first(object, id) != "status" {
		u.find(t.nodes[id].start, Finding{Field: t.field(id), Name: t.text(id), Reason: NoRule})
	}
}

// hasValues tells whether Helm values are in an object of the document.
func (u *run) hasValues() bool {
	t := &u.tree
	for _, object := range t.objects {
		for _, p := range u.paths[t.scalar(object, "kind")] {
			if p.part == values {
				return true
			}
		}
	}
	return false
}

// objectOf is the innermost Kubernetes object that a node is part of, or -1.
func (t *tree) objectOf(id int32) int32 {
	for id != 0 {
		id = t.nodes[id].parent
		if t.nodes[id].object {
			return id
		}
	}
	return -1
}

// known finds the path that leads to a node, and for Helm values where these begin.
func (u *run) known(kind, group string, object, id int32) (p Path, zone int32, ok bool) {
	for _, list := range [][]Path{u.paths[kind], u.paths["*"]} {
		for _, p := range list {
			if p.group != "" && p.group != group {
				continue
			}
			if p.part != values {
				if u.tree.matches(p.steps, object, id) {
					return p, 0, true
				}
				continue
			}
			for zone := u.tree.nodes[id].parent; zone != object && zone != 0; zone = u.tree.nodes[zone].parent {
				if u.tree.matches(p.steps, object, zone) {
					return p, zone, true
				}
			}
		}
	}
	return Path{}, 0, false
}

// argo deals with what Argo CD gives to Helm and Kustomize.
func (u *run) argo(id int32, key string) bool {
	t := &u.tree
	parent := t.nodes[id].parent
	switch {
	case key == "" && string(t.keyOf(parent)) == "images" && string(t.keyOf(t.nodes[parent].parent)) == "kustomize":
		text := t.text(id)
		from, _, renamed := strings.Cut(text, "=")
		if !renamed {
			u.find(t.nodes[id].start, Finding{Field: t.field(id), Name: text, Reason: Matcher})
			return true
		}
		u.scalar(id, func(text string) (change, Reason, error) {
			skip := len(from) + 1
			c, reason, err := u.whole(text[skip:])
			c.start, c.end = c.start+skip, c.end+skip
			return c, reason, err
		})
		return true
	case key == "value" && t.under(parent, "parameters"):
		u.parameter(id, parent)
		return true
	case key == "values" && string(t.keyOf(parent)) == "helm":
		u.embedded(id, asValues)
		return true
	}
	return false
}

// asValues reads a text as Helm values.
func asValues(in *run) { in.yaml(helmValues) }

// parameter deals with a value of Helm that Argo CD sets by its path.
func (u *run) parameter(id, entry int32) {
	t := &u.tree
	name := t.scalar(entry, "name")
	last := name[strings.LastIndexByte(name, '.')+1:]
	base := strings.TrimSuffix(name, last)
	has := func(key string) bool {
		list := t.nodes[entry].parent
		for c := t.nodes[list].first; c != 0; c = t.nodes[c].next {
			if t.scalar(c, "name") == base+key && t.scalar(c, "value") != "" {
				return true
			}
		}
		return false
	}
	switch {
	case endsInImage([]byte(last)) && looksLikeImage(t.text(id)), last == "name" && strings.HasSuffix(strings.ToLower(base), "image."):
		u.name(id)
	case strings.EqualFold(last, "image") && looksLikeImage(t.text(id)+":x"):
		u.find(t.nodes[id].start, Finding{Field: t.field(id), Name: t.text(id), Reason: NoRule})
	case last == "repository" && strings.HasSuffix(strings.ToLower(base), "image.") && !has("registry"):
		u.name(id)
	case last == "imageRegistry" || last == "registry" && has("repository"):
		u.prefix(id)
	}
}

// kustomize deals with a field of a kustomization: the images that it puts in, and the
// values of charts.
func (u *run) kustomize(v *valueRules, id int32) {
	t := &u.tree
	for zone := t.nodes[id].parent; zone != 0; zone = t.nodes[zone].parent {
		if string(t.keyOf(zone)) == "valuesInline" {
			v.leaf(zone, id)
			return
		}
	}
	entry := t.nodes[id].parent
	if !t.under(entry, "images") || t.nodes[t.nodes[entry].parent].parent != 0 {
		return
	}
	switch string(t.keyOf(id)) {
	case "newName":
		u.name(id)
	case "name":
		if t.scalar(entry, "newName") == "" {
			u.find(t.nodes[id].start, Finding{Field: t.field(id), Name: t.text(id), Reason: Matcher})
		}
	}
}
