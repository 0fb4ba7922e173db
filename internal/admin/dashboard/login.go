package dashboard

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"sampan/internal/access"
	"sampan/internal/admin"
	"sampan/internal/web"
)

const (
	cookie = "sampan_session"
	// sessionFor is how long a login lasts, and maxSessions how many there are at once:
	// the oldest goes.
	sessionFor  = 12 * time.Hour
	maxSessions = 100
)

// sessions are the logins of this process. A restart ends them all.
type sessions struct {
	token [sha256.Size]byte
	guard *access.Guard
	now   func() time.Time

	mu   sync.Mutex
	open map[[sha256.Size]byte]time.Time // until when, by the sum of what the cookie says
}

func newSessions(token string, now func() time.Time) *sessions {
	return &sessions{token: sha256.Sum256([]byte(token)), guard: access.NewGuard(), now: now, open: map[[sha256.Size]byte]time.Time{}}
}

// begin makes a session and returns what its cookie says.
func (s *sessions) begin() string {
	secret := rand.Text() + rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	var oldest [sha256.Size]byte
	for sum, until := range s.open {
		if !until.After(now) {
			delete(s.open, sum)
		} else if first, ok := s.open[oldest]; !ok || until.Before(first) {
			oldest = sum
		}
	}
	if len(s.open) >= maxSessions {
		delete(s.open, oldest)
	}
	s.open[sha256.Sum256([]byte(secret))] = now.Add(sessionFor)
	return secret
}

func (s *sessions) has(r *http.Request) bool {
	c, err := r.Cookie(cookie)
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[sha256.Sum256([]byte(c.Value))].After(s.now())
}

func (s *sessions) end(r *http.Request) {
	if c, err := r.Cookie(cookie); err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, sha256.Sum256([]byte(c.Value)))
	}
}

// enter tells whether a request may go on; otherwise it has answered it.
func (d *Dashboard) enter(w http.ResponseWriter, r *http.Request) bool {
	if d.o.Token == "" {
		err := admin.Free(r)
		if err != nil {
			d.answer(w, r, view{}, err)
		}
		return err == nil
	}
	if d.sessions.has(r) {
		return true
	}
	d.render(w, r, http.StatusUnauthorized, view{"login", loginData{Next: nextOf(r)}})
	return false
}

// nextOf is the page that was asked for; empty where it was no page.
func nextOf(r *http.Request) string {
	if r.Method != http.MethodGet || len(r.URL.RequestURI()) > 1000 {
		return ""
	}
	return r.URL.RequestURI()
}

// loginData is what the page of the login shows.
type loginData struct {
	Next   string // where to go then
	Wrong  bool
	Slowed time.Duration // how long to wait; 0 for not at all
}

func (d *Dashboard) showLogin(w http.ResponseWriter, r *http.Request) {
	if d.o.Token == "" || d.sessions.has(r) {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	d.render(w, r, 0, view{"login", loginData{}})
}

func (d *Dashboard) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	next := r.PostFormValue("next")
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n") {
		next = "/" // elsewhere
	}
	if d.o.Token == "" {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	from, _ := netip.ParseAddrPort(r.RemoteAddr)
	forgive, wait := d.sessions.guard.Try(from.Addr().Unmap())
	if forgive == nil {
		d.render(w, r, http.StatusTooManyRequests, view{"login", loginData{Next: next, Slowed: max(wait, time.Second)}})
		return
	}
	got := sha256.Sum256([]byte(strings.TrimSpace(r.PostFormValue("token"))))
	right := subtle.ConstantTimeCompare(got[:], d.sessions.token[:]) == 1
	var err error
	if !right {
		err = errToken
	}
	d.o.Content.Audit(r, "login", "dashboard", nil, err)
	if !right {
		d.render(w, r, http.StatusForbidden, view{"login", loginData{Next: next, Wrong: true}})
		return
	}
	forgive()
	http.SetCookie(w, &http.Cookie{
		Name: cookie, Value: d.sessions.begin(), Path: "/", MaxAge: int(sessionFor.Seconds()),
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	})
	http.Redirect(w, r, next, http.StatusSeeOther)
}

func (d *Dashboard) logout(w http.ResponseWriter, r *http.Request) {
	d.sessions.end(r)
	http.SetCookie(w, &http.Cookie{Name: cookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil})
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

func (d *Dashboard) render(w http.ResponseWriter, r *http.Request, status int, v view) {
	if err := d.site.Render(w, r, web.View{Page: v.page, Status: status, Data: v.data}); err != nil {
		d.o.Log.ErrorContext(r.Context(), "page not rendered", "page", v.page, "err", err)
		http.Error(w, "500 internal server error", http.StatusInternalServerError)
	}
}
