package oci

import "context"

// A Cost is what it takes to answer from upstream.
type Cost struct {
	// Blob tells that a blob has to come; otherwise it is a manifest or a list.
	Blob bool
	// Size is that of the blob, in bytes; -1 when it is not known.
	Size int64
	// Digest is that of the blob; zero when it is none.
	Digest Digest
	// Late tells what a blob that was asked for before comes to: Size when it begins
	// to come, 0 when it does not. It is counted and no longer refused.
	Late bool
}

// An Admission is asked before something has to come from upstream for whoever asks,
// and fails where that one may not have it come. What is here already is not its
// affair, nor whether a tag is still where it was.
type Admission func(ctx context.Context, c Cost) error

type admissionKey struct{}

// WithAdmission makes a context in which a is asked; nil asks nobody.
func WithAdmission(ctx context.Context, a Admission) context.Context {
	return context.WithValue(ctx, admissionKey{}, a)
}

// Admit asks the Admission of ctx; without one, everything is admitted.
func Admit(ctx context.Context, c Cost) error {
	if a, ok := ctx.Value(admissionKey{}).(Admission); ok && a != nil {
		return a(ctx, c)
	}
	return nil
}
