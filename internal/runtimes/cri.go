package runtimes

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// The two calls of the Kubernetes runtime interface that a proof needs are made over
// HTTP/2 by hand: their request is one name, and a client for all of it would be larger
// than the rest of this program.

// pullTimeout bounds a pull of a tiny image.
const pullTimeout = 2 * time.Minute

// criPull has the runtime at a socket pull an image as the kubelet does.
func criPull(ctx context.Context, socket, image string) error {
	return criCall(ctx, socket, "PullImage", image)
}

// criRemove takes an image away again.
func criRemove(ctx context.Context, socket, image string) error {
	return criCall(ctx, socket, "RemoveImage", image)
}

// criCall calls a method whose request is an ImageSpec in field 1, which has the name of
// the image in field 1. What it answers is not read beyond its status.
func criCall(ctx context.Context, socket, method, image string) error {
	const maxAnswer = 64 << 10
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		Protocols: &protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}
	defer transport.CloseIdleConnections()
	message := protoField(protoField([]byte(image)))
	frame := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://cri/runtime.v1.ImageService/"+method, bytes.NewReader(frame))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("%s: %w", socket, err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return fmt.Errorf("%s: %w", socket, err)
	}
	status, said := resp.Trailer.Get("Grpc-Status"), resp.Trailer.Get("Grpc-Message")
	if status == "" { // an error without a message comes in the headers alone
		status, said = resp.Header.Get("Grpc-Status"), resp.Header.Get("Grpc-Message")
	}
	if status == "0" {
		return nil
	}
	if plain, err := url.PathUnescape(said); err == nil {
		said = plain
	}
	return fmt.Errorf("%s: %s: status %s%s", socket, method, status, tail(said))
}

// protoField is field 1, of a type with a length.
func protoField(content []byte) []byte {
	return append(binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(content))), content...)
}
