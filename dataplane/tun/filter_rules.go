//go:build linux

package tun

import (
	"encoding/binary"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// hookPriority is before the host's own chains and before connection tracking: what is dropped here was never seen.
const hookPriority = -350

// arrivals is the chain for packets from outside, and those that take the marks off again. Packets of hosts that the
// plane has nothing to do with pass after a look into the sets.
func (f *filter) arrivals() {
	c := f.chain("arrivals", nftables.ChainHookPrerouting, hookPriority)
	f.rule(c, fromDevice(f.device), accept())
	f.rule(c, f.marked(f.cfg.opened()), accept())
	known := f.nft.AddChain(&nftables.Chain{Name: "known", Table: f.table})
	for kind := range f.sets {
		for fam := range 2 {
			f.rule(c, f.address(kind, fam, source), []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: known.Name}})
		}
	}
	f.known(known)
	f.rule(c, jump(f.spd.strangers))
	for name, hook := range map[string]*nftables.ChainHook{"unmark-in": nftables.ChainHookInput, "unmark-forward": nftables.ChainHookForward} {
		f.rule(f.chain(name, hook, hookPriority), f.marked(f.cfg.outer()), f.unmark())
	}
}

// known is the chain for packets from prefixes that are routed to the device.
func (f *filter) known(c *nftables.Chain) {
	f.rule(c, fromDevice("lo"), accept())
	// IKE and ESP to this host.
	f.rule(c, upper(unix.IPPROTO_UDP), transportField(2, f.cfg.EncapPort), toLocal(), f.mark(), accept())
	f.rule(c, upper(unix.IPPROTO_ESP), toLocal(), f.mark(), accept())
	f.rule(c, upper(unix.IPPROTO_UDP), transportField(2, f.cfg.Port), toLocal(), f.mark(), accept())
	f.errors(c)
	f.links(c, true)
	// What is to all on a link is for none of the SAs.
	for _, typ := range [...]uint32{unix.RTN_BROADCAST, unix.RTN_MULTICAST} {
		f.rule(c, destinationType(typ), f.mark(), accept())
	}
	f.rule(c, toLocal(), jump(f.spd.peers))
	for fam := range 2 {
		f.rule(c, f.address(closedNets, fam, source), jump(f.spd.peers))
		// Without the first fragment, which is judged below, later ones are nothing; they may be of ESP.
		f.rule(c, inFamily(fam), laterFragment(fam), f.mark(), accept())
		// A host speaks for itself; what it forwards from others is not its own, nor is what passes this host by.
		f.rule(c, f.address(closedHosts, fam, source), toLocal(), counted(), drop())
		f.rule(c, f.address(openHosts, fam, source), f.mark(), accept())
		f.rule(c, f.address(closedNets, fam, source), counted(), drop())
	}
	f.rule(c, f.mark())
}

// departures is the chain for packets of this host that did not take the device, and for forwarded ones.
func (f *filter) departures() {
	c := f.chain("departures", nftables.ChainHookOutput, hookPriority)
	f.rule(c, toDevice(f.device), accept())
	f.rule(c, toDevice("lo"), accept())
	f.rule(c, f.marked(f.cfg.outer()), accept())
	f.rule(c, f.detained(), accept()) // to the device by now, which this hook does not see yet
	f.links(c, false)
	covered := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, &expr.Lookup{SourceRegister: 1, SetName: f.covers.Name, SetID: f.covers.ID},
	}
	for fam := range 2 {
		f.rule(c, f.address(closedHosts, fam, destination), covered, accept())
		f.rule(c, f.address(closedHosts, fam, destination), counted(), drop())
		f.rule(c, f.address(openHosts, fam, destination), accept())
		f.rule(c, f.address(closedNets, fam, destination), counted(), drop())
	}
	f.rule(c, jump(f.spd.leaving))
	c = f.chain("forwarded", nftables.ChainHookForward, hookPriority+1)
	f.rule(c, toDevice(f.device), accept())
	for fam := range 2 {
		f.rule(c, f.address(closedNets, fam, destination), counted(), drop())
	}
}

// neighbours has ARP requests of protected hosts answered: they are checked as packets from them would be.
func (f *filter) neighbours() {
	c := f.nft.AddChain(&nftables.Chain{
		Name: "arrivals", Table: f.arp, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookRef(0), Priority: nftables.ChainPriorityRef(hookPriority),
	})
	f.nft.AddRule(&nftables.Rule{Table: f.arp, Chain: c, Exprs: f.mark()})
}

// errors lets ICMP errors about packets of the plane's own pass: "unreachable" and "too big" (RFC 4301 §6.1.1), told by
// the packet that they quote.
func (f *filter) errors(c *nftables.Chain) {
	quotes := [...]struct {
		proto             byte
		types             []byte
		protoAt, sourceAt uint32
	}{
		{unix.IPPROTO_ICMP, []byte{3}, 8 + 9, 8 + 20},
		{unix.IPPROTO_ICMPV6, []byte{1, 2}, 8 + 6, 8 + 40},
	}
	for _, q := range quotes {
		for _, typ := range q.types {
			head := append(upper(q.proto), transportByte(0, typ)...)
			f.rule(c, head, transportByte(q.protoAt, unix.IPPROTO_ESP), f.mark(), accept())
			for _, number := range [...]uint16{f.cfg.Port, f.cfg.EncapPort} {
				f.rule(c, head, transportByte(q.protoAt, unix.IPPROTO_UDP), transportField(q.sourceAt, number), f.mark(), accept())
			}
		}
	}
}

// links lets pass what the link itself lives on: neighbour and router discovery, DHCP.
func (f *filter) links(c *nftables.Chain, arriving bool) {
	var mark []expr.Any
	if arriving {
		mark = f.mark()
	}
	for typ := byte(133); typ <= 136; typ++ {
		f.rule(c, upper(unix.IPPROTO_ICMPV6), transportByte(0, typ), mark, accept())
	}
	for _, ports := range [...][2]uint16{{67, 68}, {68, 67}, {547, 546}, {546, 547}} {
		f.rule(c, upper(unix.IPPROTO_UDP), transportField(0, ports[0]), transportField(2, ports[1]), mark, accept())
	}
}

func (f *filter) chain(name string, hook *nftables.ChainHook, priority int) *nftables.Chain {
	return f.nft.AddChain(&nftables.Chain{
		Name: name, Table: f.table, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityRef(nftables.ChainPriority(priority)),
	})
}

func (f *filter) rule(c *nftables.Chain, parts ...[]expr.Any) {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	f.nft.AddRule(&nftables.Rule{Table: f.table, Chain: c, Exprs: all})
}

func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func equal(b []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: b} }

func accept() []expr.Any  { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }
func drop() []expr.Any    { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }
func counted() []expr.Any { return []expr.Any{&expr.Counter{}} }

// name is an interface name as nftables compares it.
func interfaceName(s string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, s)
	return b
}

func fromDevice(name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, equal(interfaceName(name))}
}

func toDevice(name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, equal(interfaceName(name))}
}

func upper(proto byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{proto})}
}

func transportField(at uint32, v uint16) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: at, Len: 2}, equal(be.AppendUint16(nil, v))}
}

func transportByte(at uint32, v byte) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: at, Len: 1}, equal([]byte{v})}
}

// laterFragment matches fragments with an offset.
func laterFragment(fam int) []expr.Any {
	load := expr.Any(&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 6, Len: 2})
	mask := uint16(0x1fff)
	if fam == 1 {
		load = &expr.Exthdr{DestRegister: 1, Type: unix.IPPROTO_FRAGMENT, Offset: 2, Len: 2, Op: expr.ExthdrOpIpv6}
		mask = 0xfff8
	}
	return []expr.Any{
		load,
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: be.AppendUint16(nil, mask), Xor: []byte{0, 0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0, 0}},
	}
}

func destinationType(typ uint32) []expr.Any {
	return []expr.Any{&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true}, equal(native(typ))}
}

func toLocal() []expr.Any { return destinationType(unix.RTN_LOCAL) }

// marked matches packets that have all of the bits.
func (f *filter) marked(bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native(bits), Xor: native(0)},
		equal(native(bits)),
	}
}

// setBits changes the plane's bits of the mark and leaves the others alone.
func setBits(off, on uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native(^(off | on)), Xor: native(on)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}
}

func (f *filter) mark() []expr.Any { return setBits(0, f.cfg.outer()) }

// detain marks packets that are to wait in the plane.
func (f *filter) detain() []expr.Any { return setBits(f.cfg.Mark, f.cfg.opened()) }

// detained matches what detain has marked.
func (f *filter) detained() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native(f.cfg.Mark), Xor: native(0)},
		equal(native(f.cfg.opened())),
	}
}

func (f *filter) unmark() []expr.Any { return setBits(f.cfg.Mark, 0) }

func inFamily(fam int) []expr.Any {
	proto := [...]byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6}[fam]
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{proto})}
}

// Ends of a packet, for address.
const (
	source = iota
	destination
)

// address matches packets with one end in a set.
func (f *filter) address(kind, fam, end int) []expr.Any {
	size, at := uint32(4), uint32(12)
	if fam == 1 {
		size, at = 16, 8
	}
	if end == destination {
		at += size
	}
	s := f.sets[kind][fam]
	return append(inFamily(fam),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: size},
		&expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID})
}
