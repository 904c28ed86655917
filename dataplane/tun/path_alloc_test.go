//go:build linux

package tun

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
)

// tcpFrame is a frame of the device with n octets of TCP payload to be cut into segments of size.
func tcpFrame(n, size int) []byte {
	src, dst := netip.MustParseAddr(a4), netip.MustParseAddr(b4)
	p := make([]byte, 40+n)
	flow.PutHeader(p, src, dst, protoTCP, 0, 64, 20+n)
	be.PutUint16(p[20:], 1000)
	be.PutUint16(p[22:], 2000)
	p[32], p[33] = 5<<4, tcpACK
	b := make([]byte, headroom+vnetLen+len(p)+tailroom)
	if n > size {
		vnet{flags: needsSum, gso: gsoTCP4, head: 40, size: size, sumStart: 20, sumOff: 16}.put(b[headroom:])
	} else {
		vnet{flags: needsSum, sumStart: 20, sumOff: 16}.put(b[headroom:])
		be.PutUint16(p[36:], fold(sum(p[12:20], uint64(0))+0)) // the kernel's partial sum; its value is of no matter here
	}
	copy(b[headroom+vnetLen:], p)
	return b
}

// Neither path allocates per packet (performance.md §7).
func TestNoAllocation(t *testing.T) {
	for _, mode := range [][]pairOption{nil, {tunnel}, {raw}} {
		a, _ := twoNodes(t)
		a.open(Config{})
		spec := pairOf(1, gcm128, a4, b4, mode...)
		a.protect(spec)
		o := a.plane.outs[0]
		o.mu.Lock()
		table := a.plane.table.Load()
		for _, frame := range [][]byte{tcpFrame(1000, 1448), tcpFrame(60000, 1380)} {
			work := make([]byte, len(frame))
			if n := testing.AllocsPerRun(50, func() {
				copy(work, frame)
				o.packet(table, work, headroom+vnetLen, len(work)-tailroom, readVnet(work[headroom:]), false)
				o.flush()
			}); n != 0 {
				t.Errorf("%v: %v allocations for a frame of %d octets out", spec.Mode, n, len(frame))
			}
		}
		o.mu.Unlock()
		if u := a.plane.Counters(nil)[0]; u.PacketsOut < 50*44 {
			t.Errorf("only %d packets were sealed", u.PacketsOut)
		}
		inboundAllocations(t, a, spec)
	}
}

func inboundAllocations(t *testing.T, a *node, spec flow.Spec) {
	t.Helper()
	peer, err := flow.NewPair(pairOf(1, gcm128, b4, a4, func(s *flow.Spec) { s.Mode = spec.Mode }))
	if err != nil {
		t.Fatal(err)
	}
	const runs, each = 60, 40
	var sealed [][]byte
	for k := range runs * each {
		p := tcpFrame(1000, 1448)
		p = p[headroom+vnetLen : len(p)-tailroom]
		copy(p[12:], []byte{192, 0, 2, 2, 192, 0, 2, 1})
		sumIPv4(p[:20])
		be.PutUint32(p[24:], uint32(1000*k))
		p[36], p[37] = 0, 0
		be.PutUint16(p[36:], ^fold(sum(p[20:], pseudoOf(p, 20, protoTCP, len(p)-20))))
		_, info, err := flow.ParseFlow(p, true)
		if err != nil {
			t.Fatal(err)
		}
		b, why := peer.SealPacket(nil, p, &info)
		if why != flow.NoReason {
			t.Fatal(why)
		}
		sealed = append(sealed, b)
	}
	all := sealed
	i := a.plane.ins[0]
	for _, in := range a.plane.ins {
		if in.s.kind == encapSocket && !in.s.v6 {
			i = in
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.table, i.now = a.plane.table.Load(), time.Now().UnixNano()
	i.from, i.how = netip.MustParseAddrPort(b4+":4500"), arrival{local: netip.MustParseAddr(a4)}
	before := saOf(i.table.Pair(1)).pair.Usage().PacketsIn
	if n := testing.AllocsPerRun(runs-1, func() {
		for _, b := range sealed[:each] {
			i.datagram(b)
		}
		sealed = sealed[each:]
		i.x.flush()
	}); n != 0 {
		t.Errorf("%v: %v allocations for %d packets in", spec.Mode, n, each)
	}
	i.use(nil)
	u := i.table.Pair(1).Usage()
	if u.PacketsIn-before != runs*each || u.Drops != 0 {
		t.Errorf("%+v", u)
	}
	a.plane.rest(time.Now().Add(time.Hour).UnixNano())
	for _, b := range all {
		i.datagram(b)
	}
	i.use(nil)
	if u := i.table.Pair(1).Usage(); u.PacketsIn-before != runs*each || u.Drops != runs*each {
		t.Errorf("after a rest %d packets came a second time", u.PacketsIn-before-runs*each)
	}
}

// Ten thousand peers come and go one by one, and stay cheap.
func TestManyPrefixes(t *testing.T) {
	if testing.Short() {
		t.Skip("left out with -short: ten thousand peers")
	}
	a, _ := twoNodes(t)
	a.open(Config{})
	const many = 10000
	at := func(i int) dataplane.SetPrefix {
		addr := netip.AddrFrom4([4]byte{192, 0, 2, 100})
		if i > 0 {
			addr = netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)})
		}
		return dataplane.SetPrefix{Prefix: netip.PrefixFrom(addr, 32), State: flow.Protect, Local: netip.MustParseAddr(a4)}
	}
	a.sh("ip route add 10.9.0.0/16 via 192.0.2.2")
	batch := make([]dataplane.Change, 0, many)
	for i := range many - 100 {
		batch = append(batch, at(i))
	}
	begin := time.Now()
	a.apply(batch...)
	all := time.Since(begin)
	begin = time.Now()
	for i := many - 100; i < many; i++ {
		a.apply(at(i))
	}
	single := time.Since(begin) / 100
	t.Logf("%d at once: %v; one more: %v", many, all, single)
	if single > 100*time.Millisecond {
		t.Errorf("one more prefix beside %d took %v", many, single)
	}
	if n := len(a.plane.host.routes.at); n != many {
		t.Errorf("%d routes", n)
	}
	for i := range batch {
		c := at(i)
		c.State = flow.Clear
		batch[i] = c
	}
	begin = time.Now()
	a.apply(batch...)
	t.Logf("removed: %v", time.Since(begin))
}

// Hosts and networks that change together are all in the kernel's sets, intervals whole, whatever fits into one message.
func TestPrefixesOfAllKinds(t *testing.T) {
	a, _ := twoNodes(t)
	a.open(Config{})
	for _, hosts := range []int{1, maxElements - 1, maxElements, maxElements + 1} {
		const nets = maxElements/2 + 3
		var batch []dataplane.Change
		set := func(p netip.Prefix, s flow.State) {
			batch = append(batch, dataplane.SetPrefix{Prefix: p, State: s, Local: netip.MustParseAddr(a4)})
		}
		all := func(state flow.State) {
			for i := range hosts {
				set(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), 32), state)
			}
			for i := range nets {
				set(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 20 + byte(i>>7), byte(i << 1), 0}), 24), state)
			}
		}
		count := func(name string) int {
			s, err := a.plane.host.filter.nft.GetSetByName(a.plane.host.filter.table, name)
			if err != nil {
				t.Fatal(err)
			}
			elements, err := a.plane.host.filter.nft.GetSetElements(s)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, e := range elements {
				if !e.IntervalEnd {
					n++
				}
			}
			return n
		}
		for _, state := range []flow.State{flow.Upgrade, flow.Protect, flow.Clear} {
			batch = batch[:0]
			all(state)
			a.apply(batch...)
			open, closed := 0, 0
			switch state {
			case flow.Upgrade:
				open = 1
			case flow.Protect:
				closed = 1
			}
			for name, want := range map[string]int{"open4": open * hosts, "open-net4": open * nets, "closed4": closed * hosts, "closed-net4": closed * nets} {
				if got := count(name); got != want {
					t.Errorf("%d hosts %v: set %s has %d, not %d", hosts, state, name, got, want)
				}
			}
		}
	}
}

// An SA that has nothing to do gives back what only a busy one needs. What it carries afterwards it carries as before, and
// a packet that came before comes no second time (RFC 4303 §3.4.3).
func TestRest(t *testing.T) {
	a, b := twoNodes(t)
	a.open(Config{})
	b.open(Config{})
	protectBoth(a, b, gcm128)
	a.mustPing(b4)
	later := func() int64 { return time.Now().Add(time.Hour).UnixNano() }
	busy := func(n *node) (busy int) {
		n.plane.table.Load().Pairs(func(p *flow.Pair) bool {
			s := saOf(p)
			for _, o := range n.plane.outs {
				o.mu.Lock()
				defer o.mu.Unlock()
			}
			s.in.Lock()
			defer s.in.Unlock()
			for _, what := range []bool{p.Sealer().Awake(), p.Opener().Awake(), s.dest.Load() != nil} {
				if what {
					busy++
				}
			}
			return true
		})
		return busy
	}
	for _, n := range []*node{a, b} {
		n.plane.rest(time.Now().Add(-time.Hour).UnixNano())
		if busy(n) != 3 {
			t.Errorf("%s: an SA that is used rests", n.name)
		}
		n.plane.rest(later())
		if busy(n) != 0 {
			t.Errorf("%s: an SA that is not used does not rest", n.name)
		}
	}
	stop := make(chan struct{})
	var resting sync.WaitGroup
	resting.Go(func() { // as if every moment were half a minute
		for {
			select {
			case <-stop:
				return
			default:
				a.plane.rest(later())
				b.plane.rest(later())
			}
		}
	})
	a.mustPing(b4)
	echo(t, a, b, b4, 1, 100, 1400)
	transfer(t, a, b, b4, 1<<20)
	close(stop)
	resting.Wait()
	if n := a.drops(flow.Replayed) + a.drops(flow.BadICV) + b.drops(flow.Replayed) + b.drops(flow.BadICV); n != 0 {
		t.Errorf("%d packets were dropped: %v, %v", n, a.seen(), b.seen())
	}
}
