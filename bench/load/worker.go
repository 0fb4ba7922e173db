package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"hash"
	"net"
	"strconv"
	"strings"
	"time"
)

// bufferSize is how much is read at once.
const bufferSize = 256 << 10

// A worker makes one request after the other on one connection.
type worker struct {
	o     options
	began time.Time
	conn  net.Conn
	buf   []byte
	res   result
}

func (w *worker) close() {
	if w.conn != nil {
		_ = w.conn.Close() // nothing was written that matters
		w.conn = nil
	}
}

// do makes one request and counts how it ended.
func (w *worker) do(path string) {
	if w.conn == nil {
		conn, err := net.Dial("tcp", w.o.addr)
		if err != nil {
			w.res.Failed++
			return
		}
		if w.o.rate > 0 {
			_ = conn.(*net.TCPConn).SetReadBuffer(16 << 10) // a slow reader with a large buffer is none
		}
		w.conn = conn
		if w.o.tls {
			w.conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		}
	}
	if w.buf == nil {
		size := bufferSize
		if w.o.rate > 0 || w.o.idle > 0 {
			size = 4 << 10
		}
		w.buf = make([]byte, size)
	}
	request := "GET " + path + " HTTP/1.1\r\nHost: " + w.o.addr + "\r\nUser-Agent: load/1\r\n"
	if w.o.accept != "" {
		request += "Accept: " + w.o.accept + "\r\n"
	}
	if _, err := w.conn.Write([]byte(request + "\r\n")); err != nil {
		w.res.Failed++
		w.close()
		return
	}
	status, length, body, ok := w.header()
	if !ok {
		w.res.Failed++
		w.close()
		return
	}
	w.body(path, status, length, body)
}

// header reads up to the end of the header and returns what follows it in the
// buffer.
func (w *worker) header() (status, length int, body []byte, ok bool) {
	have := 0
	for {
		n, err := w.conn.Read(w.buf[have:])
		have += n
		if i := bytes.Index(w.buf[:have], []byte("\r\n\r\n")); i >= 0 {
			status, length = parseHeader(string(w.buf[:i]))
			return status, length, w.buf[i+4 : have], status > 0 && length >= 0
		}
		if err != nil || have == len(w.buf) {
			return 0, 0, nil, false
		}
	}
}

// parseHeader returns the status and the Content-Length, -1 without one.
func parseHeader(s string) (status, length int) {
	if len(s) < 12 {
		return 0, -1
	}
	status, _ = strconv.Atoi(s[9:12])
	length = -1
	for line := range strings.SplitSeq(s[12:], "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if strings.EqualFold(name, "Content-Length") {
			length, _ = strconv.Atoi(strings.TrimSpace(value))
		}
	}
	return status, length
}

// body reads a body, whose first bytes are there, and counts what it was.
func (w *worker) body(path string, status, length int, first []byte) {
	c := check{right: true, expect: w.o.expect}
	switch {
	case w.o.digest != "":
		c.want, c.hash = w.o.digest, sha256.New()
	case w.o.hashed:
		c.want, c.hash = path[strings.LastIndexByte(path, ':')+1:], sha256.New()
	}
	done := len(first)
	c.add(first)
	w.noteFirst(done)
	for done < length {
		n, err := w.conn.Read(w.buf[:min(len(w.buf), length-done)])
		c.add(w.buf[:n])
		done += n
		w.noteFirst(done)
		w.pace(n)
		if err != nil {
			break
		}
	}
	w.res.Bytes += int64(done)
	switch {
	case status != 200:
		w.res.Refused++
	case done < length:
		w.res.Short++
	case !c.ok():
		w.res.Wrong++
	default:
		w.res.Requests++
	}
	if done < length {
		w.close()
	}
}

func (w *worker) noteFirst(done int) {
	if done > 0 && w.res.First == 0 {
		w.res.First = time.Since(w.began).Seconds()
	}
}

// pace waits as long as n bytes take at the rate.
func (w *worker) pace(n int) {
	if w.o.rate > 0 {
		time.Sleep(time.Duration(float64(n) / float64(w.o.rate) * float64(time.Second)))
	}
}

// A check compares a body as it arrives.
type check struct {
	expect []byte // nil: not compared
	off    int
	right  bool
	hash   hash.Hash // nil: not hashed
	want   string
}

func (c *check) add(p []byte) {
	if c.hash != nil {
		c.hash.Write(p)
	}
	if c.expect != nil && c.right {
		end := c.off + len(p)
		c.right = end <= len(c.expect) && bytes.Equal(p, c.expect[c.off:end])
		c.off = end
	}
}

// ok tells whether a complete body was the right one.
func (c *check) ok() bool {
	if c.hash != nil && hex.EncodeToString(c.hash.Sum(nil)) != c.want {
		return false
	}
	return c.right && (c.expect == nil || c.off == len(c.expect))
}
