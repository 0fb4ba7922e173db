package main

import "github.com/spf13/cobra"

// examples gives commands an example that do not bring their own.
func examples(root *cobra.Command) {
	list := map[string]string{
		"sampan serve":          "  sampan serve\n  sampan serve --upstream docker.io=archive:images.tar\n  sampan serve --config /etc/sampan/sampan.yaml --listen :5000",
		"sampan demo":           "  sampan demo",
		"sampan explain":        "  sampan explain quay.io/prometheus/prometheus:v2.53.0",
		"sampan config check":   "  sampan config check --config /etc/sampan/sampan.yaml",
		"sampan config show":    "  sampan config show",
		"sampan cache ls":       "  sampan cache ls\n  sampan cache ls docker.io/library/nginx",
		"sampan cache du":       "  sampan cache du -o json",
		"sampan cache rm":       "  sampan cache rm --dry-run nginx:alpine",
		"sampan cache purge":    "  sampan cache purge --dry-run --older-than 720h",
		"sampan cache pin":      "  sampan cache pin registry.k8s.io/pause:3.10",
		"sampan cache unpin":    "  sampan cache unpin registry.k8s.io/pause:3.10",
		"sampan cache prefetch": "  sampan cache prefetch nginx:alpine",
		"sampan cache verify":   "  sampan cache verify",
		"sampan cache top":      "  sampan cache top",
		"sampan cache tasks":    "  sampan cache tasks --run nightly",
		"sampan cache repair":   "  sampan cache repair --data /var/lib/sampan",
	}
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Example == "" {
			cmd.Example = list[cmd.CommandPath()]
		}
		for _, below := range cmd.Commands() {
			visit(below)
		}
	}
	visit(root)
}
