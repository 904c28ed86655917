package policy

import (
	"slices"

	"github.com/btns-ipsec/btns/selector"
)

// pair is traffic between two sets of selectors: each of one side with each of the other (RFC 7296 §2.9), as far as
// family and protocol agree.
type pair struct{ local, remote selector.Set }

// maxPairs bounds how many pieces a request is cut into; what lies beyond is not granted.
const maxPairs = 64

// tie makes a pair in which every selector has a counterpart, and "any protocol" stands on one side only if it stands on
// the other, so that cutting one side cuts no more than it must.
func tie(local, remote selector.Set) pair {
	local, remote = narrowProto(local, remote), narrowProto(remote, local)
	return pair{partnered(local, remote), partnered(remote, local)}
}

// narrowProto gives the selectors of s that take any protocol those of the other side, if these are all specific.
func narrowProto(s, other selector.Set) selector.Set {
	var protos []uint8
	for _, x := range other {
		if x.Proto == 0 {
			return s
		}
		if !slices.Contains(protos, x.Proto) {
			protos = append(protos, x.Proto)
		}
	}
	var out selector.Set
	for _, x := range s {
		if x.Proto != 0 {
			out = append(out, x)
			continue
		}
		for _, p := range protos {
			x.Proto = p
			out = append(out, x)
		}
	}
	return out.Wire()
}

func partnered(s, other selector.Set) selector.Set {
	var out selector.Set
	for _, x := range s {
		if slices.ContainsFunc(other, func(y selector.Selector) bool {
			return x.From.Is4() == y.From.Is4() && (x.Proto == y.Proto || x.Proto == 0 || y.Proto == 0)
		}) {
			out = append(out, x)
		}
	}
	return out
}

func (p pair) empty() bool { return len(p.local) == 0 || len(p.remote) == 0 }

func (p pair) intersect(local, remote selector.Set) pair {
	return tie(p.local.Intersect(local), p.remote.Intersect(remote))
}

// subtract is p without the traffic between local and remote: (L without l) with R, and (L and l) with (R without r).
func (p pair) subtract(local, remote selector.Set) []pair {
	var out []pair
	for _, q := range []pair{
		tie(p.local.Subtract(local), p.remote),
		tie(p.local.Intersect(local), p.remote.Subtract(remote)),
	} {
		if !q.empty() {
			out = append(out, q)
		}
	}
	return out
}

// without removes the traffic of an entry. Where that would break up "any protocol", it is only done when the entry is
// strict: an SA for all protocols between two hosts may hold traffic that is bypassed or discarded packet by packet, but
// none that only others may carry.
func without(left []pair, e *Entry, strict bool) []pair {
	stays := func(q pair) bool { // most entries are about other traffic: that is seen soon
		return !q.local.Overlaps(e.Local) || !q.remote.Overlaps(e.Remote) || !strict && splits(q, e) || q.intersect(e.Local, e.Remote).empty()
	}
	if !slices.ContainsFunc(left, func(q pair) bool { return !stays(q) }) {
		return left
	}
	var out []pair
	for _, q := range left {
		if stays(q) {
			out = append(out, q)
			continue
		}
		out = append(out, q.subtract(e.Local, e.Remote)...)
	}
	return out[:min(len(out), maxPairs)]
}

// splits reports whether taking e out of q would take one protocol out of "any".
func splits(q pair, e *Entry) bool {
	broken := func(s, o selector.Set) bool {
		for _, a := range s {
			for _, b := range o {
				if _, ok := a.Intersect(b); ok && a.Proto == 0 && b.Proto != 0 {
					return true
				}
			}
		}
		return false
	}
	return broken(q.local, e.Local) || broken(q.remote, e.Remote)
}
