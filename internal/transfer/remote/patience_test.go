package remote

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sampan/internal/oci"
	"sampan/internal/transfer"
)

// A target that fails now and then is looked at as patiently as it is sent to.
func TestATargetThatFailsNowAndThen(t *testing.T) {
	for fact, fails := range map[string]func(f *fake, r *http.Request) bool{
		"each third request": func(f *fake, _ *http.Request) bool { return len(f.requests)%3 == 0 },
		"the first three of each question": func(f *fake, r *http.Request) bool {
			look := r.Method == http.MethodHead || r.Method == http.MethodGet && !strings.Contains(r.URL.Path, "/uploads/")
			return look && f.once(r.Method+r.URL.Path, 3)
		},
		"the first three of each manifest that is put": func(f *fake, r *http.Request) bool {
			return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") && f.once(r.URL.Path, 3)
		},
	} {
		for _, status := range []int{http.StatusInternalServerError, http.StatusBadGateway} {
			t.Run(fmt.Sprint(fact, " with ", status), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					from, to := emptyFake(), emptyFake()
					name, _ := oci.ParseRegistry("source.test")
					source := openInMemory(t, name, from)
					repo, _ := name.Repository("a/app")
					var blobs []*content
					for seed := range byte(6) {
						blobs = append(blobs, newContent(seed, 1000+int(seed)))
					}
					if err := carryByHand(t, source, repo, blobs); err != nil {
						t.Fatal(err)
					}
					to.behave.instead = func(f *fake, w http.ResponseWriter, r *http.Request) bool {
						if !fails(f, r) {
							return false
						}
						w.WriteHeader(status)
						return true
					}
					at, _ := oci.ParseRegistry("target.test")
					target, _ := at.Repository("b/app")
					tag, _ := oci.ParseTag("1")
					began := time.Now()
					_, err := transfer.Copy(t.Context(), []transfer.Job{{
						Source: oci.Reference{Repository: repo, Tag: tag}, Reader: source, Target: target, Tags: []oci.Tag{tag},
					}}, openInMemory(t, at, to), transfer.Options{})
					if err != nil || len(to.tags("b/app")) != 1 {
						t.Errorf("after %v: %v\n%s", time.Since(began), err, strings.Join(to.requests, "\n"))
					}
				})
			})
		}
	}
}

func emptyFake() *fake {
	return &fake{blobs: map[string]map[string][]byte{}, manifests: map[string]map[string]stored{}, uploads: map[string][]byte{}, hits: map[string]int{}}
}
