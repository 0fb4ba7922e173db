// Package access decides who may read what.
//
// A [Directory] knows who clients are, by passwords, by tokens and by codes in host
// names. [Rules] say who may have what, and a [Policy] what may be had at all; both
// decide by names alone.
//
// A [Gate] stands before the reader that answers. It promises that nothing is
// looked up for a client before its permission is known, so that what is in the
// cache shows neither in an answer nor in the work it took; that a permission
// which the registry itself gives is asked for as the client, once for all who
// ask as the same at the same time, and believed for a bounded time for that
// client and that repository alone; and that "it is not there" and "it is not
// for you" are the same answer, byte for byte.
//
// It keeps no credentials of registries: a client is remembered by an HMAC under a
// key that lives as long as the process, and what it says to a registry travels in
// its own token, sealed. It knows no HTTP and no configuration file.
//
// Lock order: every lock in this package is a leaf.
package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/singleflight"

	"sampan/internal/oci"
)

// A Level says who may read a repository.
type Level int

// The levels.
const (
	// Everybody who reaches the mirror.
	Everybody Level = iota
	// Own: whoever the registry itself lets read it, asked with the client's own
	// credentials.
	Own
	// Named: it is read with credentials that are not everybody's, and by those
	// alone whom a rule allows that names users, groups or codes.
	Named
)

// ErrLogin is the cause of an UNAUTHORIZED that is meant for the client: it may
// try again with a user name and a password.
var ErrLogin = errors.New("the client has to say who it is")

const (
	// grantFor is how long a permission is believed, refuseFor how long a
	// refusal.
	grantFor  = 5 * time.Minute
	refuseFor = 10 * time.Second
	// askTimeout bounds one question upstream, retries and redirects included.
	askTimeout = 2 * time.Minute
	// maxMemory bounds the permissions and the refusals that are remembered, each.
	maxMemory = 1 << 16
)

// Options of a [Gate]. Reader, Upstream, Level and Log are needed.
type Options struct {
	// Reader answers what is allowed. In a context with an [oci.Login] it asks
	// registries as that one.
	Reader oci.Reader
	// Upstream returns the registry itself, or why there is none.
	Upstream func(oci.Registry) (oci.Reader, error)
	// Level tells who may read a repository.
	Level func(oci.Repository) Level
	// Rules say who may have what, and Policy what may be had.
	Rules  Rules
	Policy Policy
	// Metrics count; nil for none.
	Metrics *Metrics
	Log     *slog.Logger
}

// A Gate is an [oci.Reader] of what the client may read. Who the client is, a
// context says ([WithLogin]).
type Gate struct {
	o        Options
	naming   Rules // of o.Rules
	key      [32]byte
	asking   singleflight.Group
	granted  memory[grant, struct{}]
	refusals memory[refusal, error]
}

var (
	_ oci.Reader     = (*Gate)(nil)
	_ oci.BlobStater = (*Gate)(nil)
	_ oci.BlobSeeker = (*Gate)(nil)
)

// New makes a Gate.
func New(o Options) (*Gate, error) {
	if o.Reader == nil || o.Upstream == nil || o.Level == nil || o.Log == nil {
		return nil, errors.New("access: Reader, Upstream, Level and Log are needed")
	}
	g := &Gate{o: o, naming: o.Rules.naming()}
	if _, err := rand.Read(g.key[:]); err != nil {
		return nil, fmt.Errorf("access: %w", err)
	}
	return g, nil
}

type loginKey struct{}

// WithLogin makes a context that carries what a client says it is. Nothing is
// asked in its name unless a repository's level says so.
func WithLogin(ctx context.Context, l oci.Login) context.Context {
	return context.WithValue(ctx, loginKey{}, l)
}

func loginFrom(ctx context.Context) oci.Login {
	l, _ := ctx.Value(loginKey{}).(oci.Login)
	return l
}

// A principal is a client as the gate remembers it.
type principal [sha256.Size]byte

// A grant is that a principal may read a repository.
type grant struct {
	who  principal
	repo oci.Repository
}

// A refusal is that a principal was not shown something of a repository.
type refusal struct {
	grant
	what string
}

// A question finds out, at the registry, whether what a client asks for is shown
// to it.
type question struct {
	repo oci.Repository
	tag  oci.Tag  // zero for none
	what string   // names it among the questions about the repository
	code oci.Code // of the answer when it is not shown
	ask  func(context.Context, oci.Reader) error
}

// enter returns the context in which the client's request is answered, or why it
// is not.
func (g *Gate) enter(ctx context.Context, q question) (context.Context, error) {
	level := g.o.Level(q.repo)
	if err := g.judge(ctx, q, level); err != nil {
		return nil, err
	}
	if level != Own {
		return ctx, nil
	}
	login := loginFrom(ctx)
	if !login.IsZero() {
		oci.TraceFrom(ctx).Private = true
	}
	ctx = oci.WithLogin(ctx, login)
	nobody := grant{g.principal(oci.Login{}), q.repo}
	if _, public := g.granted.get(nobody); public {
		return ctx, nil
	}
	own := grant{g.principal(login), q.repo}
	if _, ok := g.granted.get(own); ok {
		return ctx, nil
	}
	return ctx, g.confirm(ctx, refusal{own, q.what}, q)
}

func (g *Gate) principal(l oci.Login) principal { return l.Sum(g.key[:]) }

// confirm asks the registry as the client.
func (g *Gate) confirm(ctx context.Context, key refusal, q question) error {
	if err, refused := g.refusals.get(key); refused {
		return err
	}
	if err := oci.Admit(ctx, oci.Cost{Size: -1}); err != nil {
		return err
	}
	login, _ := oci.LoginFrom(ctx)
	ch := g.asking.DoChan(fmt.Sprintf("%x %s %s", key.who, q.repo, q.what), func() (any, error) {
		shared := oci.WithAdmission(context.WithoutCancel(ctx), nil) // it is everybody's who asks
		ctx, cancel := context.WithTimeout(oci.WithTrace(shared, new(oci.Trace)), askTimeout)
		defer cancel()
		up, err := g.o.Upstream(q.repo.Registry())
		if err == nil {
			err = q.ask(ctx, up)
		}
		switch {
		case err == nil:
			g.granted.put(key.grant, struct{}{}, grantFor)
		case oci.IsAnswer(err):
			err = answer(err, login, q.code)
			g.refusals.put(key, err, refuseFor)
		case ctx.Err() != nil:
			err = &oci.Error{Code: oci.CodeUnavailable, Message: "the upstream did not answer in time", Err: err}
		}
		return nil, err
	})
	select {
	case r := <-ch:
		return r.Err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// leave is the end of a request that enter let pass. What the registry shows no
// longer ends the permission.
func (g *Gate) leave(ctx context.Context, repo oci.Repository, code oci.Code, err error) error {
	login, own := oci.LoginFrom(ctx)
	if !own || err == nil || !oci.IsAnswer(err) {
		return err
	}
	switch oci.CodeOf(err) {
	case oci.CodeUnauthorized, oci.CodeDenied, oci.CodeNameUnknown:
		g.granted.drop(grant{g.principal(login), repo})
		return answer(err, login, code)
	case oci.CodeManifestUnknown, oci.CodeBlobUnknown:
		return hidden(code)
	default:
		return err
	}
}

// answer is what a client is told who was refused. Whoever has not said who it
// is may do so; whoever was refused as who it is learns no more than that.
func answer(err error, l oci.Login, code oci.Code) error {
	switch oci.CodeOf(err) {
	case oci.CodeUnauthorized:
		return unauthorized(l, err)
	case oci.CodeDenied, oci.CodeNameUnknown, oci.CodeManifestUnknown, oci.CodeBlobUnknown:
		if l.IsZero() {
			return unauthorized(l, err)
		}
		return hidden(code)
	default:
		return err
	}
}

func unauthorized(l oci.Login, err error) error {
	message := "the registry does not accept this user name and password"
	if l.IsZero() {
		message = "this needs a user name and a password of the registry itself, or does not exist"
	}
	return &oci.Error{Code: oci.CodeUnauthorized, Message: message, Err: fmt.Errorf("%w: %w", ErrLogin, err)}
}

// hidden is the one answer for what is not there and for what is not shown.
func hidden(code oci.Code) error {
	return &oci.Error{Code: code, Message: "it does not exist, or is not for you to read"}
}
