package rewrite

import "strings"

// ancestors are the keys on the way from the root to a node, the node's own last.
// Elements of sequences have an empty one.
func (t *tree) ancestors(id int32) []string {
	var keys []string
	for ; id != 0; id = t.nodes[id].parent {
		keys = append(keys, string(t.keyOf(id)))
	}
	for i, j := 0, len(keys)-1; i < j; i, j = i+1, j-1 {
		keys[i], keys[j] = keys[j], keys[i]
	}
	return keys
}

// compose deals with a field of a Compose file. The image of a service that is built
// is the name of what is built, and stays.
func (u *run) compose(id int32) {
	t := &u.tree
	way := t.ancestors(id)
	last := way[len(way)-1]
	parent := t.nodes[id].parent
	switch {
	case last == "image" && (len(way) == 3 && way[0] == "services" || strings.HasPrefix(way[0], "x-")):
		if t.get(parent, "build") == 0 {
			u.name(id)
		}
	case last == "dockerfile_inline" && len(way) == 4 && way[0] == "services" && way[2] == "build":
		u.embedded(id, (*run).dockerfile)
	case last == "source" && t.under(parent, "volumes") && t.scalar(parent, "type") == "image":
		u.name(id)
	}
}

// context deals with what a build of Compose is given under a name of its own, as
// NAME: docker-image://IMAGE or as an element NAME=docker-image://IMAGE.
func (u *run) context(id int32) {
	const scheme = "docker-image://"
	name, _, ok := strings.Cut(u.tree.text(id), scheme)
	if !ok || name != "" && !strings.HasSuffix(name, "=") {
		return
	}
	u.scalar(id, func(text string) (change, Reason, error) {
		skip := len(name) + len(scheme)
		c, reason, err := u.whole(text[skip:])
		c.start, c.end = c.start+skip, c.end+skip
		return c, reason, err
	})
}

// github deals with a field of a workflow or an action of GitHub.
func (u *run) github(id int32) {
	t := &u.tree
	way := t.ancestors(id)
	depth, last := len(way), way[len(way)-1]
	text := t.text(id)
	switch {
	case last == "uses" || last == "image" && way[0] == "runs":
		if strings.HasPrefix(text, "docker://") {
			u.name(id)
		}
	case way[0] != "jobs":
	case last == "container" && depth == 3,
		last == "image" && depth == 4 && way[2] == "container",
		last == "image" && depth == 5 && way[2] == "services":
		u.name(id)
	}
}

// gitlab deals with a field of a pipeline of GitLab: image and services, at the top,
// in default and in jobs.
func (u *run) gitlab(id int32) {
	t := &u.tree
	way := t.ancestors(id)
	switch way[0] {
	case "variables", "include", "stages", "workflow", "spec":
		return
	case "image", "services", "default":
	default:
		way = way[1:] // a job
	}
	if len(way) > 0 && way[0] == "default" {
		way = way[1:]
	}
	switch strings.Join(way, ".") {
	case "image", "image.name", "services.", "services..name":
		u.name(id)
	}
}
