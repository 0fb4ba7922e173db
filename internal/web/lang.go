package web

import (
	"net/http"
	"slices"
	"time"

	"golang.org/x/text/language"
)

// A Lang is a language that pages are in, as the lang attribute of HTML spells it.
type Lang string

// The languages.
const (
	English Lang = "en"
	Chinese Lang = "zh-CN"
)

// languages lists them, the first choice first.
func languages() []Lang { return []Lang{English, Chinese} }

// A Theme is the colours of a page. Auto follows the browser's own setting.
type Theme string

// The themes.
const (
	Auto  Theme = "auto"
	Light Theme = "light"
	Dark  Theme = "dark"
)

const (
	langName  = "lang"  // of the query's parameter
	themeName = "theme" // of the query's parameter
	cookieFor = 365 * 24 * time.Hour
	// maxAccept is how many bytes of Accept-Language are looked at: who sends more
	// is no browser.
	maxAccept = 512
)

// Choose tells the language and the colours that a request wants, and remembers
// in cookies what its query says. The order is: the query, the cookie, then
// Accept-Language and [Auto]. It sets Vary, since the answer depends on all three.
func Choose(w http.ResponseWriter, r *http.Request) (Lang, Theme) {
	w.Header().Add("Vary", "Accept-Language, Cookie")
	lang := chosen(w, r, langName, languages())
	if lang == "" {
		lang = accepted(r.Header.Get("Accept-Language"))
	}
	theme := chosen(w, r, themeName, []Theme{Auto, Light, Dark})
	if theme == "" {
		theme = Auto
	}
	return lang, theme
}

// chosen is the choice in the query or the cookie; empty when neither has one.
func chosen[T ~string](w http.ResponseWriter, r *http.Request, name string, choices []T) T {
	if c := T(r.URL.Query().Get(name)); slices.Contains(choices, c) {
		http.SetCookie(w, &http.Cookie{
			Name: "sampan_" + name, Value: string(c), Path: "/", MaxAge: int(cookieFor.Seconds()),
			HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: r.TLS != nil,
		})
		return c
	}
	if cookie, err := r.Cookie("sampan_" + name); err == nil && slices.Contains(choices, T(cookie.Value)) {
		return T(cookie.Value)
	}
	return ""
}

// accepted is the language of an Accept-Language header (RFC 9110, 12.5.4) that is
// wanted most of those there are; English when none is.
func accepted(header string) Lang {
	if len(header) > maxAccept {
		return English
	}
	tags, quality, err := language.ParseAcceptLanguage(header)
	if err != nil {
		return English
	}
	for i, tag := range tags {
		if quality[i] == 0 {
			continue
		}
		switch base, _ := tag.Base(); base.String() {
		case "en":
			return English
		case "zh":
			return Chinese
		}
	}
	return English
}
