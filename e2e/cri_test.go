//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// criError is the status that a gRPC server answers with.
type criError struct{ status, message string }

func (e criError) Error() string { return "CRI status " + e.status + ": " + e.message }

// criPull asks the image service at a socket to pull, as the kubelet does, and
// gives the reference in the answer. The messages are so small that they are
// written by hand: PullImageRequest{image: ImageSpec{image: name}} and
// PullImageResponse{image_ref}, all of them field 1.
func criPull(socket, name string) (string, error) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		Protocols: &protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}
	defer transport.CloseIdleConnections()
	message := protoField(protoField([]byte(name)))
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://cri/runtime.v1.ImageService/PullImage", bytes.NewReader(append(frame, message...)))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	status, text := resp.Trailer.Get("Grpc-Status"), resp.Trailer.Get("Grpc-Message")
	if status == "" { // an error without a message comes in the headers alone
		status, text = resp.Header.Get("Grpc-Status"), resp.Header.Get("Grpc-Message")
	}
	if status != "0" {
		if plain, err := url.PathUnescape(text); err == nil {
			text = plain
		}
		return "", criError{status, text}
	}
	return protoString(body)
}

// protoField is field 1, of a type with a length.
func protoField(content []byte) []byte {
	return append(binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(content))), content...)
}

// protoString reads field 1 of the only message in a gRPC body.
func protoString(body []byte) (string, error) {
	if len(body) < 6 || body[5] != 1<<3|2 {
		return "", fmt.Errorf("an answer of another form: %q", body)
	}
	length, n := binary.Uvarint(body[6:])
	if n <= 0 || uint64(len(body)-6-n) < length {
		return "", errors.New("an answer cut short")
	}
	return string(body[6+n:][:length]), nil
}
