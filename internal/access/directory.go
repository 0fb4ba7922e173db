package access

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"time"

	"sampan/internal/access/htpasswd"
	"sampan/internal/follow"
	"sampan/internal/oci"
)

// A User is one whose password the configuration names.
type User struct {
	Name string
	// Password is what it was when the configuration was read. File has it in it
	// and is read again when it changes; empty for none.
	Password, File string
	Groups         []string
}

// A UserFile is a file of htpasswd's form, read again when it changes.
type UserFile struct {
	Path   string
	Groups []string // that all in it are in
}

// A Verifier checks tokens that somebody else has given to clients.
type Verifier interface {
	// Verify returns for whom a token is, and until when. The name has a colon in
	// it, which no user of a [Directory] has. It fails with [ErrForeign] for tokens
	// that are none of those it knows.
	Verify(ctx context.Context, token string) (name string, groups []string, until time.Time, err error)
	// Knows tells whether a name is one that Verify may return.
	Knows(name string) bool
}

// ErrForeign is that a token is none of those that a [Verifier] knows.
var ErrForeign = errors.New("not a token of a known issuer")

// DirectoryOptions are what a [Directory] is made of. Key, Guard and Log are
// needed.
type DirectoryOptions struct {
	Users []User
	Files []UserFile
	Codes []Code
	// Issuers check tokens of others; nil for none.
	Issuers Verifier
	// Key keeps tokens secret; all replicas of a mirror share it. At least
	// [MinTokenKey] bytes.
	Key   []byte
	Guard *Guard
	// Metrics count; nil for none.
	Metrics *Metrics
	Log     *slog.Logger
}

// A Directory knows who clients are. It promises that a wrong password takes as
// long as one of nobody, that who guesses is slowed down before anything is
// computed, that at most as many passwords are checked at once as there are
// processors, and that a user who is gone, or whose password has changed, is gone
// at once with all tokens. Its methods may be called concurrently.
type Directory struct {
	o      DirectoryOptions
	sealer sealer
	files  []userFile
	users  map[string]user
	codes  *codes

	compute  func(htpasswd.Hash, string) bool // Verify, which takes its time
	secret   [32]byte                         // under which logins are remembered
	checking chan struct{}
	right    memory[[sha256.Size]byte, string] // checked logins: what they were checked against
}

type user struct {
	User
	file *follow.File[string] // nil without
}

type userFile struct {
	UserFile
	file *follow.File[map[string]htpasswd.Hash]
}

// rightFor is how long a password that was checked is known to be right, as long as
// its hash stays the same.
const rightFor = 10 * time.Minute

// NewDirectory makes a Directory. Files that cannot be read yet are read when
// somebody comes.
func NewDirectory(o DirectoryOptions) (*Directory, error) {
	if o.Guard == nil || o.Log == nil {
		return nil, errors.New("access: Guard and Log are needed")
	}
	s, err := newSealer(o.Key)
	if err != nil {
		return nil, err
	}
	d := &Directory{
		o: o, sealer: s, codes: newCodes(o.Codes, o.Log), users: make(map[string]user),
		checking: make(chan struct{}, runtime.GOMAXPROCS(0)), compute: htpasswd.Hash.Verify,
	}
	if _, err := rand.Read(d.secret[:]); err != nil {
		return nil, fmt.Errorf("access: %w", err)
	}
	for _, f := range o.Files {
		d.files = append(d.files, userFile{f, follow.New(f.Path, o.Log, htpasswd.Parse)})
	}
	for _, u := range o.Users {
		one := user{User: u}
		if u.File != "" {
			one.file = follow.Secret(u.File, u.Password, o.Log)
		}
		d.users[u.Name] = one
	}
	return d, nil
}

// KnowsUsers tells whether there is anybody to log in as.
func (d *Directory) KnowsUsers() bool {
	return len(d.users)+len(d.files) > 0 || d.o.Issuers != nil
}

// KnowsCodes tells whether there are access codes.
func (d *Directory) KnowsCodes() bool { return len(d.codes.list) > 0 }

// Host takes an access code off the front of a host name, which it returns in lower
// case and without port. The name of the code is empty where there is none.
func (d *Directory) Host(host string) (rest, code string) {
	rest, code, _ = d.codes.cut(strings.ToLower(strings.TrimSuffix(host, ".")))
	return rest, code
}

// An Identity is what a client has proven. The zero value is nobody.
type Identity struct {
	// User is the name; empty for nobody of this mirror.
	User   string
	Groups []string
	// Login is what the client says to registries themselves; zero for nothing.
	Login oci.Login

	proof []byte
	until time.Time // zero: as long as a token is good
}

// Login finds out who has a user name and a password. A token of an issuer may stand
// in place of the password. Where strangers is true, a name that is not known here
// is passed through: it may be that of a registry. Fails with UNAUTHORIZED, and with
// TOOMANYREQUESTS for who has guessed too often.
func (d *Directory) Login(ctx context.Context, from netip.Addr, l oci.Login, strangers bool) (Identity, error) {
	if l.Username == "" {
		return Identity{}, nil
	}
	entry, groups, known := d.find(l.Username)
	sum := l.Sum(d.secret[:])
	if known {
		if against, ok := d.right.get(sum); ok && against == entry.against() {
			return d.identity(l.Username, groups, entry), nil
		}
	}
	if d.o.Issuers != nil && strings.Count(l.Password, ".") == 2 {
		id, err := d.verify(ctx, l.Password)
		if !errors.Is(err, ErrForeign) {
			return id, err
		}
	}
	if !known && strangers {
		return Identity{Login: l}, nil
	}
	return d.check(ctx, from, l, entry, groups, sum)
}

// check computes whether the password is right.
func (d *Directory) check(ctx context.Context, from netip.Addr, l oci.Login, e entry, groups []string, sum [sha256.Size]byte) (Identity, error) {
	forgive, wait := d.o.Guard.Try(from)
	if forgive == nil {
		d.o.Metrics.login(loginSlowed)
		oci.TraceFrom(ctx).Denied = "too many wrong passwords"
		return Identity{}, &oci.Error{
			Code: oci.CodeTooManyRequests, RetryAfter: wait,
			Message: "too many wrong passwords came from your address; wait before the next one. 密码错误次数过多，请稍后再试。",
		}
	}
	select {
	case d.checking <- struct{}{}:
		defer func() { <-d.checking }()
	case <-ctx.Done():
		forgive()
		return Identity{}, context.Cause(ctx)
	}
	if !d.matches(e, l.Password) {
		d.o.Metrics.login(loginWrong)
		oci.TraceFrom(ctx).Denied = "wrong user name or password"
		return Identity{}, &oci.Error{
			Code: oci.CodeUnauthorized, Err: ErrLogin,
			Message: "wrong user name or password. 用户名或密码错误。",
		}
	}
	forgive()
	d.o.Metrics.login(loginRight)
	d.right.put(sum, e.against(), rightFor)
	return d.identity(l.Username, groups, e), nil
}

// Token finds out for whom a bearer token is. Fails with UNAUTHORIZED.
func (d *Directory) Token(ctx context.Context, token string) (Identity, error) {
	c, err := d.sealer.open(token)
	if err != nil {
		if d.o.Issuers != nil && strings.Count(token, ".") == 2 {
			return d.verify(ctx, token)
		}
		return Identity{}, badToken(err)
	}
	id := Identity{User: c.User, Groups: c.Groups, Login: c.login(), proof: c.Proof, until: time.Unix(c.Expires, 0)}
	switch {
	case c.User == "":
		return id, nil
	case strings.Contains(c.User, ":"): // of an issuer, which may be gone since
		if d.o.Issuers == nil || !d.o.Issuers.Knows(c.User) {
			return Identity{}, badToken(errToken)
		}
		return id, nil
	}
	e, groups, known := d.find(c.User)
	if !known || !hmac.Equal(c.Proof, d.proof(e)) {
		return Identity{}, badToken(errToken)
	}
	id.Groups = groups
	return id, nil
}

// verify asks the issuers.
func (d *Directory) verify(ctx context.Context, token string) (Identity, error) {
	name, groups, until, err := d.o.Issuers.Verify(ctx, token)
	switch {
	case err == nil:
		return Identity{User: name, Groups: groups, until: until}, nil
	case oci.CodeOf(err) == oci.CodeUnavailable:
		return Identity{}, err
	default:
		oci.TraceFrom(ctx).Denied = "token of an issuer not accepted"
		return Identity{}, badToken(err)
	}
}

// ErrToken is the cause of an UNAUTHORIZED about a token that is not good, or no
// longer: the client may get another.
var ErrToken = errors.New("the token is not good")

func badToken(err error) error {
	return &oci.Error{
		Code: oci.CodeUnauthorized, Err: fmt.Errorf("%w: %w: %w", ErrLogin, ErrToken, err),
		Message: "the token is not one of this mirror, or is over; log in again. 令牌无效或已过期，请重新登录。",
	}
}

// Issue makes a token for what a client has proven, good until then.
func (d *Directory) Issue(id Identity) (token string, until time.Time, err error) {
	until = time.Now().Add(TokenFor).Truncate(time.Second)
	if !id.until.IsZero() && id.until.Before(until) {
		until = id.until
	}
	token, err = d.sealer.seal(claims{
		User: id.User, Groups: id.Groups, Proof: id.proof,
		Name: id.Login.Username, Secret: id.Login.Password, Expires: until.Unix(),
	})
	return token, until, err
}

func (d *Directory) identity(name string, groups []string, e entry) Identity {
	return Identity{User: name, Groups: groups, proof: d.proof(e)}
}

// An entry is what a password is checked against. The zero value is that of nobody.
type entry struct {
	hash     htpasswd.Hash
	password string
	decoy    htpasswd.Hash // of somebody: what is computed where there is no hash
}

// find returns what is known of a user now.
func (d *Directory) find(name string) (e entry, groups []string, known bool) {
	if u, ok := d.users[name]; ok {
		e.password = u.Password
		if u.file != nil {
			if text, err := u.file.Get(false); err == nil {
				e.password = text
			}
		}
		e.decoy = d.decoy()
		return e, u.Groups, e.password != ""
	}
	for _, f := range d.files {
		hashes, err := f.file.Get(false)
		if err != nil {
			continue // it has told the log
		}
		if h, ok := hashes[name]; ok {
			return entry{hash: h}, f.Groups, true
		}
	}
	return entry{decoy: d.decoy()}, nil, false
}

// decoy is the hash of somebody; zero where there is none.
func (d *Directory) decoy() htpasswd.Hash {
	for _, f := range d.files {
		hashes, err := f.file.Get(false)
		if err != nil {
			continue // it has told the log
		}
		for _, h := range hashes {
			return h
		}
	}
	return htpasswd.Hash{}
}

// against tells entries apart.
func (e entry) against() string { return e.hash.Text() + "\n" + e.password }

// matches tells whether a password is the one of an entry. Where there are hashes, one
// is computed for every name, so that the time tells nobody which names there are.
func (d *Directory) matches(e entry, password string) bool {
	switch {
	case e.hash != (htpasswd.Hash{}):
		return d.compute(e.hash, password)
	case e.decoy != (htpasswd.Hash{}):
		_ = d.compute(e.decoy, password) // for its time
	}
	a, b := oci.Login{Password: password}.Sum(d.secret[:]), oci.Login{Password: e.password}.Sum(d.secret[:])
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && e.password != ""
}

// proof ties a token to the password that it was given for. It is the same in all
// replicas, which share the key.
func (d *Directory) proof(e entry) []byte {
	h := hmac.New(sha256.New, d.o.Key)
	_, _ = h.Write([]byte("sampan proof 1\n" + e.against())) // a hash does not fail
	return h.Sum(nil)[:16]
}
