package terminaltest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A Terminal is a pseudo-terminal with a screen. It ends with its test, which fails when
// anything was written to it that a [Screen] does not know.
type Terminal struct {
	t *testing.T
	// File is what programs write to and read from.
	File   *os.File
	master *os.File

	mu      sync.Mutex
	screen  *Screen
	changed chan struct{} // closed and made anew when something was written
}

// New makes a terminal.
func New(t *testing.T, columns, lines int) *Terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no terminals here: %v", err)
	}
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	x := &Terminal{t: t, File: file, master: master, screen: NewScreen(columns, lines), changed: make(chan struct{})}
	x.Resize(columns, lines)
	ended := make(chan struct{})
	go x.read(ended)
	t.Cleanup(func() {
		_ = file.Close() // then there is nothing left to be read
		<-ended
		_ = master.Close()
		for _, w := range x.screen.Wrong() {
			t.Errorf("the terminal does not know %s", w)
		}
	})
	return x
}

// read shows what is written, until nobody has the terminal open.
func (x *Terminal) read(ended chan struct{}) {
	defer close(ended)
	buf := make([]byte, 4096)
	for {
		n, err := x.master.Read(buf)
		if err != nil {
			return
		}
		x.mu.Lock()
		_, _ = x.screen.Write(buf[:n])
		close(x.changed)
		x.changed = make(chan struct{})
		x.mu.Unlock()
	}
}

// Resize gives it another size. The foreground program hears of that.
func (x *Terminal) Resize(columns, lines int) {
	x.t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.screen.Resize(columns, lines)
	size := unix.Winsize{Col: uint16(columns), Row: uint16(lines)}
	if err := unix.IoctlSetWinsize(int(x.master.Fd()), unix.TIOCSWINSZ, &size); err != nil {
		x.t.Fatal(err)
	}
}

// Type types.
func (x *Terminal) Type(keys string) {
	x.t.Helper()
	if _, err := x.master.WriteString(keys); err != nil {
		x.t.Fatal(err)
	}
}

// Command is a program whose terminal this is, for all three of its streams.
func (x *Terminal) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = x.File, x.File, x.File
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	return cmd
}

// Await waits until the screen is as wanted.
func (x *Terminal) Await(what string, wanted func(*Screen) bool) {
	x.t.Helper()
	const long = 30 * time.Second
	deadline := time.After(long)
	for {
		x.mu.Lock()
		ok, changed := wanted(x.screen), x.changed
		x.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			x.t.Fatalf("the screen does not come to be %s:\n%s", what, strings.Join(x.Lines(), "\n"))
		}
	}
}

// Shows tells whether the screen has a text, for [Terminal.Await].
func Shows(text string) func(*Screen) bool {
	return func(s *Screen) bool { return strings.Contains(strings.Join(s.Lines(), "\n"), text) }
}

// Lines is what can be seen now.
func (x *Terminal) Lines() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.screen.Lines()
}

// Look looks at the screen.
func (x *Terminal) Look(look func(*Screen)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	look(x.screen)
}
