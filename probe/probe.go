package probe

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Config is how a prober behaves. Zero fields are the defaults.
type Config struct {
	Scope Scope
	Rate  int // new addresses a second; 20
	Max   int // addresses remembered; as many as can be tried in an hour, and at least 16,384
	Queue int // addresses that wait for their turn, of each kind: new ones, and others; 1,024
}

const (
	defaultRate  = 20
	leastMax     = 1 << 14
	defaultQueue = 1 << 10

	underway = time.Minute      // an attempt that nobody told the end of
	patience = 30 * time.Second // a wish older than this is no wish any more: its packets are long gone
	share    = 4                // of so many turns, one is for an address that came to nothing before
	longest  = time.Hour        // pause between two attempts
	memory   = 24 * time.Hour   // how long a result still lengthens the next pause
)

// Result is what came of trying an address.
type Result uint8

const (
	Trying       Result = iota + 1 // an attempt is under way
	Answers                        // it authenticated
	Silent                         // nobody answered
	Refuses                        // an unauthenticated message says that nothing listens there
	Incompatible                   // it speaks IKE, and there is nothing that both accept
	Unwanted                       // it authenticated, and this host does not want it
	Unreachable                    // this host has no route to it
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
	case Unwanted:
		return "answers but is refused by this host"
	case Unreachable:
		return "no route"
	}
	return fmt.Sprintf("result(%d)", uint8(r))
}

// pause is how long to leave an address alone after the n-th failure in a row, beginning with 1. What anybody can forge is
// believed for a minute at first, and never kills an address for longer than silence, which whoever can forge answers can
// bring about as well. In the long run a host without btns costs one attempt an hour.
func (r Result) pause(n int) time.Duration {
	n = min(n-1, 10)
	switch r {
	case Silent:
		return min(time.Minute<<(2*n), longest)
	case Refuses, Incompatible, Unwanted, Unreachable:
		return min(time.Minute<<n, longest)
	}
	return 0
}

// Status is what is remembered of an address.
type Status struct {
	Result Result // zero: nothing
	Notify uint16 // the IKE error that it answered; 0: none
	Tries  int    // failures in a row
	At     time.Time
	Until  time.Time // it is left alone so long
}

type wish struct {
	addr netip.Addr
	at   time.Time
}

// Stats counts since the beginning.
type Stats struct {
	Tried    uint64 // attempts allowed
	Forgone  uint64 // wishes for which there was no room
	Stale    uint64 // wishes that waited too long
	Waiting  int
	Recalled int // addresses remembered
}

// Prober remembers who was tried.
type Prober struct {
	cfg    Config
	local  []netip.Prefix
	table  table
	tokens float64
	filled time.Time
	fresh  []wish                  // for addresses of which nothing is known
	again  []wish                  // for those that came to nothing before
	wished map[netip.Addr]struct{} // who is in either
	turns  uint
	stats  Stats
}

// New makes a prober that remembers nothing.
func New(cfg Config) *Prober {
	if cfg.Rate <= 0 {
		cfg.Rate = defaultRate
	}
	if cfg.Max <= 0 { // what gives way to others has had its longest pause
		cfg.Max = max(leastMax, cfg.Rate*int(longest/time.Second))
	}
	if cfg.Queue <= 0 {
		cfg.Queue = defaultQueue
	}
	return &Prober{cfg: cfg, table: newTable(cfg.Max), tokens: float64(cfg.Rate), wished: map[netip.Addr]struct{}{}}
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
	if len(p.wished) > 0 || !p.take(now) { // nobody overtakes those who wait
		p.wish(now, addr)
		return false
	}
	p.try(now, addr)
	return true
}

func (p *Prober) wish(now time.Time, addr netip.Addr) {
	if _, waits := p.wished[addr]; waits {
		return
	}
	q := &p.fresh
	if p.Status(addr).Tries > 0 {
		q = &p.again
	}
	if len(*q) >= p.cfg.Queue {
		p.stats.Forgone++
		return
	}
	*q = append(*q, wish{addr, now})
	p.wished[addr] = struct{}{}
}

// Next returns an address whose turn has come, and counts it as being tried; ok is false when there is none.
func (p *Prober) Next(now time.Time) (addr netip.Addr, ok bool) {
	p.drop(now, &p.fresh)
	p.drop(now, &p.again)
	if len(p.wished) == 0 || !p.take(now) {
		return netip.Addr{}, false
	}
	q := &p.fresh
	if p.turns++; len(p.fresh) == 0 || p.turns%share == 0 && len(p.again) > 0 {
		q = &p.again
	}
	addr = (*q)[0].addr
	p.shift(q)
	p.try(now, addr)
	return addr, true
}

// drop ends the wishes at the head of q that are none any more.
func (p *Prober) drop(now time.Time, q *[]wish) {
	for len(*q) > 0 {
		w := (*q)[0]
		fresh := now.Sub(w.at) <= patience
		if fresh && p.ready(now, w.addr) {
			return
		}
		if !fresh {
			p.stats.Stale++
		}
		p.shift(q)
	}
}

// shift ends the oldest wish of q.
func (p *Prober) shift(q *[]wish) {
	delete(p.wished, (*q)[0].addr)
	if *q = (*q)[1:]; len(*q) == 0 {
		*q = nil
	}
}

// Deadline returns when Next has something to look at.
func (p *Prober) Deadline() (time.Time, bool) {
	if len(p.wished) == 0 {
		return time.Time{}, false
	}
	missing := max(1-p.tokens, 0)
	return p.filled.Add(time.Duration(missing/float64(p.cfg.Rate)*float64(time.Second)) + time.Millisecond), true
}

// Note says what came of an attempt; notify is the IKE error that was answered, if one was.
func (p *Prober) Note(now time.Time, addr netip.Addr, r Result, notify uint16) {
	addr = plain(addr)
	if !addr.IsValid() {
		return
	}
	s := Status{Result: r, Notify: notify, At: now}
	if r != Answers {
		s.Tries = p.table.get(addr).Tries + 1
		s.Until = now.Add(r.pause(s.Tries))
	}
	p.table.put(addr, s)
}

// Heard says that a valid IKE message came from addr: what spoke against trying it is forgotten. It takes no memory,
// since such messages are not authenticated. An attempt under way keeps the count of failures before it: a host that
// answers and comes to nothing is left alone longer each time.
func (p *Prober) Heard(_ time.Time, addr netip.Addr) {
	addr = plain(addr)
	if r := p.Status(addr).Result; r != Trying && r != Answers {
		p.table.forget(addr)
	}
}

// Status returns what is remembered of addr.
func (p *Prober) Status(addr netip.Addr) Status {
	if addr = plain(addr); !addr.IsValid() {
		return Status{}
	}
	return p.table.get(addr)
}

// Len is how many addresses are remembered.
func (p *Prober) Len() int { return len(p.table.at) }

// Stats returns the counts.
func (p *Prober) Stats() Stats {
	s := p.stats
	s.Waiting, s.Recalled = len(p.wished), p.Len()
	return s
}

// ready reports whether nothing but the rate speaks against trying addr.
func (p *Prober) ready(now time.Time, addr netip.Addr) bool {
	return p.admits(addr) && !now.Before(p.Status(addr).Until)
}

func (p *Prober) try(now time.Time, addr netip.Addr) {
	s := p.Status(addr)
	if now.Sub(s.At) > memory {
		s.Tries = 0
	}
	p.stats.Tried++
	p.table.put(addr, Status{Result: Trying, Tries: s.Tries, At: now, Until: now.Add(underway)})
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
