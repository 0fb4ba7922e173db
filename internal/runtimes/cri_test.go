package runtimes

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// The two calls say the name where the runtime interface has it, and their error is what
// the runtime said.
func TestCallsOfTheRuntimeInterface(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Protocols: &protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		want := "\x00\x00\x00\x00\x08\x0a\x06\x0a\x04quay"
		w.Header().Set("Content-Type", "application/grpc")
		switch {
		case r.URL.Path == "/runtime.v1.ImageService/PullImage" && bytes.Equal(body, []byte(want)):
			w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
			_, _ = w.Write([]byte("\x00\x00\x00\x00\x02\x0a\x00"))
			w.Header().Set("Grpc-Status", "0")
		default: // without a message, as an error comes
			w.Header().Set("Grpc-Status", "5")
			w.Header().Set("Grpc-Message", "not%20found")
		}
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // it is closed
	}()
	defer func() {
		_ = server.Close()
		<-done
	}()
	if err := criPull(t.Context(), socket, "quay"); err != nil {
		t.Error(err)
	}
	if err := criRemove(t.Context(), socket, "quay"); err == nil || !strings.Contains(err.Error(), "RemoveImage: status 5: not found") {
		t.Errorf("got %v", err)
	}
	if err := criPull(t.Context(), socket+".none", "quay"); err == nil {
		t.Error("nobody listens there")
	}
}
