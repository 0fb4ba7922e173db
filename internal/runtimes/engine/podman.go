package engine

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// podmanEngine uses Podman's command. Where that works by itself, it is told for the
// one pull that the image's repository is at the mirror, so that the image never has
// another name than its own. Where it is a service elsewhere that works, the mirror's
// name is pulled and replaced.
type podmanEngine struct {
	path    string
	url     string // of the service; empty for the command's own choice
	remote  bool
	options Options
}

func (p *podmanEngine) Kind() Kind      { return Podman }
func (p *podmanEngine) Address() string { return cmp.Or(p.url, p.path) }
func (p *podmanEngine) Close() error    { return nil }

// findPodman takes Podman's command or, without it, a socket of its service.
func findPodman(ctx context.Context, o Options) (Engine, error) {
	path, err := lookPath(o, "podman")
	if err != nil {
		return asEngine(findPodmanSocket(ctx, o))
	}
	p := &podmanEngine{path: path, url: socketURL(o.Address), options: o}
	out, err := p.run(ctx, nil, "info", "--format", "{{.Host.ServiceIsRemote}}")
	if err != nil {
		return nil, &Error{Step: StepReach, Kind: Podman, Address: p.Address(), Err: err}
	}
	p.remote = strings.TrimSpace(out) == "true"
	return p, nil
}

// findPodmanSocket connects to the service, which speaks as Docker does.
func findPodmanSocket(ctx context.Context, o Options) (*dockerEngine, error) {
	address := cmp.Or(socketURL(o.Address), o.Getenv("CONTAINER_HOST"))
	if address == "" {
		for _, socket := range []string{filepath.Join(o.Getenv("XDG_RUNTIME_DIR"), "podman/podman.sock"), "/run/podman/podman.sock"} {
			if isSocket(socket) {
				address = socketURL(socket)
				break
			}
		}
	}
	if address == "" {
		return nil, &Error{Step: StepFind, Kind: Podman, Err: ErrNone}
	}
	d, err := connect(ctx, endpoint{host: address, said: true})
	if e := (*Error)(nil); errors.As(err, &e) {
		e.Kind = Podman
		return nil, e
	}
	d.kind, d.options = Podman, o
	return d, nil
}

// Pull implements [Engine].
func (p *podmanEngine) Pull(ctx context.Context, image Image, progress Progress) (Result, error) {
	unlock, err := lock(ctx, p.Address()+" "+image.pulled())
	if err != nil {
		return Result{}, p.failed(ctx, StepPull, image, err)
	}
	defer unlock()
	dir, err := os.MkdirTemp("", "sampan-pull-")
	if err != nil {
		return Result{}, p.failed(ctx, StepPull, image, err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // what stays is cleaned up with its folder
	if p.remote {
		return p.pullRemote(ctx, image, dir, tell(progress))
	}
	return p.pullLocal(ctx, image, dir, tell(progress))
}

// pullLocal pulls the own name.
func (p *podmanEngine) pullLocal(ctx context.Context, image Image, dir string, progress Progress) (Result, error) {
	conf := filepath.Join(dir, "registries.conf")
	if err := os.WriteFile(conf, []byte(p.registries(image)), 0o600); err != nil {
		return Result{}, p.failed(ctx, StepPull, image, err)
	}
	first := cmp.Or(image.canonical(), image.tagged())
	had := p.id(ctx, first)
	id, err := p.pull(ctx, image.mirrorHost(), first, dir, []string{"CONTAINERS_REGISTRIES_CONF=" + conf}, progress)
	if err != nil {
		return Result{}, p.failed(ctx, StepPull, image, err)
	}
	result := Result{Names: []string{first}, ID: id, Digest: p.digest(ctx, image, first), Existed: had == id}
	if second := image.tagged(); !image.Ref.Tag.IsZero() && second != first {
		existed := p.id(ctx, second) == id
		if _, err := p.run(ctx, nil, "tag", id, second); err != nil {
			if had == "" {
				_ = p.cleanUp(ctx, "rmi", first) // the error that is told is the one before
			}
			return Result{}, p.failed(ctx, StepTag, image, err)
		}
		result.Names = []string{second, first}
		result.Existed = result.Existed && existed
	}
	return result, nil
}

// registries says where the repository is. The longest prefix decides, and no other is
// as long as a whole repository.
func (p *podmanEngine) registries(image Image) string {
	at := image.pulled()
	if i := strings.LastIndexByte(at, '@'); i >= 0 {
		at = at[:i]
	} else {
		at = strings.TrimSuffix(at, ":"+image.Ref.Tag.String())
	}
	return fmt.Sprintf("[[registry]]\nprefix = %q\nlocation = %q\ninsecure = %t\n", image.Ref.Repository.String(), at, p.options.PlainHTTP)
}

// pullRemote pulls the mirror's name and replaces it.
func (p *podmanEngine) pullRemote(ctx context.Context, image Image, dir string, progress Progress) (Result, error) {
	before := p.id(ctx, image.pulled()) != ""
	id, err := p.pull(ctx, image.mirrorHost(), image.pulled(), dir, nil, progress)
	var result Result
	if err != nil {
		err = p.failed(ctx, StepPull, image, err)
	} else {
		own := image.tagged()
		result = Result{Names: []string{own}, Invented: image.Ref.Tag.IsZero(), ID: id, Digest: p.digest(ctx, image, image.pulled()), Existed: p.id(ctx, own) == id}
		if _, err = p.run(ctx, nil, "tag", id, own); err != nil {
			result, err = Result{}, p.failed(ctx, StepTag, image, err)
		}
	}
	if before || p.options.KeepMirrorTag {
		result.Kept = image.pulled()
		return result, err
	}
	gone := p.cleanUp(ctx, "rmi", image.pulled())
	if gone != nil && err == nil {
		result.Kept = image.pulled()
		err = p.failed(ctx, StepUntag, image, gone)
	}
	return result, err
}

// pull runs `podman pull`, and returns the ID that it prints.
func (p *podmanEngine) pull(ctx context.Context, host, name, dir string, env []string, progress Progress) (string, error) {
	args := []string{"pull"}
	if p.options.Platform != "" {
		args = append(args, "--platform", p.options.Platform)
	}
	if p.options.PlainHTTP {
		args = append(args, "--tls-verify=false")
	}
	if p.options.CA != nil && !p.remote {
		certs := filepath.Join(dir, "certs")
		if err := os.Mkdir(certs, 0o700); err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(certs, "ca.crt"), p.options.CA, 0o600); err != nil {
			return "", err
		}
		args = append(args, "--cert-dir", certs)
	}
	if p.options.Username != "" {
		file, err := p.authFile(dir, host)
		if err != nil {
			return "", err
		}
		args = append(args, "--authfile", file)
	}
	blobs := &podmanBlobs{progress: progress}
	out, err := p.runWith(ctx, env, blobs.line, append(args, name)...)
	if err != nil {
		return "", err
	}
	blobs.end()
	lines := strings.Fields(out)
	if len(lines) == 0 {
		return "", errors.New("podman pull told no image ID")
	}
	return fullID(lines[len(lines)-1]), nil
}

// authFile writes the login to a file, because arguments are seen by everybody.
func (p *podmanEngine) authFile(dir, host string) (string, error) {
	type entry struct {
		Auth string `json:"auth"`
	}
	login := base64.StdEncoding.EncodeToString([]byte(p.options.Username + ":" + p.options.Password))
	raw, err := json.Marshal(map[string]map[string]entry{"auths": {host: {login}}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "auth.json")
	return path, os.WriteFile(path, raw, 0o600)
}

// id is the ID of what a name means; empty where it means nothing.
func (p *podmanEngine) id(ctx context.Context, name string) string {
	out, err := p.run(ctx, nil, "image", "inspect", "--format", "{{.Id}}", name)
	if err != nil {
		return ""
	}
	return fullID(strings.TrimSpace(out))
}

func fullID(id string) string {
	if id == "" || strings.Contains(id, ":") {
		return id
	}
	return "sha256:" + id
}

// digest is that of the manifest; empty where Podman does not tell.
func (p *podmanEngine) digest(ctx context.Context, image Image, name string) string {
	if !image.Ref.Digest.IsZero() {
		return image.Ref.Digest.String()
	}
	out, err := p.run(ctx, nil, "image", "inspect", "--format", "{{.Digest}}", name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(out)
}

func (p *podmanEngine) cleanUp(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpWithin)
	defer cancel()
	if p.id(ctx, args[len(args)-1]) == "" {
		return nil
	}
	_, err := p.run(ctx, nil, args...)
	return err
}

func (p *podmanEngine) run(ctx context.Context, env []string, args ...string) (string, error) {
	return p.runWith(ctx, env, func(string) {}, args...)
}

// runWith runs Podman with variables of its own, and has line called for each line
// that it writes to standard error. The error is what Podman says it is.
func (p *podmanEngine) runWith(ctx context.Context, env []string, line func(string), args ...string) (string, error) {
	if p.url != "" {
		args = append([]string{"--url", p.url}, args...)
	}
	cmd := exec.CommandContext(ctx, p.path, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	said, w := io.Pipe()
	cmd.Stderr = w
	failed := make(chan string)
	go func() {
		var last string
		lines := bufio.NewScanner(said)
		for lines.Scan() {
			if s := strings.TrimSpace(lines.Text()); s != "" {
				last = s
				line(s)
			}
		}
		_, _ = io.Copy(io.Discard, said) // what follows a line that is too long
		failed <- last
	}()
	err := cmd.Run()
	_ = w.Close() // of a pipe: it has no error
	last := <-failed
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if e := (*exec.ExitError)(nil); errors.As(err, &e) && last != "" {
		return "", errors.New(strings.TrimPrefix(last, "Error: "))
	}
	return stdout.String(), err
}

func (p *podmanEngine) failed(ctx context.Context, step Step, image Image, err error) error {
	e := &Error{Step: step, Kind: Podman, Address: p.Address(), Err: err}
	if ctx.Err() != nil {
		e.Err = ctx.Err()
		return e
	}
	if step == StepPull {
		e.Mirror = image.mirrorHost()
		switch h := p.options.hint(ctx, image); {
		case h == HintMirrorDown, h == HintUntrusted, h == HintCA && p.remote:
			e.Hint = h
		}
	}
	return e
}

// podmanBlobs reads what `podman pull` says without a terminal.
type podmanBlobs struct {
	progress Progress
	open     []string // called from one goroutine
}

func (b *podmanBlobs) line(s string) {
	rest, ok := strings.CutPrefix(s, "Copying blob ")
	if !ok {
		if !strings.HasPrefix(s, "Error") && !strings.HasPrefix(s, "Copying config") {
			b.progress(Event{Phase: Said, Text: s})
		}
		return
	}
	digest, what, _ := strings.Cut(rest, " ")
	if strings.Contains(what, "already exists") {
		b.progress(Event{Layer: short(digest), Phase: Exists})
		return
	}
	b.open = append(b.open, short(digest))
	b.progress(Event{Layer: short(digest), Phase: Downloading})
}

func (b *podmanBlobs) end() {
	for _, layer := range b.open {
		b.progress(Event{Layer: layer, Phase: Complete})
	}
}
