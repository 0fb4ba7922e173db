package welcome

import (
	"net/url"
	"slices"
	"strings"
)

// pasted finds the image name in what somebody pasted: a name, a command of a client,
// a line of a Dockerfile, of YAML or of a values file, or the address of a page of a
// registry. What is none of these is returned as it is.
func pasted(s string) string {
	words := strings.Fields(s)
	if len(words) > 0 && (words[0] == "$" || words[0] == "#") {
		words = words[1:]
	}
	if len(words) > 0 && words[0] == "sudo" {
		words = words[1:]
	}
	if len(words) == 0 {
		return ""
	}
	name := words[0]
	switch first := words[0]; {
	case len(words) == 1:
	case strings.EqualFold(first, "FROM"):
		name = argument(words[1:])
	case first == "image:":
		name = words[1]
	case first == "-" && words[1] == "image:" && len(words) > 2:
		name = words[2]
	case slices.Contains(clients(), first):
		name = argument(afterVerb(words[1:]))
	default:
		return strings.Join(words, " ")
	}
	return plain(name)
}

// clients are the commands whose arguments are looked at.
func clients() []string {
	return []string{"docker", "podman", "nerdctl", "crictl", "ctr", "buildah", "skopeo", "crane", "regctl", "oras", "helm", "k3s"}
}

// afterVerb drops the words that say what a client is to do.
func afterVerb(words []string) []string {
	verbs := []string{"pull", "run", "create", "image", "images", "i", "inspect", "copy", "manifest", "tags", "ctr", "crictl", "container", "from", "show", "chart", "install"}
	for len(words) > 0 && slices.Contains(verbs, words[0]) {
		words = words[1:]
	}
	return words
}

// argument is the first word that is neither an option nor the value of one.
func argument(words []string) string {
	switches := []string{
		"--all-tags", "--quiet", "--rm", "--detach", "--interactive", "--tty", "--init", "--privileged", "--read-only", "--plain-http",
		"--all-platforms", "--tls-verify", "--no-healthcheck", "--publish-all", "--disable-content-trust", "--insecure",
	}
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch {
		case !strings.HasPrefix(w, "-"):
			return w
		case strings.Contains(w, "=") || slices.Contains(switches, w):
		case !strings.HasPrefix(w, "--") && strings.Trim(w, "-aditqP") == "":
		default:
			i++ // the value
		}
	}
	return ""
}

// plain takes off what stands around a name: quotes, a transport, a scheme, and what
// the pages of well-known registries have in their addresses.
func plain(s string) string {
	s = strings.Trim(s, `"'`+"`,;")
	for _, transport := range []string{"docker://", "oci://"} {
		s = strings.TrimPrefix(s, transport)
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return s
	}
	path := strings.Trim(u.Path, "/")
	switch u.Host {
	case "hub.docker.com":
		path = strings.TrimPrefix(strings.TrimPrefix(path, "_/"), "r/")
		path = strings.TrimSuffix(path, "/tags")
		return "docker.io/" + path
	case "quay.io":
		path = strings.TrimPrefix(path, "repository/")
	}
	return u.Host + "/" + path
}
