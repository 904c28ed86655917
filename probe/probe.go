package probe

import (
	"container/list"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Config is how a prober behaves. Zero fields are the defaults.
type Config struct {
	Scope Scope
	Rate  int // new addresses a second; 20
	Max   int // addresses remembered; 16,384
	Queue int // addresses that wait for their turn; 1,024
}

const (
	defaultRate  = 20
	defaultMax   = 1 << 14
	defaultQueue = 1 << 10

	underway = time.Minute      // an attempt that nobody told the end of
	patience = 30 * time.Second // a wish older than this is no wish any more: its packets are long gone
	memory   = 2 * time.Hour    // how long a result still lengthens the next pause
)

// Result is what came of trying an address.
type Result uint8

const (
	Trying       Result = iota + 1 // an attempt is under way
	Answers                        // it authenticated
	Silent                         // nobody answered
	Refuses                        // somebody answered that it refuses, unauthenticated
	Incompatible                   // it speaks IKE, and there is nothing that both accept
)

func (r Result) String() string {
	switch r {
	case Trying:
		return "trying"
	case Answers:
		return "answers"
	case Silent:
		return "no answer"
	case Refuses:
		return "refused"
	case Incompatible:
		return "answers but is not compatible"
	}
	return fmt.Sprintf("result(%d)", uint8(r))
}

// pause is how long to leave an address alone after the n-th failure in a row, beginning with 1. A refusal that anybody
// can forge is believed for a minute at first and never for long; silence costs a host without btns a datagram burst an
// hour in the end.
func (r Result) pause(n int) time.Duration {
	n = min(n-1, 10)
	switch r {
	case Silent:
		return min(time.Minute<<(2*n), time.Hour)
	case Refuses:
		return min(time.Minute<<n, 10*time.Minute)
	case Incompatible:
		return min(10*time.Minute<<n, time.Hour)
	}
	return 0
}

// Status is what is remembered of an address.
type Status struct {
	Result Result // zero: nothing
	Tries  int    // failures in a row
	At     time.Time
	Until  time.Time // it is left alone so long
}

type entry struct {
	addr netip.Addr
	Status
}

type wish struct {
	addr netip.Addr
	at   time.Time
}

// Prober remembers who was tried.
type Prober struct {
	cfg     Config
	local   []netip.Prefix
	entries map[netip.Addr]*list.Element // of *entry
	order   *list.List                   // least recently changed first
	tokens  float64
	filled  time.Time
	waiting []wish
}

// New makes a prober that remembers nothing.
func New(cfg Config) *Prober {
	for _, d := range []struct {
		field *int
		value int
	}{{&cfg.Rate, defaultRate}, {&cfg.Max, defaultMax}, {&cfg.Queue, defaultQueue}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	return &Prober{cfg: cfg, entries: map[netip.Addr]*list.Element{}, order: list.New(), tokens: float64(cfg.Rate)}
}

// SetScope changes which addresses may be tried.
func (p *Prober) SetScope(s Scope) { p.cfg.Scope = s }

// SetLocal names the networks that this host is attached to.
func (p *Prober) SetLocal(prefixes []netip.Prefix) { p.local = slices.Clone(prefixes) }

// Want reports whether addr may be tried now, and counts it as being tried then. An address that only the rate keeps
// from it waits in a queue: see Next.
func (p *Prober) Want(now time.Time, addr netip.Addr) bool {
	addr = plain(addr)
	if !p.ready(now, addr) {
		return false
	}
	if !p.take(now) {
		waits := slices.ContainsFunc(p.waiting, func(w wish) bool { return w.addr == addr })
		if !waits && len(p.waiting) < p.cfg.Queue {
			p.waiting = append(p.waiting, wish{addr, now})
		}
		return false
	}
	p.try(now, addr)
	return true
}

// Next returns an address whose turn has come, and counts it as being tried; ok is false when there is none.
func (p *Prober) Next(now time.Time) (addr netip.Addr, ok bool) {
	for len(p.waiting) > 0 {
		w := p.waiting[0]
		if now.Sub(w.at) <= patience && p.ready(now, w.addr) {
			if !p.take(now) {
				return netip.Addr{}, false
			}
			p.waiting = p.waiting[1:]
			p.try(now, w.addr)
			return w.addr, true
		}
		p.waiting = p.waiting[1:]
	}
	p.waiting = nil
	return netip.Addr{}, false
}

// Deadline returns when Next has something to look at.
func (p *Prober) Deadline() (time.Time, bool) {
	if len(p.waiting) == 0 {
		return time.Time{}, false
	}
	missing := max(1-p.tokens, 0)
	return p.filled.Add(time.Duration(missing/float64(p.cfg.Rate)*float64(time.Second)) + time.Millisecond), true
}

// Answered, NoAnswer, Refused and Incompatible say what came of an attempt.
func (p *Prober) Answered(now time.Time, addr netip.Addr) { p.note(now, addr, Answers) }

// NoAnswer says that nobody answered.
func (p *Prober) NoAnswer(now time.Time, addr netip.Addr) { p.note(now, addr, Silent) }

// Refused says that an unauthenticated answer refused.
func (p *Prober) Refused(now time.Time, addr netip.Addr) { p.note(now, addr, Refuses) }

// Incompatible says that the address speaks IKE but nothing that we accept.
func (p *Prober) Incompatible(now time.Time, addr netip.Addr) { p.note(now, addr, Incompatible) }

// Heard says that a valid IKE message came from addr: what spoke against trying it is forgotten. It takes no memory,
// since such messages are not authenticated.
func (p *Prober) Heard(_ time.Time, addr netip.Addr) {
	if e := p.entries[plain(addr)]; e != nil {
		if r := e.Value.(*entry).Result; r == Silent || r == Refuses || r == Incompatible {
			p.forget(e)
		}
	}
}

// Status returns what is remembered of addr.
func (p *Prober) Status(addr netip.Addr) Status {
	if e := p.entries[plain(addr)]; e != nil {
		return e.Value.(*entry).Status
	}
	return Status{}
}

// Len is how many addresses are remembered.
func (p *Prober) Len() int { return len(p.entries) }

// ready reports whether nothing but the rate speaks against trying addr.
func (p *Prober) ready(now time.Time, addr netip.Addr) bool {
	return p.admits(addr) && !now.Before(p.Status(addr).Until)
}

func (p *Prober) try(now time.Time, addr netip.Addr) {
	s := p.Status(addr)
	if now.Sub(s.At) > memory {
		s.Tries = 0
	}
	p.put(addr, Status{Result: Trying, Tries: s.Tries, At: now, Until: now.Add(underway)})
}

func (p *Prober) note(now time.Time, addr netip.Addr, r Result) {
	addr = plain(addr)
	if !addr.IsValid() {
		return
	}
	s := Status{Result: r, At: now}
	if r != Answers {
		s.Tries = p.Status(addr).Tries + 1
		s.Until = now.Add(r.pause(s.Tries))
	}
	p.put(addr, s)
}

func (p *Prober) put(addr netip.Addr, s Status) {
	if e := p.entries[addr]; e != nil {
		e.Value.(*entry).Status = s
		p.order.MoveToBack(e)
		return
	}
	if len(p.entries) >= p.cfg.Max {
		p.forget(p.order.Front())
	}
	p.entries[addr] = p.order.PushBack(&entry{addr, s})
}

func (p *Prober) forget(e *list.Element) {
	delete(p.entries, e.Value.(*entry).addr)
	p.order.Remove(e)
}

// take takes one attempt out of what the rate allows; a second's worth can come at once.
func (p *Prober) take(now time.Time) bool {
	rate := float64(p.cfg.Rate)
	if p.filled.IsZero() {
		p.filled = now
	}
	if d := now.Sub(p.filled); d > 0 {
		p.tokens = min(p.tokens+d.Seconds()*rate, rate)
		p.filled = now
	}
	if p.tokens < 1 {
		return false
	}
	p.tokens--
	return true
}

func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
