//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// readOnly leaves one place to write, in a mount namespace of its own: the folder of
// its first argument. The rest of its arguments is the command that it becomes. A mount
// point that another mount hides, or that its owner removes meanwhile, is no place to write.
const readOnly = `set -eu
mount --bind "$1" "$1"
for point in $(cut -d' ' -f5 /proc/self/mountinfo); do
	[ "$point" = "$1" ] || [ ! -e "$point" ] || mount -o remount,bind,ro "$point" || [ ! -e "$point" ]
done
shift
exec "$@"
`

// With everything read-only but its data directory, as in a container or behind
// ProtectSystem=strict, sampan serves and keeps, and misses no other place.
func TestServesWhereNothingElseCanBeWritten(t *testing.T) {
	m := startMirror(t, options{})
	m.process.stop()
	data := filepath.Join(m.data, "data")
	args := append([]string{"--mount", "/bin/sh", "-c", readOnly, "sh", data, os.Getenv(binaryVariable)}, m.args...)
	m.process = startTestDaemon(t, cleanEnv("/nonexistent"), filepath.Join(m.data, "log.readonly"), unsharePath, args...)
	if err := m.process.ready(answers("http://" + m.admin + "/readyz")); err != nil {
		t.Fatalf("sampan is not ready: %v", err)
	}
	writable := map[string]bool{} // by place; what is mounted there last hides the others
	for line := range strings.Lines(readFile(t, fmt.Sprintf("/proc/%d/mountinfo", m.process.cmd.Process.Pid))) {
		fields := strings.Fields(line)
		writable[fields[4]] = strings.HasPrefix(fields[5], "rw")
	}
	if len(writable) < 3 {
		t.Errorf("only %v is mounted", writable)
	}
	for point, w := range writable {
		_, err := os.Stat(fmt.Sprintf("/proc/%d/root%s", m.process.cmd.Process.Pid, point))
		if w != (point == data) && !os.IsNotExist(err) {
			t.Errorf("that %s can be written is %v", point, w)
		}
	}

	name := m.address + "/library/tiny:latest"
	image := original(t, "docker.io", "library/tiny", "latest")
	d := startDocker(t, "{}")
	d.run(t, "pull", "--quiet", name)
	d.wantImage(t, name, image)
	d.wantRun(t, name, said("docker.io", "library/tiny"))
	m.waitForFills(t)
	m.wantColdPull(t, "docker.io", image)
	m.forget()
	newTool(t, "crane").run(t, "validate", "--remote", name)
	m.wantWarm(t)
	for _, bad := range []string{"read-only file system", "level=WARN", "level=ERROR"} {
		if log := m.process.logTail(1 << 20); strings.Contains(log, bad) {
			t.Errorf("the log holds %q:\n%s", bad, log)
		}
	}
}
