// Package engine pulls images from a mirror into the container engine of a machine,
// under the images' own names: Docker, Podman, and containerd with what stands on it.
//
// An [Engine] promises that a pull either ends with the image under its own name, or
// leaves the names in the engine as they were: the mirror's name is taken away again,
// unless it was there before or is wanted. That holds when the pull fails at any step
// and when its context ends; it does not when the process is killed in the moment
// between the end of the transfer and the end of the naming. An own name that existed
// keeps its image until the new one is complete. Two pulls of one image, also of two
// processes of one user, follow each other.
//
// Errors are of type [Error] and say at which step something went wrong. The package
// asks only the engine and, where that does not fetch by itself, the mirror. It does
// not translate names, writes no settings of engines, and starts none.
package engine

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"sampan/internal/oci"
)

// A Kind is a kind of engine.
type Kind string

// The kinds. Nerdctl is containerd as nerdctl uses it: with its variables and its
// namespace.
const (
	Docker     Kind = "docker"
	Podman     Kind = "podman"
	Containerd Kind = "containerd"
	Nerdctl    Kind = "nerdctl"
)

// Kinds are all of them.
func Kinds() []Kind { return []Kind{Docker, Podman, Containerd, Nerdctl} }

// An Image is one to pull.
type Image struct {
	// Ref is its own name, with a tag, a digest, or both; the digest decides then.
	Ref oci.Reference
	// Mirror is its name at the mirror, with the same tag and digest.
	Mirror string
}

// mirrorHost is the host that the image is pulled from, with its port.
func (i Image) mirrorHost() string {
	host, _, _ := strings.Cut(i.Mirror, "/")
	return host
}

// pulled is the name at the mirror that is pulled: without the tag where there is a
// digest, because the digest decides.
func (i Image) pulled() string {
	if i.Ref.Digest.IsZero() || i.Ref.Tag.IsZero() {
		return i.Mirror
	}
	return strings.Replace(i.Mirror, ":"+i.Ref.Tag.String()+"@", "@", 1)
}

// path is that of the manifest below /v2/ at the mirror.
func (i Image) path() string {
	_, path, _ := strings.Cut(i.pulled(), "/")
	if !i.Ref.Digest.IsZero() {
		return strings.Replace(path, "@", "/manifests/", 1)
	}
	return strings.TrimSuffix(path, ":"+i.Ref.Tag.String()) + "/manifests/" + i.Ref.Tag.String()
}

// canonical is the own name by digest alone; empty without a digest.
func (i Image) canonical() string {
	if i.Ref.Digest.IsZero() {
		return ""
	}
	return i.Ref.Repository.String() + "@" + i.Ref.Digest.String()
}

// tagged is the own name without the digest. Engines that cannot name an image by a
// digest that they did not pull from that name get the tag sha256-, with the first
// twelve digits of the digest, where there is no other.
func (i Image) tagged() string {
	tag := i.Ref.Tag.String()
	if i.Ref.Tag.IsZero() {
		const digits = 12
		algorithm, hex, _ := strings.Cut(i.Ref.Digest.String(), ":")
		tag = algorithm + "-" + hex[:min(digits, len(hex))]
	}
	return i.Ref.Repository.String() + ":" + tag
}

// A Result is what a pull came to.
type Result struct {
	// Names are the image's own names in the engine, in full.
	Names []string
	// Invented: the image was asked for by digest alone, and the engine cannot keep
	// that as a name. Names holds the tag that it got instead.
	Invented bool
	// ID is the engine's, "sha256:…": the digest of the configuration, or of the
	// manifest where the engine keeps images so.
	ID string
	// Digest is that of the manifest or index that was pulled; empty where the engine
	// does not tell.
	Digest string
	// Existed: the engine had the image under that name already.
	Existed bool
	// Kept is the mirror's name where it is still there, because it was before or was
	// wanted; empty otherwise.
	Kept string
}

// An Engine pulls images. Its methods may be called concurrently.
type Engine interface {
	// Kind and Address say which engine this is, for people. Address may be empty.
	Kind() Kind
	Address() string
	// Pull gets an image under its own name. progress may be nil; it is called from
	// several goroutines, and not after Pull has returned.
	Pull(ctx context.Context, image Image, progress Progress) (Result, error)
	// Close ends the connection to the engine.
	Close() error
}

// A Progress hears how a pull goes.
type Progress func(Event)

// An Event is one step of one layer, or something that the engine says.
type Event struct {
	Layer string // short form of its digest; empty when it is about the whole image
	Phase Phase
	// Current and Total are bytes, of which Total is 0 where it is not known.
	Current, Total int64
	Text           string // of phase Said
}

// A Phase is how far a layer is.
type Phase string

// The phases, in their order. A layer ends as Exists or Complete. Extracted bytes are
// those of the compressed layer.
const (
	Waiting     Phase = "waiting"
	Downloading Phase = "downloading"
	Downloaded  Phase = "downloaded"
	Extracting  Phase = "extracting"
	Complete    Phase = "complete"
	Exists      Phase = "exists"
	Said        Phase = "said"
)

// A Step is where a pull can fail.
type Step string

// The steps, in their order.
const (
	StepFind  Step = "find"  // no engine is there
	StepReach Step = "reach" // the engine does not answer
	StepPull  Step = "pull"  // the engine could not get the image from the mirror
	StepTag   Step = "tag"   // it could not be named as it is called
	StepUntag Step = "untag" // the mirror's name could not be taken away; the own name is there
)

// A Hint is a cause that is likely, for which there is advice.
type Hint string

// The hints. Empty is none.
const (
	HintPermission Hint = "permission" // the engine's socket may not be opened
	HintMirrorDown Hint = "mirror"     // the mirror does not answer this machine either
	HintPlainHTTP  Hint = "plain-http" // the engine may insist on TLS
	HintUntrusted  Hint = "untrusted"  // the mirror's certificate is not trusted on this machine
	HintCA         Hint = "ca"         // the engine may not know the mirror's certificate authority
	HintSSH        Hint = "ssh"        // an address of a kind that is not spoken here
)

// An Error is that of a step.
type Error struct {
	Step    Step
	Kind    Kind   // empty where no engine was found
	Address string // of the engine
	Mirror  string // its host; empty where it does not matter
	Hint    Hint
	Err     error
}

func (e *Error) Error() string {
	where := cmp.Or(string(e.Kind), "engine")
	if e.Address != "" {
		where += " at " + e.Address
	}
	return fmt.Sprintf("%s (%s): %v", e.Step, where, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// tell makes a nil Progress one that can be called.
func tell(p Progress) Progress {
	if p == nil {
		return func(Event) {}
	}
	return p
}
