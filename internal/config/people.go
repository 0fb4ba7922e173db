package config

import (
	"cmp"
	"errors"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"sampan/internal/access/htpasswd"
)

// A User is one with a password, or a file of users.
type User struct {
	// Name is the user's; empty where File is set.
	Name string
	// Password is the user's, and PasswordFile where it was read from, when it was.
	Password     Secret
	PasswordFile string
	// File is one of users with hashes of bcrypt or Argon2id, as htpasswd writes it.
	File string
	// Groups are those that the user, or all of the file, are in.
	Groups []string
}

// A Code is a word in the host name that tells who a client is:
// CODE.mirror.example.com.
type Code struct {
	// Name is what the code is called in rules and logs.
	Name string
	// Code is the word: 16 to 63 of a-z, 0-9 and "-". CodeFile is where it was read
	// from, when it was; that of an empty file is nobody's.
	Code     Secret
	CodeFile string
	// Expires is the day that it is in force no more, in UTC; zero is never.
	Expires time.Time
}

// minCode is the least length of an access code, in characters: 80 bits in base32.
const minCode = 16

// dayFormat is how days are written.
const dayFormat = time.DateOnly

func (d *decoder) readUsers(n node) {
	seen := make(map[string]bool)
	for _, item := range d.list(n) {
		var u User
		before := len(d.problems)
		has := make(map[string]bool)
		note := func(key string, read func(node)) func(node) {
			return func(n node) { has[key] = true; read(n) }
		}
		d.fields(item, map[string]func(node){
			"name":          d.readText(&u.Name),
			"password":      note("password", func(n node) { u.Password = d.readSecret(n) }),
			"password_file": note("password_file", func(n node) { u.PasswordFile, u.Password = d.readSecretFile(n, u.Password) }),
			"file":          func(n node) { u.File = d.readHtpasswd(n) },
			"groups":        func(n node) { u.Groups = d.readNames(n) },
		})
		switch {
		case len(d.problems) > before:
			continue
		case has["password"] && has["password_file"]:
			d.complain(item.at, complainf(msgTwoSecrets, "password", "password_file"))
		case (u.File == "") == (u.Name == ""), u.File != "" && !u.Password.IsZero(), u.File == "" && u.Password.IsZero():
			d.complain(item.at, complainf(msgUserOrFile))
		case u.Name != "" && htpasswd.CheckName(u.Name) != nil:
			d.complain(item.at, complainf(msgBadUserName, u.Name))
		case u.Name != "" && seen[u.Name]:
			d.complain(item.at, complainf(msgSameUser, u.Name))
		default:
			d.config.Users = append(d.config.Users, u)
		}
		seen[u.Name] = true
	}
}

// readHtpasswd checks that every line can be used, so that nobody is shut out by a
// line that is told of later.
func (d *decoder) readHtpasswd(n node) string {
	name, _, ok := d.scalar(n)
	if !ok {
		return ""
	}
	text, err := readBounded(name, MaxFileSize)
	if err != nil {
		d.complain(n.at, complainf(msgUnreadable, err))
		return ""
	}
	_, err = htpasswd.Parse(text)
	var line *htpasswd.Error
	switch {
	case err == nil:
		return name
	case errors.As(err, &line) && errors.Is(err, htpasswd.ErrWeak):
		d.complain(n.at, complainf(msgWeakHash, name, line.Line))
	case errors.As(err, &line):
		d.complain(n.at, complainf(msgBadHtpasswd, name, line.Line, line.Err))
	}
	return ""
}

func (d *decoder) readCodes(n node) {
	seen := make(map[string]bool)
	for _, item := range d.list(n) {
		var c Code
		before := len(d.problems)
		d.fields(item, map[string]func(node){
			"name":      d.readText(&c.Name),
			"code":      func(n node) { c.Code = d.readSecret(n) },
			"code_file": func(n node) { c.CodeFile, c.Code = d.readCodeFile(n, c.Code) },
			"expires":   func(n node) { c.Expires = d.readDay(n) },
		})
		word := strings.TrimSpace(c.Code.Reveal())
		revoked := word == "" && c.CodeFile != ""
		switch {
		case len(d.problems) > before:
			continue
		case c.Name == "" || c.Code.IsZero() && c.CodeFile == "":
			d.complain(item.at, complainf(msgHalfCode))
		case htpasswd.CheckName(c.Name) != nil:
			d.complain(item.at, complainf(msgBadUserName, c.Name))
		case !revoked && word != masked && (!validLabel(word) || len(word) < minCode): // what Show has written loads, and lets nobody in
			d.complain(item.at, complainf(msgBadCode, c.Name, minCode))
		case seen["name "+c.Name] || seen["code "+word]:
			d.complain(item.at, complainf(msgSameCode, c.Name))
		default:
			c.Code.value = word
			d.config.Codes = append(d.config.Codes, c)
		}
		seen["name "+c.Name], seen["code "+word] = true, !revoked
	}
}

// readCodeFile reads the code out of a file, which is empty when the code was
// revoked: that keeps nobody from starting.
func (d *decoder) readCodeFile(n node, other Secret) (string, Secret) {
	name, _, ok := d.scalar(n)
	if !ok {
		return "", other
	}
	text, err := readBounded(name, maxSecretSize)
	if err != nil {
		d.complain(n.at, complainf(msgUnreadable, err))
		return name, other
	}
	return name, Secret{value: strings.TrimSpace(string(text))}
}

func (d *decoder) readDay(n node) time.Time {
	s, _, ok := d.scalar(n)
	if !ok {
		return time.Time{}
	}
	day, err := time.Parse(dayFormat, s)
	if err != nil {
		d.complain(n.at, complainf(msgBadDay, s))
	}
	return day
}

// readNames reads a list of names, or one alone.
func (d *decoder) readNames(n node) []string {
	var names []string
	for _, item := range d.oneOrMore(n) {
		s, _, ok := d.scalar(item)
		switch {
		case !ok:
		case s == "":
			d.complain(item.at, complainf(msgEmpty))
		default:
			names = append(names, s)
		}
	}
	return names
}

// show is the user as the file has it.
func (u User) show() yaml.MapSlice {
	var m yaml.MapSlice
	add := func(key, value string) {
		if value != "" {
			m = append(m, yaml.MapItem{Key: key, Value: value})
		}
	}
	add("file", escape(u.File))
	add("name", escape(u.Name))
	showSecret(add, "password", u.PasswordFile, u.Password)
	if len(u.Groups) > 0 {
		m = append(m, yaml.MapItem{Key: "groups", Value: escaped(u.Groups)})
	}
	return m
}

// show is the code as the file has it.
func (c Code) show() yaml.MapSlice {
	var m yaml.MapSlice
	add := func(key, value string) {
		if value != "" {
			m = append(m, yaml.MapItem{Key: key, Value: value})
		}
	}
	add("name", escape(c.Name))
	showSecret(add, "code", c.CodeFile, c.Code)
	if !c.Expires.IsZero() {
		add("expires", c.Expires.Format(dayFormat))
	}
	return m
}

// showSecret shows where a secret comes from, or masks it.
func showSecret(add func(key, value string), key, file string, s Secret) {
	if file != "" {
		add(key+"_file", escape(file))
		return
	}
	add(key, cmp.Or(s.source, s.String()))
}

func escaped(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = escape(s)
	}
	return out
}

// minTokenKey is the least length of the key of tokens, in bytes.
const minTokenKey = 32

func (d *decoder) readTokenKey(n node) {
	name, _, ok := d.scalar(n)
	if !ok {
		return
	}
	text, err := readBounded(name, maxSecretSize)
	switch {
	case err != nil:
		d.complain(n.at, complainf(msgUnreadable, err))
	case len(text) < minTokenKey:
		d.complain(n.at, complainf(msgShortKey, name, minTokenKey))
	}
	d.config.TokenKeyFile = name
}
