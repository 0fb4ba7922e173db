package transfer

import "context"

// Copy carries the jobs to a writer.
func Copy(ctx context.Context, jobs []Job, w Writer, o Options) (Report, error) {
	return Report{}, nil
}
