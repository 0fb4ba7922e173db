package mirror

import "sampan/internal/oci"

// The sentences that a person at a client reads, in English and Chinese. They
// contain names only after these were parsed.

func deniedRegistry(r oci.Registry) error {
	return oci.Errorf(oci.CodeDenied, "the registry %[1]q is not served by this mirror; "+
		"its operator can allow it with upstreams: {%[1]q: {}} (or --upstream %[1]s=URL). "+
		"本镜像不提供该仓库，管理员可用上述配置放行。", r.String())
}

func deniedHost(host, label, domain string) error {
	return oci.Errorf(oci.CodeDenied, "the host name %q chooses no registry of this mirror; "+
		"its operator can add %q to upstreams.<registry>.hosts, or the image can be named %s/<registry>/<name>. "+
		"该主机名未对应任何上游仓库，管理员可在 upstreams.<registry>.hosts 中添加。", clip(host), clip(label), domain)
}

func deniedHiddenHost(domain string) error {
	return oci.Errorf(oci.CodeDenied, "this host name is neither a registry's at this mirror nor an access code that is in force; "+
		"use %s itself, or ask the operator for a code. "+
		"该主机名既不是上游仓库，也不是有效的访问码，请向管理员索取。", domain)
}

func deniedPrefix(prefix string) error {
	return oci.Errorf(oci.CodeDenied, "the path %q before /v2/ names no registry of this mirror; "+
		"write a registry there, such as /docker.io/v2/, or leave it out. "+
		"/v2/ 之前的路径应为仓库域名，例如 /docker.io/v2/。", clip(prefix))
}

func deniedNamespace(ns string) error {
	return oci.Errorf(oci.CodeDenied, "the registry %[1]q (ns parameter) is not served by this mirror; "+
		"its operator can allow it with upstreams: {%[1]q: {}} (or --upstream %[1]s=URL). "+
		"本镜像不提供该仓库，管理员可用上述配置放行。", ns)
}

func unnameable(ref oci.Reference, base string) error {
	return oci.Errorf(oci.CodeNameInvalid, "%s has no name of this style at %q; "+
		"a registry with a port needs a host label (upstreams.<registry>.hosts) or an alias. "+
		"无法以此方式表示该镜像名。", ref, clip(base))
}

func notHere(ref oci.Reference, base string) error {
	return oci.Errorf(oci.CodeNameInvalid, "%s is no name at %q. 该镜像名不在此镜像站上。", ref, clip(base))
}

// clip shortens what a client wrote and nobody has parsed.
func clip(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
