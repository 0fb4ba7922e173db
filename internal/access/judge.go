package access

import (
	"context"

	"sampan/internal/oci"
)

// judge tells why a client may not ask, by names alone.
func (g *Gate) judge(ctx context.Context, q question, level Level) error {
	trace := oci.TraceFrom(ctx)
	if level == Named || g.o.Rules.Personal() {
		trace.Private = true
	}
	rules := g.o.Rules
	if level == Named {
		rules = g.naming
	}
	v := rules.decide(ClientFrom(ctx), q.repo, q.tag)
	switch {
	case v.login:
		g.o.Metrics.deny(deniedLogin)
		return &oci.Error{
			Code: oci.CodeUnauthorized, Err: ErrLogin,
			Message: "this needs a user name and a password of this mirror. 需要使用本镜像站的用户名和密码登录。",
		}
	case !v.allowed && level == Named && v.reason == noRule:
		return hidden(q.code) // as if it did not exist: that it is here is not for everybody to know
	case !v.allowed:
		g.o.Metrics.deny(deniedByRule)
		return Denied(ctx, v.reason)
	}
	reason, refused := g.o.Policy.refuses(q.repo, q.tag)
	switch {
	case !refused:
		return nil
	case g.o.Policy.ReportOnly:
		g.o.Metrics.deny(deniedReported)
		g.o.Log.WarnContext(ctx, "the policy would refuse this", "repository", q.repo, "what", q.what, "reason", reason, "user", trace.Who)
		return nil
	default:
		g.o.Metrics.deny(deniedByPolicy)
		return Denied(ctx, reason)
	}
}

// Denied is the answer to what a rule or a policy refuses. The reason is for the
// client.
func Denied(ctx context.Context, reason string) error {
	if reason == "" {
		reason = "the operator of this mirror does not allow it"
	}
	oci.TraceFrom(ctx).Denied = reason
	return &oci.Error{Code: oci.CodeDenied, Message: reason}
}
