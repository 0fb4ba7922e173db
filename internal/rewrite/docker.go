package rewrite

// dockerfile deals with a Dockerfile.
func (u *run) dockerfile() {
	u.find(0, Finding{Reason: Unreadable})
}
