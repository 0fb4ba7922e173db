package admin

import (
	"bytes"
	"fmt"
	"io"
	"net/http"

	"github.com/goccy/go-yaml"
)

// serveConfig answers GET /api/v1/config?format=yaml|json.
func serveConfig(show func(io.Writer) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		format := r.URL.Query().Get("format")
		if format != "" && format != "yaml" && format != "json" {
			say(w, http.StatusBadRequest, fmt.Sprintf("%v: format is yaml or json", errMistake))
			return
		}
		var body bytes.Buffer
		err := show(&body)
		text, mediaType := body.Bytes(), "application/yaml"
		if err == nil && format == "json" {
			mediaType = "application/json"
			text, err = yaml.YAMLToJSON(text)
		}
		if err != nil {
			say(w, http.StatusInternalServerError, err.Error())
			return
		}
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(text) // whoever asked may have left
	}
}
