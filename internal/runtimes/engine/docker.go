package engine

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// dockerEngine speaks the Docker Engine API, of Docker or of Podman. The engine
// fetches by itself, from the mirror's name; that is then replaced.
type dockerEngine struct {
	api     *client.Client
	address string
	kind    Kind
	options Options
}

func (d *dockerEngine) Kind() Kind      { return d.kind }
func (d *dockerEngine) Address() string { return d.address }
func (d *dockerEngine) Close() error    { return d.api.Close() }

// Pull implements [Engine].
func (d *dockerEngine) Pull(ctx context.Context, image Image, progress Progress) (Result, error) {
	unlock, err := lock(ctx, d.address+" "+image.pulled())
	if err != nil {
		return Result{}, d.failed(ctx, StepPull, image, err)
	}
	defer unlock()
	_, err = d.api.ImageInspect(ctx, image.pulled())
	before := err == nil
	if err != nil && !errdefs.IsNotFound(err) {
		return Result{}, d.failed(ctx, StepReach, image, err)
	}
	result, err := d.pullAndTag(ctx, image, tell(progress))
	if before || d.options.KeepMirrorTag {
		result.Kept = image.pulled()
		return result, err
	}
	// The mirror's name goes, whatever became of the pull, and whoever has left.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpWithin)
	defer cancel()
	_, gone := d.api.ImageRemove(ctx, image.pulled(), client.ImageRemoveOptions{})
	if gone != nil && !errdefs.IsNotFound(gone) && err == nil {
		result.Kept = image.pulled()
		err = d.failed(ctx, StepUntag, image, gone)
	}
	return result, err
}

// cleanUpWithin bounds what is done after a pull was given up.
const cleanUpWithin = 15 * time.Second

func (d *dockerEngine) pullAndTag(ctx context.Context, image Image, progress Progress) (Result, error) {
	if err := d.pull(ctx, image, progress); err != nil {
		return Result{}, d.failed(ctx, StepPull, image, err)
	}
	got, err := d.api.ImageInspect(ctx, image.pulled())
	if err != nil {
		return Result{}, d.failed(ctx, StepTag, image, err)
	}
	own := image.tagged()
	result := Result{Names: []string{own}, Invented: image.Ref.Tag.IsZero(), ID: got.ID, Digest: image.Ref.Digest.String()}
	if image.Ref.Digest.IsZero() {
		repository := strings.TrimSuffix(image.pulled(), ":"+image.Ref.Tag.String())
		for _, name := range got.RepoDigests {
			if digest, ok := strings.CutPrefix(name, repository+"@"); ok {
				result.Digest = digest
			}
		}
	}
	if had, err := d.api.ImageInspect(ctx, own); err == nil && had.ID == got.ID {
		result.Existed = true
		return result, nil
	}
	if _, err := d.api.ImageTag(ctx, client.ImageTagOptions{Source: got.ID, Target: own}); err != nil {
		return Result{}, d.failed(ctx, StepTag, image, err)
	}
	return result, nil
}

// pull has the engine fetch, and reads what it says of that.
func (d *dockerEngine) pull(ctx context.Context, image Image, progress Progress) error {
	var o client.ImagePullOptions
	if d.options.Platform != "" {
		p, err := platforms.Parse(d.options.Platform)
		if err != nil {
			return err
		}
		o.Platforms = []ocispec.Platform{p}
	}
	var err error
	if o.RegistryAuth, err = d.options.registryAuth(ctx, image.mirrorHost()); err != nil {
		return err
	}
	answer, err := d.api.ImagePull(ctx, image.pulled(), o)
	if err != nil {
		return err
	}
	defer answer.Close()
	for message, err := range answer.JSONMessages(ctx) {
		if err != nil {
			return err
		}
		if message.Error != nil {
			return errors.New(message.Error.Message)
		}
		if e, ok := dockerEvent(message); ok {
			progress(e)
		}
	}
	return ctx.Err()
}

// dockerEvent reads a line of the stream. What is of no layer is the engine's talk.
func dockerEvent(m jsonstream.Message) (Event, bool) {
	e := Event{Layer: m.ID}
	if m.Progress != nil {
		e.Current, e.Total = m.Progress.Current, m.Progress.Total
	}
	switch m.Status {
	case "Pulling fs layer", "Waiting", "Retrying":
		e.Phase = Waiting
	case "Downloading":
		e.Phase = Downloading
	case "Verifying Checksum", "Download complete":
		e.Phase = Downloaded
	case "Extracting":
		e.Phase = Extracting
	case "Pull complete":
		e.Phase = Complete
	case "Already exists":
		e.Phase = Exists
	default:
		return Event{}, false
	}
	if e.Total < 0 || m.Progress != nil && m.Progress.Units != "" {
		e.Current, e.Total = 0, 0 // not bytes
	}
	return e, m.ID != ""
}

// failed makes the error of a step, and looks for the cause of one.
func (d *dockerEngine) failed(ctx context.Context, step Step, image Image, err error) error {
	e := &Error{Step: step, Kind: d.kind, Address: d.address, Err: err}
	if step != StepPull || ctx.Err() != nil {
		if ctx.Err() != nil {
			e.Err = ctx.Err()
		}
		return e
	}
	if client.IsErrConnectionFailed(err) {
		e.Step = StepReach
		return e
	}
	e.Mirror = image.mirrorHost()
	e.Hint = d.options.hint(ctx, image)
	return e
}

// registryAuth is the header with the login at the mirror; empty for none.
func (o Options) registryAuth(ctx context.Context, host string) (string, error) {
	username, password, err := o.login(ctx, host)
	if err != nil || username == "" && password == "" {
		return "", err
	}
	c := registry.AuthConfig{Username: username, Password: password, ServerAddress: host}
	if username == "" {
		c.Password, c.IdentityToken = "", password
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("login: %w", err)
	}
	return base64.URLEncoding.EncodeToString(raw), nil
}
