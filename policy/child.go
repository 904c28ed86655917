package policy

import (
	"fmt"
	"net/netip"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// PeerRef is an authenticated peer, as far as policy has to know it.
type PeerRef struct {
	Entry      *PADEntry
	Assurance  identity.Assurance
	LocalAddr  netip.Addr // of the IKE SA
	RemoteAddr netip.Addr // observed (RFC 7296 §2.23.1)
}

// anonymous reports whether nobody vouches for the peer: its identity is its key, or it has none.
func (r PeerRef) anonymous() bool { return r.Entry.Kind != ByID }

// Grant is what a child SA may carry.
type Grant struct {
	Entry         *Entry
	Local, Remote selector.Set
	Mode          protect.Mode
}

// ChildError says why a child SA is refused (TS_UNACCEPTABLE); the IKE SA stays (RFC 7296 §1.2).
type ChildError struct {
	Peer          string // PAD entry
	Local, Remote selector.Set
	Why           string
}

func (e *ChildError) Error() string {
	return fmt.Sprintf("policy: child SA for %v to %v refused to %q: %s", clip(e.Local), clip(e.Remote), e.Peer, e.Why)
}

func clip(s selector.Set) selector.Set { return s[:min(len(s), 3)] }

// AuthorizeChild says which part of local and remote, asked for by the peer or answered by it, a child SA may carry: the
// child constraints of the PAD, then the first SPD entry that the peer may use (core.md §4, BTNS-CORE-11 to 13, 21, 22,
// 66, 67; BTNS-NULL-07, 08). mode is what is asked for. held is what belongs to others by their live SAs or their
// records; it is taken from peers that nobody vouches for.
func (p *Policy) AuthorizeChild(ref PeerRef, local, remote selector.Set, mode protect.Mode, held selector.Set) (Grant, error) {
	refuse := func(why string) (Grant, error) {
		return Grant{}, &ChildError{ref.Entry.Name, local, remote, why}
	}
	if len(local) == 0 || len(remote) == 0 {
		return refuse("it names no traffic")
	}
	asked := tie(p.constrain(ref, local, remote, mode, held))
	if asked.empty() {
		return refuse("these addresses are not the peer's, or belong to another one")
	}
	left := []pair{asked}
	why := "no SPD entry protects this traffic"
	for i := range p.spd {
		e := &p.spd[i]
		var mine []pair
		for _, q := range left {
			if r := q.intersect(e.Local, e.Remote); !r.empty() {
				mine = append(mine, r)
			}
		}
		if len(mine) == 0 {
			continue
		}
		verdict := blocked
		if e.Action == Protect {
			verdict = ref.may(e)
		}
		switch {
		case verdict == may:
			if e.Mode == protect.Transport && mode == protect.Tunnel {
				return refuse(fmt.Sprintf("SPD entry %q wants transport mode", e.Name))
			}
			return grant(e, mine, local[0], remote[0], mode), nil
		case verdict == passedOver:
			continue
		case e.Action == Protect:
			why = fmt.Sprintf("SPD entry %q wants another or a better known peer", e.Name)
		default:
			why = fmt.Sprintf("SPD entry %q says %v", e.Name, e.Action)
		}
		left = without(left, e, e.Action == Protect)
	}
	return refuse(why)
}

// constrain applies the PAD: what the peer may have on its side, and what is others'.
func (p *Policy) constrain(ref PeerRef, local, remote selector.Set, mode protect.Mode, held selector.Set) (selector.Set, selector.Set) {
	observed := selector.Set{selector.Host(ref.RemoteAddr)}
	unnamed := ref.Entry.Kind == AnyKey || ref.Entry.Kind == Null
	switch {
	case ref.Entry.Constraint != nil:
		remote = remote.Intersect(ref.Entry.Constraint)
	case ref.anonymous():
		remote = remote.Intersect(observed) // BTNS-CORE-67
	}
	if unnamed && mode == protect.Transport { // BTNS-CORE-66
		remote = remote.Intersect(observed)
		local = local.Intersect(selector.Set{selector.Host(ref.LocalAddr)})
	}
	if !ref.anonymous() {
		return local, remote
	}
	for i := range p.pad {
		o := &p.pad[i]
		if o != ref.Entry && (o.Kind == ByID || unnamed && o.Kind == ByKey) {
			remote = remote.Subtract(o.Constraint) // BTNS-CORE-11, BTNS-CORE-12
		}
	}
	if unnamed {
		remote = remote.Subtract(held)
	}
	return local, remote
}

type permission uint8

const (
	may permission = iota + 1
	blocked
	passedOver // not this entry, and a later one is as good (BtnsFallthrough)
)

// may says whether the peer may use a PROTECT entry. What it may not use blocks it, so that a rule is never weakened by
// a later one (BTNS-CORE-22).
func (r PeerRef) may(e *Entry) permission {
	ok := true
	switch {
	case e.Peer != "":
		ok = e.Peer == r.Entry.Name
	case r.Entry.Kind == ByKey || r.Entry.Kind == AnyKey:
		ok = e.BtnsOK // BTNS-CORE-21
	case r.Entry.Kind == Null:
		ok = e.NullOK // BTNS-NULL-07, BTNS-NULL-12
	}
	switch {
	case ok && e.Peer == "" && r.Entry.Search == ByName:
		return passedOver // BTNS-CORE-15
	case ok && r.Assurance >= e.MinAssurance:
		return may
	case r.anonymous() && e.BtnsFallthrough:
		return passedOver
	}
	return blocked
}

// grant picks the piece that holds the initiator's first selectors, else any (RFC 7296 §2.9).
func grant(e *Entry, mine []pair, firstLocal, firstRemote selector.Selector, mode protect.Mode) Grant {
	best := mine[0]
	for _, q := range mine {
		if !q.intersect(selector.Set{firstLocal}, selector.Set{firstRemote}).empty() {
			best = q
			break
		}
	}
	g := Grant{Entry: e, Mode: mode}
	if e.Mode != 0 {
		g.Mode = e.Mode
	}
	g.Local = selector.Narrow(best.local, best.local, true)
	g.Remote = selector.Narrow(best.remote, best.remote, true)
	return g
}
