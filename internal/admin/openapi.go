package admin

import (
	_ "embed"
	"net/http"
)

//go:embed openapi.yaml
var description []byte

// serveDescription answers GET /api/v1/openapi.yaml.
func serveDescription(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(description) // whoever asked may have left
}
