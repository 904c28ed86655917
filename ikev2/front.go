package ikev2

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"
)

// front is what stands before any state: cookies, limits on half-open IKE SAs, rate limits on unprotected answers.
type front struct {
	halfOpen int
	byPrefix map[netip.Prefix]int
	// seen recognises repeated IKE_SA_INIT requests by their octets and sender (RFC 7296 §2.1). Entries outlive the
	// half-open state, since copies may be under way; order says when each may go.
	seen    map[initKey]*sa
	order   []initSeen
	looked  int // how many of order, from the first on, are not half-open any more
	secrets [2]cookieSecret
	version byte
	answers bucket // INVALID_IKE_SPI, INVALID_MAJOR_VERSION
	errors  bucket // unprotected errors to IKE_SA_INIT
	hints   bucket // liveness checks because of unprotected notifies
}

type (
	initKey  [16]byte
	initSeen struct {
		key initKey
		at  instant
	}
	cookieSecret struct {
		key  [32]byte
		made instant
		set  bool
	}
	bucket struct {
		used float64 // of a second's worth
		at   instant
	}
)

const (
	cookieAge      = time.Minute // of a secret; the one before is still accepted (RFC 7296 §2.6)
	answersRate    = 20          // a second
	errorsRate     = 200
	hintsRate      = 50
	maxInitMessage = 8192 // octets of an IKE_SA_INIT request that are looked at
)

func newFront() front {
	return front{byPrefix: make(map[netip.Prefix]int), seen: make(map[initKey]*sa)}
}

// take reports whether one more is within rate a second, with bursts of a second's worth.
func (b *bucket) take(now instant, rate float64) bool {
	b.used = max(0, b.used-rate*time.Duration(now-b.at).Seconds())
	b.at = now
	if b.used+1 > rate {
		return false
	}
	b.used++
	return true
}

// prefixOf is what counts as one source: a /32 or a /64.
func prefixOf(a netip.Addr) netip.Prefix {
	a = a.Unmap()
	bits := 32
	if !a.Is4() {
		bits = 64
	}
	p, _ := a.WithZone("").Prefix(bits)
	return p
}

func keyOfInit(d Datagram) (k initKey) {
	h := sha256.New()
	h.Write(d.Data)
	a, _ := d.Remote.MarshalBinary()
	h.Write(a)
	copy(k[:], h.Sum(nil))
	return k
}

// remember notes a request that made state.
func (f *front) remember(k initKey, s *sa, until instant) {
	f.seen[k] = s
	f.order = append(f.order, initSeen{k, until})
}

// forget drops what is too old.
func (f *front) forget(now instant) {
	n := 0
	for n < len(f.order) && f.order[n].at <= now {
		delete(f.seen, f.order[n].key)
		n++
	}
	f.looked = max(f.looked-n, 0)
	if f.order = f.order[n:]; len(f.order) == 0 && n > 0 {
		f.order, f.seen = nil, make(map[initKey]*sa) // as large as there were requests at once
	}
}

// oldest is the half-open IKE SA that was begun first, or nil.
func (f *front) oldest() *sa {
	for ; f.looked < len(f.order); f.looked++ {
		if s := f.seen[f.order[f.looked].key]; s != nil && s.counted != nil && !s.gone {
			return s
		}
	}
	return nil
}

// admit makes room among the half-open IKE SAs and reports whether there is any. When cookies are asked for, every newcomer
// has its address, and the oldest gives way: whoever means it has long gone on, so that no flood keeps a peer out for which
// there is room (BTNS-CORE-64).
func (e *Endpoint) admit() bool {
	if e.front.halfOpen < e.cfg.MaxHalfOpen {
		return true
	}
	e.count(TooManyHalfOpen)
	s := e.front.oldest()
	if !e.loaded() || s == nil {
		return false
	}
	e.drop(s, &ProtocolError{What: "too many peers begin at once"})
	return true
}

// loaded reports whether a cookie is wanted before any state is made (RFC 7296 §2.6).
func (e *Endpoint) loaded() bool {
	return e.cfg.CookieAbove < 0 || e.front.halfOpen >= e.cfg.CookieAbove
}

// cookieSecret returns the current secret for cookies, or the one before it.
func (e *Endpoint) cookieSecret(version byte) *cookieSecret {
	f := &e.front
	if s := &f.secrets[f.version&1]; !s.set || e.now >= s.made.add(cookieAge) {
		f.version++
		s = &f.secrets[f.version&1]
		s.key, s.made, s.set = e.seed(), e.now, true
	}
	s := &f.secrets[version&1]
	if version != f.version && version != f.version-1 || !s.set || e.now >= s.made.add(2*cookieAge) {
		return nil
	}
	return s
}

// cookie is version | HMAC(secret, Ni | address and port | SPIi): nothing about it is kept.
func (e *Endpoint) cookie(version byte, ni []byte, from netip.AddrPort, spii uint64) []byte {
	s := e.cookieSecret(version)
	if s == nil {
		return nil
	}
	h := hmac.New(sha256.New, s.key[:])
	h.Write(ni)
	b, _ := from.MarshalBinary()
	h.Write(b)
	h.Write(binary.BigEndian.AppendUint64(nil, spii))
	return append([]byte{version}, h.Sum(nil)[:16]...)
}

func (e *Endpoint) newCookie(ni []byte, from netip.AddrPort, spii uint64) []byte {
	_ = e.cookieSecret(e.front.version) // rotates
	return e.cookie(e.front.version, ni, from, spii)
}

func (e *Endpoint) cookieGood(c, ni []byte, from netip.AddrPort, spii uint64) bool {
	return len(c) > 0 && hmac.Equal(c, e.cookie(c[0], ni, from, spii))
}

// halfOpenBegan and halfOpenEnded count responders that wait for IKE_AUTH.
func (e *Endpoint) halfOpenBegan(s *sa) {
	p := prefixOf(s.remote.Addr())
	e.front.halfOpen++
	e.front.byPrefix[p]++
	s.counted = &p
}

func (e *Endpoint) halfOpenEnded(s *sa) {
	if s.counted == nil {
		return
	}
	e.front.halfOpen--
	if e.front.byPrefix[*s.counted]--; e.front.byPrefix[*s.counted] <= 0 {
		delete(e.front.byPrefix, *s.counted)
	}
	s.counted = nil
}
