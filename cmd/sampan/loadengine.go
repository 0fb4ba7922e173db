package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sampan/internal/client"
	"sampan/internal/oci"
	"sampan/internal/progress"
	"sampan/internal/transfer"
	"sampan/internal/transfer/archive"
	"sampan/internal/transfer/layout"
)

// An engineCommand is the program by which an engine loads archives.
type engineCommand struct {
	name    string   // of the engine
	program string   // in PATH
	probe   []string // succeeds where the engine answers
	load    []string // reads an archive from standard input
	delta   bool     // blobs that it has may be missing in the archive
}

// engineCommands are the engines in the order in which they are looked for.
func engineCommands(namespace string) []engineCommand {
	var at []string
	if namespace != "" {
		at = []string{"--namespace", namespace}
	}
	with := func(args ...string) []string { return append(at[:len(at):len(at)], args...) }
	return []engineCommand{
		{"docker", "docker", []string{"version", "--format", "{{.Server.Version}}"}, []string{"load"}, true},
		{"podman", "podman", []string{"version"}, []string{"load"}, false},
		{"nerdctl", "nerdctl", with("info"), with("load"), true},
		{"containerd", "ctr", with("version"), with("images", "import", "-"), true},
	}
}

func engineNames() []string {
	var names []string
	for _, e := range engineCommands("") {
		names = append(names, e.name)
	}
	return names
}

const probeWithin = 20 * time.Second

// findEngine is the engine that was asked for, or the first that answers.
func (o loadOptions) findEngine(ctx context.Context) (engineCommand, error) {
	var failed []error
	for _, e := range engineCommands(o.namespace) {
		if o.engine != "auto" && o.engine != e.name {
			continue
		}
		err := e.answers(ctx)
		if err == nil {
			return e, nil
		}
		if o.engine == e.name || !errors.Is(err, exec.ErrNotFound) {
			failed = append(failed, err)
		}
	}
	if len(failed) == 0 {
		return engineCommand{}, errors.New(text("no container engine was found here; --to loads into a registry", "本机没有找到容器引擎；--to 可载入仓库"))
	}
	return engineCommand{}, errors.Join(failed...)
}

func (e engineCommand) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, e.program, e.probe...)
	var said bytes.Buffer
	cmd.Stderr = &said
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf(text("%s is not installed here: %w", "本机没有安装 %s：%w"), e.name, err)
	}
	if err != nil {
		return fmt.Errorf(text("%s does not answer: %w: %s", "%s 没有应答：%w：%s"), e.name, err, lastLine(said.String()))
	}
	return nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// loadEngine gives the archive to an engine, in the form that all versions read.
func (o loadOptions) loadEngine(cmd *cobra.Command, a *archive.Archive, images []layout.Image, platforms []transfer.Platform) error {
	ctx := cmd.Context()
	images, err := o.runnable(cmd, a, images)
	if err != nil {
		return err
	}
	p, err := replan(ctx, a, images, platforms)
	if oci.CodeOf(err) == oci.CodeManifestUnknown && len(platforms) == 0 { // an index without some of its children
		platforms = []transfer.Platform{{OS: "linux", Architecture: runtime.GOARCH}}
		if p, err = replan(ctx, a, images, platforms); err == nil {
			fmt.Fprintf(cmd.ErrOrStderr(), text("the archive has only a part of the platforms: what is for %s is loaded\n", "归档中只有一部分平台：载入 %s 的镜像\n"), platforms[0])
		}
	}
	if oci.CodeOf(err) == oci.CodeManifestUnknown {
		return fmt.Errorf("%w\n%s", archiveError(err), partText())
	}
	if err != nil {
		return archiveError(err)
	}
	if len(platforms) > 0 {
		images = p.Images() // with the digests of what was chosen
	}
	e, err := o.findEngine(ctx)
	if err != nil {
		return err
	}
	if n, _ := p.Without(); n > 0 && !e.delta {
		return fmt.Errorf(text("the archive lacks %s, which %s does not take from what it has: load into a registry with --to", "归档缺少 %s，而 %s 无法使用已有内容补全：请用 --to 载入仓库"), blobs(n), e.name)
	}
	show := o.progress.show(cmd.ErrOrStderr(), o.quiet || o.json(), archiveStates())
	err = e.stream(cmd, p, show, o.quiet)
	show.Close()
	if err != nil {
		if n, _ := p.Without(); n > 0 {
			return fmt.Errorf(text("%w\nthe archive lacks %s: load first what it was made to follow", "%w\n归档缺少 %s：请先载入它所依据的归档"), err, blobs(n))
		}
		return err
	}
	if o.json() {
		return writeEvents(cmd.OutOrStdout(), append(imageEvents(images), planSummary(p, e.name))...)
	}
	return list(cmd.OutOrStdout(), images)
}

// runnable are the images that an engine can run. It is told of others, which a registry
// takes: engines pass over them, or fail.
func (o loadOptions) runnable(cmd *cobra.Command, a *archive.Archive, images []layout.Image) ([]layout.Image, error) {
	var list []layout.Image
	for _, i := range images {
		switch {
		case runs(cmd.Context(), a, i.Ref.Repository, i.Descriptor.Digest, 0):
			list = append(list, i)
		case i.Named && !o.quiet && !o.json():
			fmt.Fprintf(cmd.ErrOrStderr(), text("%s is no image that an engine runs: it is not loaded\n", "%s 不是引擎可以运行的镜像，不载入\n"), client.Familiar(i.Ref))
		}
	}
	if len(list) == 0 {
		return nil, errors.New(text("nothing of it is an image that an engine runs; --to loads it into a registry", "其中没有引擎可以运行的镜像；--to 可载入仓库"))
	}
	return list, nil
}

// runs tells whether a manifest, or one that it names, is an image. What cannot be read
// counts as one: whoever loads it is told why.
func runs(ctx context.Context, a *archive.Archive, repo oci.Repository, digest oci.Digest, depth int) bool {
	const deepest = 8
	m, err := a.Manifest(ctx, repo, digest)
	if err != nil {
		return depth == 0
	}
	g, err := m.Graph()
	if err != nil || depth > deepest {
		return depth == 0
	}
	if len(g.Manifests) == 0 {
		return archive.IsImage(g) && g.Subject.Digest.IsZero()
	}
	return slices.ContainsFunc(g.Manifests, func(d oci.Descriptor) bool { return runs(ctx, a, repo, d.Digest, depth+1) })
}

// stream pipes the archive into the program. What it says goes to standard error; where
// that is to be quiet, only if it fails.
func (e engineCommand) stream(cmd *cobra.Command, p *archive.Plan, show *progress.Show, quiet bool) error {
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	load := exec.CommandContext(ctx, e.program, e.load...)
	load.Cancel = func() error { return load.Process.Signal(os.Interrupt) }
	load.WaitDelay = 10 * time.Second
	said, kept := show.Above(cmd.ErrOrStderr()), new(bytes.Buffer)
	if quiet {
		said = kept
	}
	load.Stdout, load.Stderr = said, said
	in, err := load.StdinPipe()
	if err != nil {
		return err
	}
	if err := load.Start(); err != nil {
		return err
	}
	written := archive.Stream(ctx, p, in, archive.WriteOptions{Progress: show, Text: text})
	if written != nil && !isPipe(written) {
		cancel() // an archive that is cut off must not be loaded
		_ = load.Wait()
		return archiveError(written)
	}
	written = errors.Join(written, in.Close())
	if err := load.Wait(); err != nil {
		_, _ = kept.WriteTo(cmd.ErrOrStderr()) // it fails in any case
		return fmt.Errorf("%s %s: %w", e.program, strings.Join(e.load, " "), err)
	}
	return written
}

// isPipe tells whether writing failed because nobody reads on.
func isPipe(err error) bool {
	return errors.Is(err, io.ErrClosedPipe) || errors.Is(err, os.ErrClosed) || errors.Is(err, syscall.EPIPE)
}
