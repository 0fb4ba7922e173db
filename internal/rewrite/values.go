package rewrite

import "strings"

// valueRules are those of Helm values, which have no schema: what charts commonly do.
type valueRules struct {
	*run
	root   int32 // of the values whose global registry is known, or -1
	global bool  // names without a registry are put behind a global one
}

// siblings of a repository or an image that say that the mapping is an image.
func imageSiblings() []string {
	return []string{"tag", "digest", "sha", "pullPolicy", "imagePullPolicy", "imageTag", "image_tag", "pullSecrets", "version"}
}

// leaf deals with a value below a root.
func (v *valueRules) leaf(root, id int32) {
	t := &v.tree
	v.within(root)
	parent := t.nodes[id].parent
	text := t.text(id)
	if t.nodes[id].kind == aliasNode {
		text = t.text(t.anchored(id))
	}
	if text == "" && t.nodes[id].style != opaque {
		return
	}
	switch key := string(t.keyOf(id)); key {
	case "repository", "repo", "imageRepository", "image_repository":
		v.repository(id, parent, text)
	case "registry", "imageRegistry", "image_registry", "hub":
		v.registry(id, parent, key, text)
	case "name":
		if v.imageKey(parent) && v.any(parent, imageSiblings()...) && !v.any(parent, "registry", "repository") && !v.behind(id, parent, text) {
			v.name(id)
		}
	case "imageName", "image_name", "imageRepo", "image_repo", "imageRef", "imageReference", "imageURI", "imageUrl", "imageURL":
		switch certain := v.any(parent, "imageTag", "image_tag") && v.isName(text); {
		case v.behind(id, parent, text):
		case certain, certainly(text):
			v.name(id)
		case looksLikeImage(text):
			v.find(t.nodes[id].start, Finding{Field: t.field(id), Name: text, Reason: NoRule})
		}
	case "reference":
		if string(t.keyOf(parent)) == "image" && t.under(t.nodes[parent].parent, "volumes") {
			v.name(id)
		}
	default:
		if endsInImage([]byte(key)) {
			v.image(id, parent, key, text)
		}
	}
}

// within notes whose values are read.
func (v *valueRules) within(root int32) {
	if root != v.root {
		v.root, v.global = root, v.hasGlobal(root)
	}
}

// images deals with a mapping or a sequence of images, as far as these are texts. Where
// it has, or is beside, something that they may be put behind, they are reported.
func (v *valueRules) images(id int32) {
	t := &v.tree
	v.within(0)
	behind := v.behindSibling(id, "") || v.behindSibling(t.nodes[id].parent, "") || t.scalar(id, "repository") != "" || t.scalar(id, "repo") != ""
	for c := t.nodes[id].first; c != 0; c = t.nodes[c].next {
		key, text := t.keyOf(c), t.text(c)
		switch {
		case v.keys[string(key)] || endsInImage(key) || !looksLikeImage(text) || v.behindGlobal(text):
		case certainly(text) && !behind:
			v.name(c)
		default:
			v.find(t.nodes[c].start, Finding{Field: t.field(c), Name: text, Reason: NoRule})
		}
	}
}

// certainly tells whether a text that is said to be an image is one, and no path of
// something else.
func certainly(text string) bool {
	return looksLikeImage(text) && (strings.ContainsAny(text, ":@") || hasRegistry(text))
}

// hasGlobal tells whether values have a registry for all images.
func (v *valueRules) hasGlobal(root int32) bool {
	t := &v.tree
	places := []int32{root, t.nodes[root].parent} // the last for Istio's operator
	if global := t.get(root, "global"); global != 0 {
		places = append(places, global)
		if image := t.get(global, "image"); image != 0 {
			places = append(places, image)
		}
	}
	for _, at := range places {
		if at == 0 && root != 0 {
			continue
		}
		for _, key := range []string{"imageRegistry", "hub", "registry", "image_registry"} {
			if t.scalar(at, key) != "" {
				return true
			}
		}
	}
	return false
}

func (v *valueRules) behindGlobal(text string) bool { return v.global && !hasRegistry(text) }

// imageKey tells whether a mapping is at a key that ends in "image".
func (v *valueRules) imageKey(mapping int32) bool {
	return mapping != 0 && endsInImage(v.tree.keyOf(mapping))
}

// any tells whether a mapping has one of the keys, with something or nothing.
func (v *valueRules) any(mapping int32, keys ...string) bool {
	for _, k := range keys {
		if v.tree.get(mapping, k) != 0 {
			return true
		}
	}
	return false
}

// behindSibling tells whether a name is put behind a registry beside it.
func (v *valueRules) behindSibling(parent int32, text string) bool {
	for _, key := range []string{"registry", "imageRegistry", "image_registry", "hub"} {
		if v.tree.scalar(parent, key) != "" && (key != "hub" || !strings.Contains(text, "/")) {
			return true
		}
	}
	return false
}

// behind tells whether a name is put behind a registry, and reports where something
// beside it may be one.
func (v *valueRules) behind(id, parent int32, text string) bool {
	t := &v.tree
	if v.behindSibling(parent, text) || v.behindGlobal(text) {
		return true
	}
	if !v.imageKey(parent) || hasRegistry(text) {
		return false
	}
	for c := t.nodes[parent].first; c != 0; c = t.nodes[c].next {
		key, value := strings.ToLower(string(t.keyOf(c))), t.text(c)
		for _, word := range []string{"host", "domain", "server", "regist", "url"} {
			if strings.Contains(key, word) && hasRegistry(value+"/x") && !strings.Contains(value, "://") {
				v.find(t.nodes[id].start, Finding{Field: t.field(id), Name: text, Reason: NoRule})
				return true
			}
		}
	}
	return false
}

func (v *valueRules) repository(id, parent int32, text string) {
	t := &v.tree
	own := strings.HasPrefix(string(t.keyOf(id)), "image")
	if !own && !v.imageKey(parent) && !v.any(parent, imageSiblings()...) || strings.Contains(text, "://") {
		return
	}
	if !own && !v.imageKey(parent) && (v.any(parent, "chart", "path", "branch", "revision") || !v.isName(text)) {
		return
	}
	if v.behind(id, parent, text) {
		return
	}
	for _, rest := range []string{"image", "name"} { // {repository: nvcr.io/nvidia, image: driver}
		if s := t.scalar(parent, rest); s != "" && (rest == "image" || v.imageKey(parent)) {
			v.prefix(id)
			return
		}
	}
	v.name(id)
}

// isName tells whether a text can be a repository's name.
func (v *valueRules) isName(text string) bool { return looksLikeImage(text + ":x") }

func (v *valueRules) registry(id, parent int32, key, text string) {
	image := v.imageKey(parent) || v.any(parent, "repository", "image") && v.any(parent, append(imageSiblings(), "repository")...)
	global := parent == v.root || string(v.tree.keyOf(parent)) == "global"
	switch {
	case image, key == "imageRegistry", key == "image_registry", global && hasRegistry(text+"/x"):
		v.prefix(id)
	}
}

func (v *valueRules) image(id, parent int32, key, text string) {
	t := &v.tree
	if key == "image" && string(t.keyOf(parent)) == "machine" {
		return // of CircleCI: a virtual machine's
	}
	if v.behindSibling(parent, text) || t.scalar(parent, "repository") != "" && !hasRegistry(text) {
		return
	}
	if key == "image" && t.under(parent, "containers", "initContainers", "ephemeralContainers") {
		v.name(id)
		return
	}
	if v.behindGlobal(text) {
		return
	}
	beside := key == "image" && v.any(parent, imageSiblings()...) && v.isName(text)
	switch {
	case looksLikeImage(text), beside, t.nodes[id].style == opaque && key == "image":
		v.name(id)
	case key == "image" && v.isName(text):
		v.find(t.nodes[id].start, Finding{Field: t.field(id), Name: text, Reason: NoRule})
	}
}
