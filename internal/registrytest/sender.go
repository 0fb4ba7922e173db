package registrytest

import (
	"net/http"
)

// A sender writes one body, with what is to happen on the way.
type sender struct {
	r     *Registry
	w     *recorder
	req   *http.Request
	st    *state
	body  body
	fault *Fault
	own   pacer // of this response
}

// send writes the bytes [start, end) of the content; those behind its size are
// spaces.
func (s *sender) send(start, end int64) {
	ctx, f := s.req.Context(), s.fault
	if f.HangAfterHeaders != nil {
		s.flush()
		if !f.HangAfterHeaders.pass(ctx, s.r.done) {
			cut(s.w, false)
			return
		}
	}
	stop := end // where the connection is cut
	cutting := f.Truncate && f.TruncateAfter < end-start
	if cutting {
		stop = start + f.TruncateAfter
	}
	gate := f.HangInBody
	buf := s.r.buffers.Get().(*[]byte)
	defer s.r.buffers.Put(buf)
	for off := start; ; {
		if gate != nil && start <= f.HangAt && off == f.HangAt {
			s.flush()
			if !gate.pass(ctx, s.r.done) {
				cut(s.w, false)
				return
			}
			gate = nil
		}
		if off >= stop {
			break
		}
		next := stop
		if gate != nil && off < f.HangAt {
			next = min(next, f.HangAt)
		}
		chunk := (*buf)[:min(next-off, s.chunk(int64(len(*buf))))]
		if !s.write(chunk, off) {
			return
		}
		off += int64(len(chunk))
	}
	if cutting {
		cut(s.w, f.Reset)
	}
}

// chunk returns the most bytes to write at once: a hundredth of a second's
// worth when the body is paced.
func (s *sender) chunk(most int64) int64 {
	for _, rate := range []int64{s.st.Pace.BytesPerSecond, s.st.Pace.TotalBytesPerSecond} {
		if rate > 0 {
			most = min(most, max(rate/100, 1))
		}
	}
	return most
}

// write sends the bytes at off. It is false when the client or the registry
// went.
func (s *sender) write(chunk []byte, off int64) bool {
	n := 0
	if off < s.body.size {
		n, _ = s.body.src.ReadAt(chunk, off) // content in memory: the only error is its end
	}
	for i := range chunk[n:] {
		chunk[n+i] = ' '
	}
	if f := s.fault; f.Corrupt {
		at := f.CorruptAt
		if at < 0 {
			at = s.body.size - 1
		}
		if at -= off; 0 <= at && at < int64(len(chunk)) {
			chunk[at] ^= 1
		}
	}
	pace := s.st.Pace
	wait := max(s.own.reserve(len(chunk), pace.BytesPerSecond), s.st.total.reserve(len(chunk), pace.TotalBytesPerSecond))
	if !s.r.sleep(s.req.Context(), wait) {
		cut(s.w, false)
		return false
	}
	if _, err := s.w.Write(chunk); err != nil {
		return false
	}
	if pace.BytesPerSecond > 0 || pace.TotalBytesPerSecond > 0 {
		s.flush()
	}
	return true
}

// flush hands over what was written. Its error shows at the next write.
func (s *sender) flush() { _ = http.NewResponseController(s.w).Flush() }
