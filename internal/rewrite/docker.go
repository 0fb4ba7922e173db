package rewrite

import (
	"errors"
	"strings"

	"sampan/internal/rewrite/dockerfile"
)

var errTail = errors.New("the rest of the name would have to change too")

// dockerfile deals with a Dockerfile.
func (u *run) dockerfile() {
	spans, finds, err := dockerfile.Images(u.src)
	if err != nil {
		u.find(u.errorPlace(err), Finding{Reason: Unreadable, Err: err})
		return
	}
	for _, f := range finds {
		u.find(place(f.Start), Finding{Name: string(u.src[f.Start:f.End]), Reason: Argument, build: f.Reason})
	}
	for _, s := range spans {
		rename := u.rename
		if s.Prefix {
			rename = u.o.Prefix
		}
		text, ok, err := s.Replacement(rename)
		if bare, begins := strings.CutSuffix(string(u.src[s.Start:s.End]), "/"); err == nil && !ok && begins {
			text, err = u.o.Prefix(bare)
			text, ok = text+"/", err == nil
		}
		if err == nil && !ok {
			err = errTail
		}
		if err != nil {
			u.find(place(s.Start), Finding{Field: s.Instruction, Name: s.Name, Reason: NotRenamed, Err: err})
			continue
		}
		u.image(s.Start, s.End, s.Instruction, text)
		last := &u.images[len(u.images)-1]
		last.Prefix = s.Prefix || s.Rest != ""
	}
}

// errorPlace is the start of the line that an error is about.
func (u *run) errorPlace(err error) int32 {
	at := (*dockerfile.SyntaxError)(nil)
	if !errors.As(err, &at) {
		return 0
	}
	p := 0
	for range at.Line - 1 {
		p = after(u.src, p)
	}
	return place(p)
}
