//go:build linux

package tun

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/selector"
)

// spdChains hold what the rules of the SPD say of packets that the plane does not see. Each ends where the rules left say
// nothing that would not happen anyway, so that most policies leave them empty.
type spdChains struct {
	peers     *nftables.Chain   // arriving, in clear, from prefixes of the plane
	strangers *nftables.Chain   // arriving from others
	leaving   *nftables.Chain   // to others
	bypass    *nftables.Chain   // diverted to the device
	hosts     *nftables.Chain   // the same, to single hosts
	elsewhere *nftables.Chain   // to prefixes of the plane, but not by the device
	waiting   *nftables.Chain   // to others, not by the device yet
	made      []*nftables.Chain // what those lead to
	number    int
	extra     []*nftables.Chain // parts of those that are being made
	parts     int
	queued    int // rules since the last flush
	pending   []flow.Rule
	changed   bool
}

// chains are the fixed ones. Each has one rule: a jump to what was made of the SPD.
func (c *spdChains) chains() [7]*nftables.Chain {
	return [...]*nftables.Chain{c.peers, c.strangers, c.leaving, c.bypass, c.hosts, c.elsewhere, c.waiting}
}

// diversionPriority is just before departures, where what should have been diverted is dropped.
const diversionPriority = hookPriority - 1

// translatedPriority is behind source NAT.
const translatedPriority = 350

func (f *filter) addChains() {
	add := func(name string) *nftables.Chain {
		return f.nft.AddChain(&nftables.Chain{Name: name, Table: f.table})
	}
	f.spd = spdChains{peers: add("spd-peers"), strangers: add("spd-strangers"), leaving: add("spd-leaving")}
	f.spd.bypass, f.spd.hosts, f.spd.elsewhere = add("spd-bypass"), add("spd-hosts"), add("spd-elsewhere")
	f.spd.waiting = add("spd-waiting")
}

// diversions are the chains that send packets another way than the first look-up. What is bypassed is kept off the device: a
// mark sends it past the plane's routes, as if it were of the plane's own. What must be protected, and of whose destination
// nothing is known, goes to the device by another mark, and waits there (RFC 4301 §5.1, 3a). It is set when the first look-up has led to the device; for packets that go elsewhere because
// they are bound to an interface, or are another host's until their source is translated, the redirector reads it.
func (f *filter) diversions() {
	route := f.nft.AddChain(&nftables.Chain{
		Name: "diversions", Table: f.table, Type: nftables.ChainTypeRoute, Hooknum: nftables.ChainHookOutput,
		Priority: nftables.ChainPriorityRef(diversionPriority),
	})
	late := f.chain("translated", nftables.ChainHookPostrouting, translatedPriority)
	f.rule(route, toDevice(f.device), jump(f.spd.bypass))
	for _, c := range [...]*nftables.Chain{route, late} {
		f.rule(c, toDevice(f.device), accept())
		f.rule(c, jump(f.spd.elsewhere))
	}
	f.rule(route, jump(f.spd.waiting))
	f.rule(late, f.detained(), counted(), drop()) // bound to another interface
}

func jump(c *nftables.Chain) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: c.Name}}
}

func goBack() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}} }

// setRules notes rules for the next commit.
func (f *filter) setRules(rules []flow.Rule) { f.spd.pending, f.spd.changed = rules, true }

// commitRules makes new chains, has the fixed ones lead to them in one step, and removes the old ones. What fails is tried
// again with the next commit.
func (f *filter) commitRules() error {
	if !f.spd.changed {
		return nil
	}
	rules := f.spd.pending
	f.spd.number++
	wanted, gone := f.counts.want(f.nft, rules)
	fixed := f.spd.chains()
	f.spd.extra, f.spd.parts = nil, 0
	var made []*nftables.Chain
	for i, c := range fixed {
		made = append(made, f.nft.AddChain(&nftables.Chain{Name: fmt.Sprintf("%s-%d", c.Name, f.spd.number), Table: f.table}))
		if err := f.fill(i, made[i], rules); err != nil {
			return err
		}
	}
	if err := f.nft.Flush(); err != nil {
		return err
	}
	f.counts.have(wanted)
	for i, c := range fixed {
		f.nft.FlushChain(c)
		f.rule(c, jump(made[i]))
	}
	if err := f.nft.Flush(); err != nil {
		return err
	}
	f.spd.pending, f.spd.changed = nil, false
	old := f.spd.made
	f.spd.made, f.spd.extra = append(made, f.spd.extra...), nil
	for _, c := range old {
		f.nft.FlushChain(c)
		f.nft.DelChain(c)
	}
	for _, n := range gone {
		f.nft.DeleteObject(f.counts.object(n))
	}
	return f.nft.Flush()
}

// fill makes the chain of that number in chains.
func (f *filter) fill(which int, c *nftables.Chain, rules []flow.Rule) error {
	f.spd.queued = 0
	refuse := func(must func(*flow.Rule) bool) func(*flow.Rule) [][]expr.Any {
		return func(r *flow.Rule) [][]expr.Any {
			if r.Action == flow.Drop || must(r) {
				return [][]expr.Any{counted(), drop()}
			}
			return nil
		}
	}
	in := refuse(func(r *flow.Rule) bool { return r.MustIn })
	pass := func(r *flow.Rule) [][]expr.Any {
		if r.Action == flow.Pass {
			return [][]expr.Any{f.mark(), accept()}
		}
		return nil
	}
	out := func(r *flow.Rule) [][]expr.Any { // as pass; what leaves is counted
		do := pass(r)
		if do != nil && r.Tally != 0 {
			do = append([][]expr.Any{counts(r.Tally)}, do...)
		}
		return do
	}
	switch f.spd.chains()[which] {
	case f.spd.peers:
		return f.compile(c, rules, true, nil, func(r *flow.Rule) [][]expr.Any {
			if do := pass(r); do != nil {
				return do
			}
			return in(r)
		})
	case f.spd.strangers:
		return f.compile(c, rules, true, f.own, in)
	case f.spd.leaving:
		must := refuse(func(r *flow.Rule) bool { return r.MustOut })
		return f.compile(c, slices.DeleteFunc(slices.Clone(rules), stays), false, nil, func(r *flow.Rule) [][]expr.Any {
			if do := must(r); do != nil || r.Tally == 0 {
				return do
			}
			return [][]expr.Any{counts(r.Tally), accept()}
		})
	case f.spd.bypass:
		return f.compile(c, rules, false, f.single, out)
	case f.spd.hosts:
		return f.compile(c, slices.DeleteFunc(slices.Clone(rules), special), false, nil, out)
	case f.spd.elsewhere:
		if slices.ContainsFunc(rules, func(r flow.Rule) bool { return r.Action == flow.Pass && !special(r) && !housekeeping(r) }) {
			f.abroad(c)
		}
	case f.spd.waiting:
		return f.compile(c, rules, false, f.ownOut, func(r *flow.Rule) [][]expr.Any {
			if r.Action == flow.Seal && r.MustOut {
				return [][]expr.Any{f.detain(), accept()}
			}
			return nil
		})
	}
	return nil
}

// ownOut lets pass what no rule is about: what stays on this host, what is of the plane's own, and what the link lives on.
func (f *filter) ownOut(c *nftables.Chain) {
	f.rule(c, toDevice("lo"), accept())
	f.rule(c, f.marked(f.cfg.outer()), accept())
	f.links(c, false)
}

// single leaves packets to single hosts to a chain of their own: few rules can be about them, and most packets are such.
func (f *filter) single(c *nftables.Chain) {
	for _, kind := range [...]int{closedHosts, openHosts} {
		for fam := range 2 {
			f.rule(c, f.address(kind, fam, destination), []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: f.spd.hosts.Name}})
		}
	}
}

// abroad finds packets to prefixes of the plane that other interfaces take.
func (f *filter) abroad(c *nftables.Chain) {
	f.rule(c, toDevice("lo"), accept())
	f.rule(c, f.marked(f.cfg.outer()), accept())
	f.single(c)
	for fam := range 2 {
		f.rule(c, f.address(closedNets, fam, destination), jump(f.spd.bypass))
	}
}

// special reports whether a rule is about addresses that no single host of the plane has.
func special(r flow.Rule) bool {
	return !slices.ContainsFunc(r.Remote, func(s selector.Selector) bool {
		a, b := s.From, s.To
		return (!a.IsMulticast() || !b.IsMulticast()) && (!a.IsLoopback() || !b.IsLoopback()) &&
			(!a.IsLinkLocalUnicast() || !b.IsLinkLocalUnicast()) && (a != b || !a.IsUnspecified() && a != broadcast)
	})
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// housekeeping reports whether a rule is about IKE, DHCP or neighbour discovery, which other interfaces take anyway.
func housekeeping(r flow.Rule) bool {
	return !slices.ContainsFunc(r.Local, func(s selector.Selector) bool {
		switch {
		case s.Proto == selector.ICMPv6:
			return s.Ports.From < 133<<8 || s.Ports.To > 137<<8|255
		case s.Proto != selector.UDP || s.Ports.From != s.Ports.To:
			return true
		}
		return !slices.Contains([]uint16{67, 68, 500, 546, 547, 4500}, s.Ports.From)
	})
}

// stays reports whether a rule is about what does not leave this host.
func stays(r flow.Rule) bool {
	return !slices.ContainsFunc(r.Remote, func(s selector.Selector) bool { return !s.From.IsLoopback() || !s.To.IsLoopback() })
}

// compile fills a chain: what does nothing with a rule's packets leaves the chain. Rules behind the last that does
// something are left out, and with all of them what comes before the rules.
func (f *filter) compile(c *nftables.Chain, rules []flow.Rule, arriving bool, before func(*nftables.Chain), what func(*flow.Rule) [][]expr.Any) error {
	n := len(rules)
	for n > 0 && what(&rules[n-1]) == nil {
		n--
	}
	if n > 0 && before != nil {
		before(c)
	}
	var lines [2][]line
	for i := range rules[:n] {
		do := what(&rules[i])
		ends := do != nil
		if !ends {
			do = [][]expr.Any{goBack()}
		}
		for _, l := range matches(&rules[i], arriving) {
			l.do, l.ends = do, ends
			lines[l.family] = append(lines[l.family], l)
		}
	}
	return f.write(c, lines)
}

// line is one rule of a chain.
type line struct {
	family int
	proto  uint8 // 0: any
	match  []expr.Any
	do     [][]expr.Any
	ends   bool // the packet is done with then
}

// write fills a chain so that a packet is held against few lines: those of its family, and of those that are about one
// protocol, in a row, none when it has another.
func (f *filter) write(c *nftables.Chain, lines [2][]line) error {
	into := [2]*nftables.Chain{c, c}
	if len(lines[0]) > 1 && len(lines[1]) > 1 {
		into[1] = f.below(c, "6")
		f.rule(c, inFamily(1), []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: into[1].Name}})
	}
	for fam, all := range lines {
		for len(all) > 0 {
			n := row(all)
			to := into[fam]
			if n > 1 {
				to = f.below(c, fmt.Sprint("-", f.spd.parts))
				f.rule(into[fam], upper(all[0].proto), inFamily(fam), jump(to))
			}
			for _, l := range all[:n] {
				f.rule(to, append([][]expr.Any{l.match}, l.do...)...)
				if err := f.piece(); err != nil {
					return err
				}
			}
			all = all[n:]
		}
	}
	return f.nft.Flush()
}

// row is how many lines, from the first on, are about one protocol and done with a packet that they match.
func row(all []line) int {
	n := 0
	for n < len(all) && all[n].ends && all[n].proto != 0 && all[n].proto == all[0].proto {
		n++
	}
	return max(n, 1)
}

// below makes a part of a chain.
func (f *filter) below(c *nftables.Chain, suffix string) *nftables.Chain {
	f.spd.parts++
	part := f.nft.AddChain(&nftables.Chain{Name: c.Name + suffix, Table: f.table})
	f.spd.extra = append(f.spd.extra, part)
	return part
}

// piece sends what is queued before the answers to it are more than a socket holds.
func (f *filter) piece() error {
	const most = 32
	if f.spd.queued++; f.spd.queued < most {
		return nil
	}
	f.spd.queued = 0
	return f.nft.Flush()
}

// own lets pass what no rule is about: what is not for this host or stays on it, IKE and ESP, and what the link lives on.
func (f *filter) own(c *nftables.Chain) {
	notLocal := toLocal()
	notLocal[1] = &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: native(unix.RTN_LOCAL)}
	f.rule(c, notLocal, goBack())
	f.rule(c, fromDevice("lo"), accept())
	for _, number := range [...]uint16{f.cfg.Port, f.cfg.EncapPort} {
		f.rule(c, upper(unix.IPPROTO_UDP), transportField(2, number), accept())
	}
	f.rule(c, upper(unix.IPPROTO_ESP), accept())
	f.links(c, false)
}

// portProtocols are those in which a rule for the ports of any protocol finds ports.
var portProtocols = [...]uint8{selector.TCP, selector.UDP, 33, selector.SCTP, 136}

// matches are the expressions for a rule: one for each selector of one end with each of the other.
func matches(r *flow.Rule, arriving bool) (out []line) {
	add := func(l, o selector.Selector, proto uint8) {
		out = append(out, line{family: family(l.From), proto: proto, match: match(l, o, proto, arriving)})
	}

	for _, l := range r.Local {
		for _, o := range r.Remote {
			proto := max(l.Proto, o.Proto) // 0 is any
			if l.From.Is4() != o.From.Is4() || l.Proto != 0 && l.Proto != proto || o.Proto != 0 && o.Proto != proto {
				continue
			}
			if proto != 0 || !numbered(l.Ports) && !numbered(o.Ports) {
				add(l, o, proto)
				continue
			}
			for _, p := range portProtocols {
				add(l, o, p)
			}
		}
	}
	return out
}

func numbered(p selector.PortRange) bool { return p != selector.AnyPort && p != selector.Opaque }

func match(local, remote selector.Selector, proto uint8, arriving bool) []expr.Any {
	fam := family(local.From)
	var e []expr.Any
	if proto != 0 { // first: it tells most packets from most rules
		e = upper(proto)
	}
	e = append(e, inFamily(fam)...)
	src, dst := local, remote
	if arriving {
		src, dst = remote, local
	}
	size, at := uint32(4), uint32(12)
	if fam == 1 {
		size, at = 16, 8
	}
	e = append(e, within(src, at, size)...)
	e = append(e, within(dst, at+size, size)...)
	if proto == selector.ICMP || proto == selector.ICMPv6 {
		return append(append(e, ports(src.Ports, 0, fam)...), ports(dst.Ports, 0, fam)...) // type and code are both
	}
	return append(append(e, ports(src.Ports, 0, fam)...), ports(dst.Ports, 2, fam)...)
}

// within matches an address of the IP header that the selector has.
func within(s selector.Selector, at, size uint32) []expr.Any {
	all := selector.Any4()
	if !s.From.Is4() {
		all = selector.Any6()
	}
	if s.From == all.From && s.To == all.To {
		return nil
	}
	if p, ok := s.Prefix(); ok && p.Bits() > 0 {
		return begins(at, p)
	}
	return between(&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: size}, s.From.AsSlice(), s.To.AsSlice())
}

// begins matches an address by the octets that a prefix is about, which the kernel is quicker at than at ranges.
func begins(at uint32, p netip.Prefix) []expr.Any {
	n, rest := (p.Bits()+7)/8, p.Bits()%8
	e := []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: uint32(n)}}
	if rest > 0 {
		mask := bytes.Repeat([]byte{0xff}, n)
		mask[n-1] <<= 8 - rest
		e = append(e, &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(n), Mask: mask, Xor: make([]byte, n)})
	}
	return append(e, equal(p.Masked().Addr().AsSlice()[:n]))
}

// ports matches two octets of the upper header; later fragments, whose ports are hidden, have none.
func ports(p selector.PortRange, at uint32, fam int) []expr.Any {
	switch p {
	case selector.AnyPort:
		return nil
	case selector.Opaque:
		return laterFragment(fam)
	}
	return between(&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: at, Len: 2}, be.AppendUint16(nil, p.From), be.AppendUint16(nil, p.To))
}

func between(load expr.Any, from, to []byte) []expr.Any {
	if string(from) == string(to) {
		return []expr.Any{load, equal(from)}
	}
	return []expr.Any{load, &expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: from, ToData: to}}
}
