package server

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"sampan/internal/oci"
)

func TestOnlyTheClientsConnectionTellsThatTheClientHasLeft(t *testing.T) {
	errno := func(call string, e syscall.Errno) error { return os.NewSyscallError(call, e) }
	from := func(err error) error { return &net.OpError{Op: "readfrom", Net: "tcp", Err: err} }
	write := func(err error) error { return &net.OpError{Op: "write", Net: "tcp", Err: err} }
	for name, tc := range map[string]struct {
		err  error
		left bool
	}{
		"a write to it":                   {write(errno("write", syscall.EPIPE)), true},
		"a write within a copy":           {from(write(errno("write", syscall.ECONNRESET))), true},
		"the kernel's copy":               {from(errno("sendfile", syscall.EPIPE)), true},
		"its deadline":                    {from(os.ErrDeadlineExceeded), true},
		"it is closed":                    {from(net.ErrClosed), true},
		"a file that cannot be read":      {from(errno("sendfile", syscall.EIO)), false},
		"the same without the kernel":     {from(&os.PathError{Op: "read", Path: "blob", Err: syscall.EIO}), false},
		"a blob that is wrong":            {from(oci.Errorf(oci.CodeUnavailable, "does not match")), false},
		"a source that was reset":         {from(&net.OpError{Op: "read", Net: "tcp", Err: errno("read", syscall.ECONNRESET)}), false},
		"a question that was not written": {fmt.Errorf("fill: %w", write(errno("write", syscall.EPIPE))), false},
		"anything else":                   {errors.New("broken"), false},
	} {
		if got := clientLeft(tc.err); got != tc.left {
			t.Errorf("%s: left %v", name, got)
		}
	}
}
