//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// The test binary runs three times, each the child of the one before. This
// variable tells which of them a process is.
const stageVariable = "SAMPAN_E2E_STAGE"

// The scratch folder of a run, and the sampan binary under test. A caller may
// set the latter to test a binary that it has built itself.
const (
	scratchVariable = "SAMPAN_E2E_SCRATCH"
	binaryVariable  = "SAMPAN_E2E_BINARY"
)

// TestMain goes through the stages: "" builds sampan and makes the namespaces;
// "init" is process 1 in them, prepares the mounts and reaps orphans; "tests"
// runs the tests. When init ends, the kernel ends everything that was left over.
func TestMain(m *testing.M) {
	var code int
	var err error
	switch stage := os.Getenv(stageVariable); stage {
	case "":
		code, err = outside()
	case "init":
		code, err = initProcess()
	case "tests":
		code, err = inside(m)
	default:
		err = fmt.Errorf("%s=%s: no such stage", stageVariable, stage)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

// outside builds sampan, for which the module cache may need the network, and
// starts init in new namespaces.
func outside() (int, error) {
	if os.Getuid() != 0 {
		return 1, errors.New("the end-to-end tests need root, for their namespaces and container engines")
	}
	// The clients' data lies on overlay file systems, which cannot be stacked on
	// each other; /var/tmp is on a real disk where /tmp may be none.
	scratch, err := os.MkdirTemp("/var/tmp", "sampan-e2e-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(scratch)
	binary := os.Getenv(binaryVariable)
	if binary == "" {
		binary = filepath.Join(scratch, "sampan")
		build := exec.Command("go", "build", "-o", binary, "sampan/cmd/sampan")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		if err := build.Run(); err != nil {
			return 1, fmt.Errorf("building sampan: %w", err)
		}
	}

	// Pdeathsig follows the thread that started the child.
	runtime.LockOSThread()
	child := again("init", scratchVariable+"="+scratch, binaryVariable+"="+binary)
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
	}
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT) // init gets it too, and ends first
	return exitCode(child.Run())
}

// initProcess prepares the namespaces and runs the tests. Being process 1, it
// inherits and reaps the orphans of daemons.
func initProcess() (int, error) {
	if err := prepareNamespaces(os.Getenv(scratchVariable)); err != nil {
		return 1, err
	}
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-interrupts
		os.Exit(130)
	}()
	child := again("tests")
	if err := child.Start(); err != nil {
		return 1, err
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 1, fmt.Errorf("waiting for the tests: %w", err)
		case pid == child.Process.Pid && status.Exited():
			return status.ExitStatus(), nil
		case pid == child.Process.Pid:
			return 1, fmt.Errorf("the tests ended by signal %v", status.Signal())
		}
	}
}

// prepareNamespaces leaves an environment with a loopback interface, private
// state folders for the container engines, and made-up host names.
func prepareNamespaces(scratch string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	for _, dir := range []string{"/run", "/dev/shm", "/etc/containers", "/etc/docker", "/etc/containerd", "/etc/buildkit", "/etc/cni", "/var/lib/cni", "/var/lib/containers"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mounting %s: %w", dir, err)
		}
	}
	if err := os.WriteFile("/etc/containers/policy.json", []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o644); err != nil {
		return err
	}
	for file, content := range map[string]string{
		"/etc/hosts":       hostsFile(),
		"/etc/resolv.conf": "", // no name server: what is not in /etc/hosts does not exist
	} {
		source := filepath.Join(scratch, filepath.Base(file))
		if err := os.WriteFile(source, []byte(content), 0o644); err != nil {
			return err
		}
		if err := syscall.Mount(source, file, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("replacing %s: %w", file, err)
		}
	}
	return loopbackUp()
}

// memberCode is an access code of the tests.
const memberCode = "k3v9x2m7q1w8e5r4"

// hostsFile gives the mirror's names to loopback and those of the real
// registries to the address where origins listens.
func hostsFile() string {
	var b strings.Builder
	fmt.Fprintf(&b, "127.0.0.1 localhost %s\n", mirrorDomain)
	for _, label := range []string{"docker", "gcr", "k8s", "quay", "ghcr", "mcr", "extra", memberCode} {
		fmt.Fprintf(&b, "127.0.0.1 %s.%s\n", label, mirrorDomain)
	}
	for _, name := range realRegistries {
		fmt.Fprintf(&b, "%s %s\n", originAddress, name)
	}
	return b.String()
}

// loopbackUp is "ip link set lo up".
func loopbackUp() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	var request struct { // struct ifreq of netdevice(7)
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:], "lo")
	request.flags = syscall.IFF_UP | syscall.IFF_RUNNING
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return fmt.Errorf("setting the loopback interface up: %w", errno)
	}
	return nil
}

// again is this program with its arguments, at another stage.
func again(stage string, env ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(append(os.Environ(), stageVariable+"="+stage), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, os.Stdout, os.Stderr
	return cmd
}

func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}
