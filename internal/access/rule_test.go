package access

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"sampan/internal/oci"
)

func selector(t *testing.T, registry, path, tag string) (s Selector) {
	t.Helper()
	var err error
	if registry != "" {
		if s.Registry, err = oci.ParseRegistry(registry); err != nil {
			t.Fatal(err)
		}
	}
	if path != "" {
		if s.Path, err = oci.ParsePattern(path); err != nil {
			t.Fatal(err)
		}
	}
	if tag != "" {
		if s.Tag, err = oci.ParsePattern(tag); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// reference is a repository with a tag, if there is one.
func reference(t *testing.T, s string) (repo oci.Repository, tag oci.Tag) {
	t.Helper()
	name, text, tagged := strings.Cut(s, ":")
	registry, path, _ := strings.Cut(name, "/")
	r, err := oci.ParseRegistry(registry)
	if err == nil {
		repo, err = r.Repository(path)
	}
	if err == nil && tagged {
		tag, err = oci.ParseTag(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	return repo, tag
}

var (
	office  = netip.MustParsePrefix("10.1.0.0/16")
	v6      = netip.MustParsePrefix("2001:db8:1::/48")
	inside  = Client{Addr: netip.MustParseAddr("10.1.2.3"), Host: "mirror.test"}
	mapped  = Client{Addr: netip.MustParseAddr("::ffff:10.1.2.3")}
	inside6 = Client{Addr: netip.MustParseAddr("2001:db8:1:2::3")}
	outside = Client{Addr: netip.MustParseAddr("192.0.2.1"), Host: "mirror.test"}
	ann     = Client{Addr: outside.Addr, Host: "mirror.test", User: "ann", Groups: []string{"dev"}}
	coded   = Client{Addr: outside.Addr, Host: "mirror.test", Code: "team"}
)

func TestTheFirstRuleThatMatchesDecides(t *testing.T) {
	library := []Selector{selector(t, "docker.io", "library/*", "")}
	for _, c := range []struct {
		fact   string
		rules  Rules
		client Client
		want   verdict
	}{
		{"no rules allow everything", nil, outside, verdict{allowed: true}},
		{"what no rule matches is denied", Rules{}, inside, verdict{reason: noRule}},
		{"a network is that of the address", Rules{{Allow: true, Networks: []netip.Prefix{office}}}, inside, verdict{allowed: true}},
		{"also of one written as IPv6", Rules{{Allow: true, Networks: []netip.Prefix{office}}}, mapped, verdict{allowed: true}},
		{"and of IPv6", Rules{{Allow: true, Networks: []netip.Prefix{office, v6}}}, inside6, verdict{allowed: true}},
		{"others are not in it", Rules{{Allow: true, Networks: []netip.Prefix{office, v6}}}, outside, verdict{reason: noRule}},
		{"who has no address is in no network", Rules{{Allow: true, Networks: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}}, Client{}, verdict{reason: noRule}},
		{"the first of two counts", Rules{{Reason: "no"}, {Allow: true}}, inside, verdict{reason: "no"}},
		{"one that does not match is passed over", Rules{{Networks: []netip.Prefix{office}}, {Allow: true}}, outside, verdict{allowed: true}},
		{"a user is named", Rules{{Allow: true, Users: []string{"ann"}}}, ann, verdict{allowed: true}},
		{"a user is one of any", Rules{{Allow: true, Users: []string{"*"}}}, ann, verdict{allowed: true}},
		{"or by a group", Rules{{Allow: true, Groups: []string{"ops", "dev"}}}, ann, verdict{allowed: true}},
		{"a code is named", Rules{{Allow: true, Codes: []string{"team"}}}, coded, verdict{allowed: true}},
		{"users or codes: either is enough", Rules{{Allow: true, Users: []string{"bob"}, Codes: []string{"team"}}}, coded, verdict{allowed: true}},
		{"a code is no user of the same name", Rules{{Allow: true, Users: []string{"team"}}}, coded, verdict{reason: noRule, login: true}},
		{"who might be the user is asked", Rules{{Allow: true, Users: []string{"ann"}}}, inside, verdict{reason: noRule, login: true}},
		{"who is another user is not", Rules{{Allow: true, Users: []string{"bob"}}}, ann, verdict{reason: noRule}},
		{"nobody is asked for a code", Rules{{Allow: true, Codes: []string{"team"}}}, inside, verdict{reason: noRule}},
		{"nobody is asked where the address is not allowed", Rules{{Allow: true, Users: []string{"ann"}, Networks: []netip.Prefix{office}}}, outside, verdict{reason: noRule}},
		{"nobody is asked after a denial", Rules{{Reason: "no"}, {Allow: true, Users: []string{"ann"}}}, inside, verdict{reason: "no"}},
		{"a host is that without its code", Rules{{Allow: true, Hosts: []string{"mirror.test"}}}, coded, verdict{allowed: true}},
		{"another host is not", Rules{{Allow: true, Hosts: []string{"other.test"}}}, coded, verdict{reason: noRule}},
		{"content is allowed", Rules{{Allow: true, Content: library}}, outside, verdict{allowed: true}},
		{"an upstream is allowed", Rules{{Allow: true, Upstreams: []oci.Registry{oci.DockerHub}}}, outside, verdict{allowed: true}},
		{"both have to match", Rules{{Allow: true, Upstreams: []oci.Registry{oci.DockerHub}, Content: []Selector{selector(t, "quay.io", "**", "")}}}, outside, verdict{reason: noRule}},
	} {
		repo, tag := reference(t, "docker.io/library/alpine:3")
		if got := c.rules.decide(c.client, repo, tag); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.fact, got, c.want)
		}
	}
}

func TestWhatAClientCanReachAtAll(t *testing.T) {
	some := []Selector{selector(t, "docker.io", "**", "")}
	for _, c := range []struct {
		fact    string
		rules   Rules
		client  Client
		private bool
		want    Reach
	}{
		{"without rules everything", nil, outside, false, Reach{Something: true}},
		{"outside of the networks nothing", Rules{{Allow: true, Networks: []netip.Prefix{office}}}, outside, false, Reach{Reason: noRule}},
		{"with the reason of the rule", Rules{{Allow: true, Networks: []netip.Prefix{office}}, {Reason: "office only"}}, outside, false, Reach{Reason: "office only"}},
		{"some content is something", Rules{{Allow: true, Content: some}}, outside, false, Reach{Something: true, Reason: noRule}},
		{"a denial of some content is none of all", Rules{{Content: some}, {Allow: true}}, outside, false, Reach{Something: true, Reason: noRule}},
		{"a login may open it", Rules{{Allow: true, Users: []string{"*"}}}, outside, false, Reach{Login: true, Reason: noRule}},
		{"or open more", Rules{{Allow: true, Content: some}, {Allow: true, Users: []string{"*"}}}, outside, false, Reach{Something: true, Login: true, Reason: noRule}},
		{"but not behind everything", Rules{{Allow: true}, {Allow: true, Users: []string{"*"}}}, outside, false, Reach{Something: true, Reason: noRule}},
		{"unless something needs a name", Rules{{Allow: true}, {Allow: true, Users: []string{"*"}}}, outside, true, Reach{Something: true, Login: true, Reason: noRule}},
		{"nor behind nothing", Rules{{Reason: "no"}, {Allow: true, Users: []string{"*"}}}, outside, false, Reach{Reason: "no"}},
		{"who is known is not asked", Rules{{Allow: true, Users: []string{"*"}}}, ann, false, Reach{Something: true, Reason: noRule}},
	} {
		if got := c.rules.Reach(c.client, c.private); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.fact, got, c.want)
		}
	}
}

func TestAPolicyIsAboutContent(t *testing.T) {
	p := Policy{
		Deny: []Denial{
			{selector(t, "docker.io", "library/alpine", "2.*"), "too old"},
			{selector(t, "", "evil/**", ""), ""},
		},
		Allow: []Selector{
			selector(t, "docker.io", "library/*", ""),
			selector(t, "quay.io", "team/app", "v1.*"),
			selector(t, "ghcr.io", "evil/x", ""),
		},
	}
	for ref, refused := range map[string]bool{
		"docker.io/library/alpine:3.1":   false,
		"docker.io/library/alpine:2.7":   true,
		"docker.io/library/alpine":       false, // by digest
		"docker.io/other/alpine:3.1":     true,
		"quay.io/team/app:v1.2":          false,
		"quay.io/team/app:v2.0":          true,
		"quay.io/team/app":               false, // what a tag leads to
		"quay.io/team/other":             true,
		"ghcr.io/evil/x:1":               true,
		"registry.k8s.io/evil/deep/er:2": true,
		"docker.io/library/deep/er:1":    true,
		"registry.k8s.io/library/alpine": true,
	} {
		repo, tag := reference(t, ref)
		if reason, got := p.refuses(repo, tag); got != refused {
			t.Errorf("%s: refused %v (%s)", ref, got, reason)
		}
	}
	if reason, refused := (Policy{}).refuses(reference(t, "docker.io/library/alpine:3")); refused {
		t.Error(reason)
	}
}

// A denial is by name alone: nothing is asked and nothing looked up.
func TestTheGateRefusesWithoutLooking(t *testing.T) {
	rules := Rules{
		{Reason: "not this", Content: []Selector{selector(t, "", "team/b", "")}},
		{Allow: true, Users: []string{"ann"}, Content: []Selector{selector(t, "", "closed/*", "")}},
		{Allow: true, Networks: []netip.Prefix{office}},
	}
	for _, c := range []struct {
		fact   string
		client Client
		repo   string
		policy Policy
		code   oci.Code
		login  bool
		denied string
	}{
		{fact: "allowed", client: inside, repo: "open/x"},
		{fact: "denied by a rule", client: inside, repo: "team/b", code: oci.CodeDenied, denied: "not this"},
		{fact: "denied by none", client: outside, repo: "open/x", code: oci.CodeDenied, denied: noRule},
		{fact: "asked who it is", client: inside, repo: "closed/x", code: oci.CodeUnauthorized, login: true},
		{fact: "allowed by name", client: ann, repo: "closed/x"},
		{fact: "somebody else does not learn that it exists", client: Client{Addr: inside.Addr, User: "bob"}, repo: "closed/x", code: oci.CodeManifestUnknown},
		{fact: "refused by policy", client: inside, repo: "open/x", policy: Policy{Deny: []Denial{{Reason: "old"}}}, code: oci.CodeDenied, denied: "old"},
		{fact: "reported by policy", client: inside, repo: "open/x", policy: Policy{Deny: []Denial{{Reason: "old"}}, ReportOnly: true}},
	} {
		t.Run(c.fact, func(t *testing.T) {
			f := newFixture(t)
			o := f.o
			o.Rules, o.Policy, o.Log = rules, c.policy, slog.New(slog.DiscardHandler)
			gate, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			trace := new(oci.Trace)
			ctx := WithClient(oci.WithTrace(context.Background(), trace), c.client)
			repo, tag := reference(t, "docker.io/"+c.repo+":1")
			_, err = gate.ResolveTag(ctx, repo, tag)
			if c.code == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if oci.CodeOf(err) != c.code || errors.Is(err, ErrLogin) != c.login || trace.Denied != c.denied {
				t.Errorf("got %v, denied %q", err, trace.Denied)
			}
			if len(f.up.asked) > 0 || f.cache.asked > 0 {
				t.Errorf("asked: %v, looked up: %v", f.up.asked, f.cache.asked)
			}
			if !trace.Private {
				t.Error("an answer that depends on who asks may be kept on the way")
			}
		})
	}
}

func TestAccountsOfLimitsAreOfWhoIsKnown(t *testing.T) {
	for want, c := range map[string]Client{
		"user ann":               {User: "ann", Code: "team", Addr: inside.Addr},
		"code team":              coded,
		"address 192.0.2.1/32":   outside,
		"address 10.1.2.3/32":    mapped,
		"address 2001:db8::/64":  {Addr: netip.MustParseAddr("2001:db8::1:2:3:4%eth0")},
		"address invalid Prefix": {},
		"user address 192.0.2.1": {User: "address 192.0.2.1"},
	} {
		if got := c.Account(); got != want {
			t.Errorf("%+v: %q, want %q", c, got, want)
		}
	}
}

// What is not looked at before this is known need not be: whoever can have nothing,
// and is not asked to log in, could have nothing as any user.
func TestWhoIsNotAskedToLogInCouldHaveNothingAsAnybody(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	some := func(list ...string) []string {
		if rnd.IntN(2) == 0 {
			return nil
		}
		return list[rnd.IntN(len(list)):][:1]
	}
	turnedAway := 0
	for range 20000 {
		var rules Rules
		for range 1 + rnd.IntN(4) {
			r := Rule{Allow: rnd.IntN(2) == 0, Users: some("ann", "*"), Groups: some("dev", "*"), Codes: some("team", "*"), Hosts: some("mirror.test", "other.test")}
			if rnd.IntN(3) == 0 {
				r.Upstreams = []oci.Registry{oci.DockerHub}
			}
			rules = append(rules, r)
		}
		c := Client{Host: "mirror.test", Code: []string{"", "team"}[rnd.IntN(2)]}
		private := rnd.IntN(2) == 0
		if r := rules.Reach(c, private); r.Something || r.Login {
			continue
		}
		turnedAway++
		for _, groups := range [][]string{nil, {"dev"}} {
			c.User, c.Groups = "ann", groups
			if r := rules.Reach(c, private); r.Something {
				t.Fatalf("%+v is turned away as nobody, and gets something as %+v", rules, c)
			}
		}
	}
	if turnedAway < 1000 {
		t.Errorf("only %d were turned away", turnedAway)
	}
}
