package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"sampan/internal/oci"
	"sampan/internal/registrytest"
	"sampan/internal/transfer"
	"sampan/internal/transfer/remote"
	"sampan/internal/upstream/failure"
)

// A sink takes everything.
type sink struct{}

func (sink) Has(context.Context, oci.Repository, oci.Descriptor) (bool, error) { return false, nil }

func (sink) PutBlob(ctx context.Context, _ oci.Repository, _ oci.Descriptor, open transfer.Open, _ []oci.Repository) error {
	r, err := open(ctx, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}

func (sink) PutManifest(context.Context, oci.Repository, oci.Descriptor, []byte, []oci.Tag) error {
	return nil
}

// What a registry answers, or does not, has its kind in the user's language; what it says
// itself, and what is technical, stays. HOST is the registry.
func TestAnAnswerIsToldInTheUsersLanguage(t *testing.T) {
	private := registrytest.Behavior{
		Challenge: registrytest.Challenge{Scheme: registrytest.SchemeBasic},
		Token:     registrytest.Token{Username: "me", Password: "right", Private: []string{"*"}},
	}
	for fact, c := range map[string]struct {
		behavior         registrytest.Behavior
		prepare          func(*registrytest.Registry)
		tag, password    string
		english, chinese string
	}{
		"an unknown image": {
			tag:     "none",
			english: "copy HOST/a/b:none: HOST does not have it",
			chinese: "复制 HOST/a/b:none：HOST 没有所请求的内容",
		},
		"a refused login": {
			behavior: private, password: "wrong",
			english: "copy HOST/a/b:1: HOST refuses the credentials that are configured for it\nLog in with docker login, or ask whoever runs the registry for permission, or for more room.",
			chinese: "复制 HOST/a/b:1：HOST 不接受为其配置的凭据\n请用 docker login 登录，或向仓库管理员申请权限或空间配额。",
		},
		"no login": {
			behavior: private,
			english:  "copy HOST/a/b:1: HOST asks for credentials and none are configured for it\nLog in with docker login, or ask whoever runs the registry for permission, or for more room.",
			chinese:  "复制 HOST/a/b:1：HOST 要求登录，但没有为其配置凭据\n请用 docker login 登录，或向仓库管理员申请权限或空间配额。",
		},
		"a limit": {
			prepare: func(r *registrytest.Registry) {
				r.FailNext(registrytest.KindAny, -1, registrytest.TooMany(registrytest.TooManyBare, time.Hour))
			},
			english: "copy HOST/a/b:1: HOST limits the rate of requests\nRun the command again in 1h0m0s: what has arrived is not sent again.",
			chinese: "复制 HOST/a/b:1：HOST 限制请求频率\n请在 1h0m0s 后再次运行该命令：已到达的内容不会重新传输。",
		},
		"nobody there": {
			prepare: func(r *registrytest.Registry) { _ = r.Close() },
			english: "copy HOST/a/b:1: HOST cannot be reached: connection refused (HOST)",
			chinese: "复制 HOST/a/b:1：无法连接 HOST：连接被拒绝（HOST）",
		},
		"a web page": {
			prepare: func(r *registrytest.Registry) { r.FailNext(registrytest.KindAny, -1, registrytest.HTML) },
			english: "copy HOST/a/b:1: HOST answered with a web page instead of a manifest",
			chinese: "复制 HOST/a/b:1：HOST 的应答无法使用：answered with a web page instead of a manifest",
		},
		"a source that breaks off": {
			behavior: registrytest.Behavior{Faults: []registrytest.Fault{{Truncate: true, TruncateAfter: 1000}}},
			english:  "copy HOST/a/b:1: blob LAYER: upstream HOST: blob LAYER broke off at 1000 bytes: unexpected EOF",
			chinese:  "复制 HOST/a/b:1：blob LAYER: HOST 中断了连接（HOST）：upstream HOST: blob LAYER broke off at 1000 bytes: unexpected EOF",
		},
	} {
		t.Run(fact, func(t *testing.T) {
			up := registrytest.StartTest(t, registrytest.Options{Behavior: c.behavior})
			layer := up.AddImage("a/b", "1", registrytest.ImageSpec{Layers: []int64{5000}}).Layers[0][0].Digest
			host := strings.TrimPrefix(up.URL(), "http://")
			name := "1"
			if c.tag != "" {
				name = c.tag
			}
			ref, err := oci.ParseReference(host + "/a/b:" + name)
			if err != nil {
				t.Fatal(err)
			}
			login := filepath.Join(t.TempDir(), "config.json")
			if c.password != "" {
				auths := fmt.Sprintf(`{"auths":{%q:{"username":"me","password":%q}}}`, host, c.password)
				if err := os.WriteFile(login, []byte(auths), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if c.prepare != nil {
				c.prepare(up)
			}
			from, err := remote.Open(ref.Repository.Registry(), remote.Options{DockerConfig: login}, false)
			if err != nil {
				t.Fatal(err)
			}
			defer from.Close()
			_, err = transfer.Copy(t.Context(), []transfer.Job{{Source: ref, Reader: from, Target: ref.Repository}}, sink{}, transfer.Options{
				Pause: func(_ context.Context, _ int, err error) error { return err },
			})
			for language, want := range map[string]string{"C": c.english, "zh_CN.UTF-8": c.chinese} {
				t.Setenv("LC_ALL", language)
				want = strings.NewReplacer("HOST", host, "LAYER", layer.String()).Replace(want)
				if got := copyError(err); got == nil || got.Error() != want {
					t.Errorf("got\n%v\nwant\n%s", got, want)
				}
			}
		})
	}
}

// No kind of failure is forgotten, and no fact is told in one language alone.
func TestEveryFailureIsToldInBothLanguages(t *testing.T) {
	registry, err := oci.ParseRegistry("registry.example")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for kind := failure.Unusable; kind <= failure.LeftAlone; kind++ {
		ways := []bool{false}
		if kind >= failure.Unreachable && kind <= failure.BrokenOff {
			ways = append(ways, true)
		}
		for _, proxy := range ways {
			f := &failure.Facts{
				Kind: kind, Registry: registry, Host: "host.example", Proxy: proxy, Repository: "a/b", Status: 418, Said: "because",
				What: "sent nonsense", Last: &failure.Facts{Kind: failure.CertUntrusted, Registry: registry}, Again: 7 * time.Second,
			}
			english, chinese := f.Sentence(), failureInChinese(f)
			if !strings.ContainsFunc(chinese, func(r rune) bool { return unicode.Is(unicode.Han, r) }) || seen[chinese] {
				t.Errorf("kind %d: %q", kind, chinese)
			}
			seen[chinese] = true
			for _, fact := range []string{"registry.example", "host.example", "a/b", "418", "because", "sent nonsense", "7s", "TLS", "DNS", "SOCKS"} {
				if strings.Contains(english, fact) != strings.Contains(chinese, fact) {
					t.Errorf("kind %d: %q is in one of %q, %q", kind, fact, english, chinese)
				}
			}
		}
	}
}

func TestAnErrorOfTheProtocolHasItsKindInChinese(t *testing.T) {
	for want, e := range map[string]*oci.Error{
		"名字不正确：no name":       {Code: oci.CodeNameInvalid, Message: "no name"},
		"没有这个 blob：gone":      {Code: oci.CodeBlobUnknown, Message: "gone"},
		"目标空间不足：full":         {Code: oci.CodeDenied, Message: "full", Err: fmt.Errorf("%w: x", remote.ErrFull)},
		"目标不接受此类清单：old":       {Code: oci.CodeUnsupported, Message: "old", Err: remote.ErrRefused},
		"目标只接受完整的索引：sparse":   {Code: oci.CodeManifestInvalid, Message: "sparse", Err: remote.ErrSparse},
		"no such. 没有。":        {Code: oci.CodeNameUnknown, Message: "no such. 没有。"},
		"what nobody expects": {Code: "NEW", Message: "what nobody expects"},
	} {
		t.Setenv("LC_ALL", "zh_CN.UTF-8")
		if got := sentence(e); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		t.Setenv("LC_ALL", "C")
		if got := sentence(e); got != e.Message {
			t.Errorf("got %q, want %q", got, e.Message)
		}
	}
}
