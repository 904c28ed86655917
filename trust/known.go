package trust

import (
	"encoding/base64"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/btns-ipsec/btns/identity"
)

// Entry is one selector of one line of a text of known peers.
type Entry struct {
	Line   int
	Record Record
	// Hashed is the selector when it is hashed; the record has no place then.
	Hashed string
	// Bare: the line says nothing of how well the key is known; it is the operator's word.
	Bare bool
	// Withdrawn: the line withdraws the key (@revoked).
	Withdrawn bool
}

// Matches reports whether the entry is about a selector: an address or a name, as [Place.String] writes it.
func (e Entry) Matches(selector string) bool {
	if e.Hashed != "" {
		return MatchHashed(e.Hashed, selector)
	}
	return e.Record.place().String() == selector
}

func isKey(s string) bool { return strings.HasPrefix(s, "SHA256:") || identity.IsSSHAlgorithm(s) }

// parse reads the words of a line.
func (l *line) parse() ([]Entry, *TextError) {
	entry := Entry{Line: l.number, Bare: true}
	w := l.take()
	if strings.HasPrefix(w.text, "@") {
		if w.text != "@revoked" {
			return nil, l.fail(w.at, "@revoked, or no marker")
		}
		entry.Withdrawn = true
		w = l.take()
	}
	selectors := word{"*", w.at}
	if !isKey(w.text) {
		selectors, w = w, l.take()
	}
	ssh, err := l.key(&entry.Record, w)
	if err != nil {
		return nil, err
	}
	if !ssh { // what follows a key as OpenSSH writes it is a comment
		if err := l.attributes(&entry); err != nil {
			return nil, err
		}
	}
	return l.places(entry, selectors)
}

func (l *line) key(r *Record, w word) (ssh bool, bad *TextError) {
	var err error
	switch {
	case w.text == "":
		return false, l.fail(w.at, "a key")
	case identity.IsSSHAlgorithm(w.text):
		k := l.take()
		if r.Public, err = identity.ParseSSHKey(w.text, k.text); err != nil {
			return true, l.fail(k.at, "the base64 of a key of %s", w.text)
		}
		r.Key = r.Public.Fingerprint()
		return true, nil
	}
	if r.Key, err = identity.ParseFingerprint(w.text); err != nil || r.Key.IsZero() {
		return false, l.fail(w.at, "a key: SHA256:..., or one that OpenSSH writes")
	}
	return false, nil
}

// places makes an entry for each selector of a line.
func (l *line) places(entry Entry, w word) ([]Entry, *TextError) {
	var out []Entry
	at := w.at
	for s := range strings.SplitSeq(w.text, ",") {
		e := entry
		e.Record.Evidence, e.Record.Next = slices.Clone(entry.Record.Evidence), slices.Clone(entry.Record.Next)
		if err := l.place(&e, word{s, at}); err != nil {
			return nil, err
		}
		if e.Record.Network != "" && !e.Record.Addr.IsValid() && e.Hashed == "" {
			return nil, l.fail(w.at, "an address, to which the network belongs")
		}
		out = append(out, e)
		at += len(s) + 1
	}
	return out, nil
}

func (l *line) place(e *Entry, w word) *TextError {
	r := &e.Record
	if strings.HasPrefix(w.text, "|") {
		if _, _, _, err := splitHashed(w.text); err != nil {
			return l.fail(w.at, "a hashed selector: |2|salt|hash")
		}
		e.Hashed = w.text
		return nil
	}
	if w.text == "*" {
		return nil
	}
	if a, err := netip.ParseAddr(w.text); err == nil {
		p := At(a, r.Network)
		if r.Network != "" && p.Network == "" {
			return l.fail(w.at, "an address that belongs to a network")
		}
		r.Addr, r.Network = p.Addr, p.Network
		return nil
	}
	text := w.text
	if host, port, ok := strings.Cut(text, "]:"); ok && strings.HasPrefix(host, "[") {
		text = host[1:] + ":" + port
	}
	name, err := ParseName(text)
	if err != nil {
		return l.fail(w.at, "an address, a name, or *")
	}
	r.Name = name
	return nil
}

// attribute reads the value of an attribute into an entry; false: it is not a value of that kind.
type attribute struct {
	want string
	read func(e *Entry, value string) bool
}

var attributes = map[string]attribute{
	"spki": {"the base64 of the key's SubjectPublicKeyInfo", func(e *Entry, v string) bool {
		k, ok := readSPKI(v)
		e.Record.Public = k
		return ok && k.Fingerprint() == e.Record.Key
	}},
	"level": {"first-use, continuity, address, dns or verified", func(e *Entry, v string) bool {
		l, ok := readLevel(v)
		e.Record.Assurance, e.Bare = l, false
		return ok
	}},
	"first": {wantTime, func(e *Entry, v string) bool { return readTime(v, &e.Record.FirstSeen) }},
	"last":  {wantTime, func(e *Entry, v string) bool { return readTime(v, &e.Record.LastSeen) }},
	"sessions": {"a number", func(e *Entry, v string) bool {
		n, err := strconv.ParseUint(v, 10, 32)
		e.Record.Sessions = uint32(n)
		return err == nil && strconv.FormatUint(n, 10) == v
	}},
	"network": {"a text in quotes", func(e *Entry, v string) bool {
		s, err := strconv.Unquote(v)
		e.Record.Network = s
		return err == nil && s != "" && strconv.Quote(s) == v
	}},
	"evidence":  {"KIND@TIME,...", func(e *Entry, v string) bool { return readEvidence(v, &e.Record) }},
	"inbound":   {"nothing after it", flag(func(r *Record) *bool { return &r.Inbound })},
	"sticky":    {"nothing after it", flag(func(r *Record) *bool { return &r.Sticky })},
	"suspended": {"nothing after it", flag(func(r *Record) *bool { return &r.Suspended })},
	"revoked":   {wantTime, func(e *Entry, v string) bool { return readTime(v, &e.Record.Revoked) }},
	"retire":    {wantTime, func(e *Entry, v string) bool { return readTime(v, &e.Record.Retire) }},
	"heir": {"SHA256:...", func(e *Entry, v string) bool {
		f, err := identity.ParseFingerprint(v)
		e.Record.Heir = f
		return err == nil && !f.IsZero()
	}},
	"next": {"SPKI@FROM@TOLD,...", func(e *Entry, v string) bool { return readNext(v, &e.Record) }},
}

const wantTime = "a time as 2006-01-02T15:04:05Z"

func (l *line) attributes(e *Entry) *TextError {
	seen := map[string]bool{}
	for len(l.words) > 0 {
		w := l.take()
		name, value, hasValue := strings.Cut(w.text, "=")
		a, known := attributes[name]
		switch {
		case !known:
			return l.fail(w.at, "an attribute, or # before a comment")
		case seen[name]:
			return l.fail(w.at, "%s once", name)
		case hasValue && value == "" || !a.read(e, value):
			return l.fail(w.at+min(len(name)+1, len(w.text)), "%s", a.want)
		}
		seen[name] = true
	}
	return nil
}

func flag(of func(*Record) *bool) func(*Entry, string) bool {
	return func(e *Entry, v string) bool {
		*of(&e.Record) = true
		return v == ""
	}
}

func readTime(s string, t *time.Time) bool {
	v, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || v.IsZero() || formatTime(v) != s {
		return false
	}
	*t = v.UTC()
	return true
}

func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func readLevel(s string) (identity.Assurance, bool) {
	for _, l := range []identity.Assurance{
		identity.FirstUse, identity.Continuity, identity.Address, identity.DNS, identity.Verified,
	} {
		if l.String() == s {
			return l, true
		}
	}
	return 0, false
}

func readSPKI(s string) (identity.PublicKey, bool) {
	der, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return identity.PublicKey{}, false
	}
	k, err := identity.ParsePublicKey(der)
	return k, err == nil
}

func readEvidence(s string, r *Record) bool {
	for item := range strings.SplitSeq(s, ",") {
		kind, at, ok := strings.Cut(item, "@")
		e := Evidence{Kind: EvidenceKind(kind)}
		if !ok || !slices.Contains(kinds, e.Kind) || r.has(e.Kind) || !readTime(at, &e.At) {
			return false
		}
		r.Evidence = append(r.Evidence, e)
	}
	return true
}

// kinds are those that are recorded.
var kinds = []EvidenceKind{
	Seen, Again, Accepted, Imported, HandedOver, Compared, ShortString, Listed, Withdrawn, SelfRevoked,
}

func readNext(s string, r *Record) bool {
	for item := range strings.SplitSeq(s, ",") {
		parts := strings.Split(item, "@")
		if len(parts) != 3 || len(r.Next) >= maxAnnounced {
			return false
		}
		k, ok := readSPKI(parts[0])
		n := Successor{Key: k}
		if !ok || !readTime(parts[1], &n.From) || !readTime(parts[2], &n.Told) {
			return false
		}
		r.Next = append(r.Next, n)
	}
	return true
}
