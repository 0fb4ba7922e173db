package config

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"sampan/internal/oci"
)

// Flags are the settings of the command line; an empty one was not given.
type Flags struct {
	Config      string   // --config FILE
	Listen      string   // --listen ADDR
	AdminListen string   // --admin-listen ADDR|off
	DataDir     string   // --data DIR
	Offline     string   // --offline[=true|false]
	Upstreams   []string // --upstream NAME=URL, repeatable
}

// A Source is where a configuration comes from. The zero value gives the
// defaults and what is in the usual files.
type Source struct {
	// File is the configuration file and must exist. Empty means Flags.Config,
	// then SAMPAN_CONFIG, and then the first of ./sampan.yaml and
	// /etc/sampan/sampan.yaml that exists; it may be that none does.
	File string
	// Environ is the environment, "KEY=value" each, as from [os.Environ]. A
	// variable that is empty counts as not set. Beside the settings below, it
	// gives the values of ${NAME} in the file and, by LC_ALL, LC_MESSAGES or
	// LANG, the language of messages, English or Chinese.
	//
	//	SAMPAN_CONFIG                    the file
	//	SAMPAN_LISTEN                    listen
	//	SAMPAN_ADMIN_LISTEN              admin.listen
	//	SAMPAN_DATA_DIR                  data.dir
	//	SAMPAN_DATA_MAX_SIZE             data.max_size
	//	SAMPAN_DOMAIN                    domain
	//	SAMPAN_DEFAULT                   default
	//	SAMPAN_OFFLINE                   offline
	//	SAMPAN_TAGS_FRESH_FOR            tags.fresh_for
	//	SAMPAN_TAGS_STALE_IF_ERROR       tags.stale_if_error
	//	SAMPAN_TAGS_MISSING_FOR          tags.missing_for
	//	SAMPAN_TAGS_REFRESH              tags.refresh
	//	SAMPAN_FETCH_LINES               fetch.lines
	//	SAMPAN_FETCH_LINES_PER_UPSTREAM  fetch.lines_per_upstream
	//	SAMPAN_FETCH_LINES_TOTAL         fetch.lines_total
	//	SAMPAN_FETCH_STALL               fetch.stall
	//	SAMPAN_FETCH_PREFETCH            fetch.prefetch
	//	SAMPAN_SHUTDOWN_GRACE            shutdown.grace
	//	SAMPAN_LOG_LEVEL                 log.level
	//	SAMPAN_LOG_FORMAT                log.format
	//	SAMPAN_LOG_ACCESS                log.access
	//	SAMPAN_LOG_ACCESS_FORMAT         log.access_format
	//	SAMPAN_LOG_AUDIT                 log.audit
	//	SAMPAN_TRACING_ENDPOINT          tracing.endpoint
	//	SAMPAN_TRACING_SAMPLE            tracing.sample
	//	SAMPAN_UPSTREAMS                 like --upstream, separated by commas or spaces
	Environ []string
	Flags   Flags
	// Bystander is for programs that serve nothing, such as those that ask the mirror:
	// archives and layouts need not be there.
	Bystander bool
}

// MaxFileSize bounds a configuration file, in bytes.
const MaxFileSize = 1 << 20

// maxSecretSize bounds a file with a password or token, in bytes.
const maxSecretSize = 64 << 10

// Load makes a configuration. The error joins a [*Problem] for everything that
// is wrong; then there is no configuration.
func Load(s Source) (*Config, error) {
	env := environment(s.Environ)
	l := &loader{
		config:    Default(s.Environ),
		env:       env,
		chinese:   chinese(env),
		bystander: s.Bystander,
		used:      make(map[string]bool),
		places:    make(map[string]place),
		upstreams: make(map[oci.Registry]*entry),
		aliases:   make(map[string]place),
	}
	for _, u := range l.config.Upstreams {
		l.upstreams[u.Registry] = &entry{Upstream: u}
	}
	file := cmp.Or(s.File, s.Flags.Config, env["SAMPAN_CONFIG"])
	if src, ok := l.read(file); ok {
		l.decode(src)
	}
	l.environment()
	l.flags(s.Flags)
	l.finish()
	if len(l.problems) > 0 {
		return nil, l.err()
	}
	return l.config, nil
}

// A loader gathers a configuration and all that is wrong with it.
type loader struct {
	config   *Config
	env      map[string]string
	chinese  bool
	file     string           // being decoded
	used     map[string]bool  // variables that the file mentions
	places   map[string]place // of settings that somebody wrote
	problems []*Problem

	bystander bool // archives need not be there

	upstreams map[oci.Registry]*entry
	aliases   map[string]place // of aliases that the file has

	// What rules mention, to be known when all is read.
	userNames, groupNames, codeNames []written[string]
	registries                       []written[oci.Registry]
}

// An entry is an upstream while it is gathered.
type entry struct {
	Upstream
	at     place // where the file has it; zero when it does not
	labels place // where the file has its hosts
	given  bool  // by flag or environment

	maxSize, minSize place // where the file has them

	rules    []place // of its Repositories
	accounts bool    // its accounts are for nobody unless somebody is named
}

// A place is where a value was written.
type place struct {
	file         string
	line, column int
	field        string
}

func (l *loader) complain(at place, c *complaint) {
	l.problems = append(l.problems, &Problem{
		File: at.file, Line: at.line, Column: at.column, Field: at.field, Message: c.text(l.chinese),
	})
}

// err joins the problems: those of the file first, from its top to its end.
func (l *loader) err() error {
	slices.SortStableFunc(l.problems, func(a, b *Problem) int {
		if (a.File == "") != (b.File == "") {
			return strings.Compare(b.File, a.File)
		}
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	errs := make([]error, len(l.problems))
	for i, p := range l.problems {
		errs[i] = p
	}
	return errors.Join(errs...)
}

// read finds and reads the file. An empty name means the usual ones.
func (l *loader) read(name string) (src []byte, ok bool) {
	candidates := []string{name}
	if name == "" {
		candidates = []string{"sampan.yaml", "/etc/sampan/sampan.yaml"}
	}
	for _, candidate := range candidates {
		src, err := readBounded(candidate, MaxFileSize)
		switch {
		case err == nil:
			l.file, l.config.File, l.config.FileSum = candidate, candidate, sha256.Sum256(src)
			return src, true
		case name == "" && errors.Is(err, fs.ErrNotExist):
			continue
		case errors.Is(err, errTooLarge):
			l.complain(place{file: candidate}, complainf(msgFileTooLarge, MaxFileSize>>20))
		default:
			l.complain(place{file: candidate}, complainf(msgUnreadable, reason(err)))
		}
		return nil, false
	}
	return nil, false
}

var errTooLarge = errors.New("too large")

func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(src)) > limit {
		return nil, errTooLarge
	}
	return src, nil
}

// reason is err without the name of the file, which is told already.
func reason(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// environment makes a map of "KEY=value" pairs; empty values are left out.
func environment(environ []string) map[string]string {
	env := make(map[string]string)
	for _, pair := range environ {
		if key, value, ok := strings.Cut(pair, "="); ok && value != "" {
			env[key] = value
		}
	}
	return env
}

func chinese(env map[string]string) bool {
	return strings.HasPrefix(cmp.Or(env["LC_ALL"], env["LC_MESSAGES"], env["LANG"]), "zh")
}
