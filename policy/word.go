package policy

import (
	"github.com/btns-ipsec/btns/selector"
)

// Direction is the way that a packet goes.
type Direction uint8

// The directions of traffic.
const (
	Out Direction = iota + 1
	In
)

func (d Direction) String() string {
	if d == In {
		return "in"
	}
	return "out"
}

// Word is what the SPD says about traffic in one direction, as people say it.
type Word string

const (
	WordDiscard Word = "discard" // dropped, protected or not
	WordRequire Word = "require" // protected or dropped
	WordPrefer  Word = "prefer"  // protected if the peer can, else in clear
	WordAccept  Word = "accept"  // as WordPrefer, but the peer has to begin
	WordClear   Word = "clear"   // never protected
)

// Word is what the entry says about traffic in a direction.
func (e *Entry) Word(d Direction) Word {
	switch {
	case e.Action == Bypass:
		return WordClear
	case e.Action != Protect:
		return WordDiscard
	case d == In && e.Inbound != "":
		return e.Inbound
	}
	switch e.Fallback {
	case Prefer:
		return WordPrefer
	case Never:
		return WordAccept
	}
	return WordRequire
}

// Verdict is what the SPD says about one packet, and which entry says it.
type Verdict struct {
	*Entry
	Number int // of the entry, from 1 on; 0: no entry matches, and the packet is dropped (RFC 4301 §5.1)
	Word   Word
}

// Test says what would become of a packet, for people.
func (p *Policy) Test(f selector.Flow, d Direction) Verdict {
	for i := range p.spd {
		if e := &p.spd[i]; selector.Match(e.Local, e.Remote, f) {
			return Verdict{e, i + 1, e.Word(d)}
		}
	}
	return Verdict{noEntry, 0, WordDiscard}
}
