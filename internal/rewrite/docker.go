package rewrite

import (
	"errors"

	"sampan/internal/rewrite/dockerfile"
)

// dockerfiles is the first of the reasons that the package dockerfile knows.
const dockerfiles Reason = 100

// dockerfile deals with a Dockerfile. The field of an image is its instruction.
func (u *run) dockerfile() {
	spans, finds, err := dockerfile.Images(u.src)
	if err != nil {
		at := 0
		var syntax *dockerfile.SyntaxError
		if errors.As(err, &syntax) {
			at = lineStart(u.src, syntax.Line)
		}
		u.find(int32(at), Finding{Reason: dockerfiles + Reason(dockerfile.Unreadable), Err: err}) //nolint:gosec // files are smaller than 2 GiB
		return
	}
	for _, f := range finds {
		u.find(int32(f.Start), Finding{Name: string(u.src[f.Start:f.End]), Reason: dockerfiles + Reason(f.Reason)}) //nolint:gosec // as above
	}
	for _, s := range spans {
		rename := u.rename
		if s.Prefix {
			rename = u.o.Prefix
		}
		name, ok, err := s.Replacement(rename)
		switch {
		case err != nil:
			u.find(int32(s.Start), Finding{Field: s.Instruction, Name: s.Name, Reason: NotRenamed, Err: err}) //nolint:gosec // as above
		case !ok:
			u.find(int32(s.Start), Finding{Field: s.Instruction, Name: s.Name, Reason: dockerfiles + Reason(dockerfile.Composed)}) //nolint:gosec // as above
		default:
			u.image(s.Start, s.End, s.Instruction, name)
			u.images[len(u.images)-1].Prefix = s.Prefix
		}
	}
}

// lineStart is where a line begins, counted from 1.
func lineStart(src []byte, line int) int {
	at := 0
	for i, c := range src {
		if line <= 1 {
			break
		}
		if c == '\n' {
			line--
			at = i + 1
		}
	}
	return at
}
