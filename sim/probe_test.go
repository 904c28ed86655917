package sim

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/ikev2/wire"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/selector"
)

// probes counts what a host sends to hosts that may not want it.
type probes struct {
	datagrams, octets, largest int
	by                         map[netip.Addr]int
	perSecond                  map[int64]int
	attempts                   map[netip.Addr][]time.Time
}

func (p *probes) note(now time.Time, s host.Send) {
	p.datagrams++
	n := 28 + len(s.Data)
	p.octets += n
	p.largest = max(p.largest, n)
	a := s.Remote.Addr()
	p.by[a]++
	if p.by[a] == 1 {
		p.perSecond[now.Unix()]++
	}
	if last := p.attempts[a]; len(last) == 0 || now.Sub(last[len(last)-1]) > 10*time.Second {
		p.attempts[a] = append(last, now)
	}
}

// lone is a host by itself, on a clock of the test's: it sends, and nobody is there.
type lone struct {
	t     *testing.T
	host  *host.Host
	now   time.Time
	local netip.Addr
	sent  probes
	last  host.Send
	all   []host.Change
	route func(netip.Addr) error
}

func newLone(t *testing.T, edit func(*host.Config)) *lone {
	w := New(t, 1)
	n := w.Host("a", func(c *host.Config) {
		if edit != nil {
			edit(c)
		}
	})
	l := &lone{t: t, now: w.now, local: n.Addr, sent: probes{by: map[netip.Addr]int{}, perSecond: map[int64]int{}, attempts: map[netip.Addr][]time.Time{}}}
	h, err := host.New(n.cfg, chance{w.rnd})
	if err != nil {
		t.Fatal(err)
	}
	l.host = h
	l.carryOut(h.Start(l.now, nil))
	l.all = nil // the rules, which are about everybody
	return l
}

func (l *lone) step(ev host.Event) { l.carryOut(l.host.Step(l.now, ev, nil)) }

func (l *lone) carryOut(acts []host.Action) {
	for _, a := range acts {
		switch a := a.(type) {
		case host.Send:
			l.sent.note(l.now, a)
			l.last = a
		case host.Compute:
			a.Job.Run()
			l.step(host.Computed(a))
		case host.FindSource:
			ev := host.SourceFound{Remote: a.Remote, Local: l.local}
			if l.route != nil {
				if err := l.route(a.Remote); err != nil {
					ev = host.SourceFound{Remote: a.Remote, Err: err}
				}
			}
			l.step(ev)
		case host.Report:
			if a.Reason != "" && !a.Reason.Known() || a.Reason == "" && a.Level >= host.Warn {
				l.t.Errorf("%s reported with the reason %q", a.Kind, a.Reason)
			}
		case host.Change:
			l.all = append(l.all, a)
		}
	}
}

// run lets time pass.
func (l *lone) run(d time.Duration) {
	end := l.now.Add(d)
	for {
		at, ok := l.host.Deadline()
		if !ok || at.After(end) {
			l.now = end
			return
		}
		if at.After(l.now) {
			l.now = at
		}
		l.step(host.Tick{})
	}
}

func (l *lone) acquire(to netip.Addr) {
	l.step(host.FromPlane{Event: dataplane.Acquire{Flow: selector.Flow{Local: l.local, Remote: to, Proto: 6, RemotePort: 80}}})
}

func far(i int) netip.Addr { return netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}) }

// 10,000 hosts without btns, spoken to at once and for ten minutes: bounded rate, bounded memory, nothing is left of them
// but a few octets, and their traffic is never touched.
func TestTenThousandStrangers(t *testing.T) {
	const many = 10_000
	l := newLone(t, nil)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const minutes = 12
	for s := range minutes * 60 {
		for i := s % 30; i < many; i += 30 { // the kernel asks for each every half a minute
			l.acquire(far(i))
		}
		l.run(time.Second)
	}
	l.run(time.Minute)
	runtime.GC()
	runtime.ReadMemStats(&after)
	busiest, most := 0, 0
	for _, n := range l.sent.perSecond {
		busiest = max(busiest, n)
	}
	for _, n := range l.sent.by {
		most = max(most, n)
	}
	st := l.host.Status(l.now)
	t.Logf("%d destinations in %d min: %d tried (%d in the busiest second), %d datagrams of at most %d octets, %d octets a second; %+v; heap grew by %d KiB",
		many, minutes, len(l.sent.by), busiest, l.sent.datagrams, l.sent.largest, l.sent.octets/(minutes*60), st.Probes, (int64(after.HeapAlloc)-int64(before.HeapAlloc))>>10)
	if busiest > 40 || len(l.sent.by) > 20*minutes*60+40 || len(l.sent.by) < many {
		t.Errorf("%d addresses tried, %d in the busiest second", len(l.sent.by), busiest)
	}
	if l.sent.largest > 600 {
		t.Errorf("a datagram of %d octets", l.sent.largest)
	}
	for a, times := range l.sent.attempts {
		if l.sent.by[a] > 3*len(times) {
			t.Fatalf("%v got %d datagrams in %d attempts", a, l.sent.by[a], len(times))
		}
		for i := 1; i < len(times); i++ {
			if times[i].Sub(times[i-1]) < time.Minute {
				t.Fatalf("%v was tried again after %v", a, times[i].Sub(times[i-1]))
			}
		}
	}
	if len(l.host.Peers(l.now)) != 0 || st.Promised != 0 || st.Clear != 0 {
		t.Errorf("what is left: %d peers, %+v", len(l.host.Peers(l.now)), st)
	}
	if len(l.all) > 0 {
		t.Errorf("the plane was told %+v of a host without btns", l.all[0].Change)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("the heap grew by %d octets", grown)
	}
	runtime.KeepAlive(l)
}

// What stands for no host, and what policy leaves alone, is never tried; nor is an address without a route remembered as
// a peer.
func TestNeverTried(t *testing.T) {
	l := newLone(t, nil)
	for _, a := range []string{"224.0.0.251", "255.255.255.255", "169.254.1.1", "127.0.0.1", "0.0.0.0", "240.0.0.1", "ff02::1", "fe80::1", "::1", "::"} {
		addr := netip.MustParseAddr(a)
		l.acquire(addr)
		l.step(host.Connect{Remote: addr})
	}
	l.run(time.Minute)
	if l.sent.datagrams != 0 {
		t.Errorf("%v got datagrams", l.sent.by)
	}
	l.route = func(netip.Addr) error { return fmt.Errorf("network is unreachable") }
	for i := range 100 {
		l.step(host.Connect{Remote: far(i)})
	}
	if n := len(l.host.Peers(l.now)); n != 0 || l.sent.datagrams != 0 {
		t.Errorf("%d peers remembered, %d datagrams", n, l.sent.datagrams)
	}
	if x := l.host.Explain(l.now, far(1), 0); x.Reason != host.NoRoute || x.Hint == "" {
		t.Errorf("%+v", x)
	}
}

// answer feeds back an unprotected error to the last IKE_SA_INIT that was sent.
func (l *lone) answer(typ wire.NotifyType) {
	l.t.Helper()
	m, err := wire.ParseMessage(l.last.Data)
	if err != nil {
		l.t.Fatal(err)
	}
	back := wire.Message{Header: m.Header, Payloads: []wire.Payload{{Type: wire.PayloadNotify, Body: wire.Notify{Type: typ}}}}
	back.Flags = wire.FlagResponse
	l.step(host.FromPlane{Event: dataplane.Datagram{Local: l.last.Local, Remote: l.last.Remote, Data: back.Append(nil)}})
}

// Silence, a closed port and an answer that fits nothing are told apart, and each says when it is tried again.
func TestOutcomesAreToldApart(t *testing.T) {
	for _, tc := range []struct {
		name   string
		during func(*lone)
		reason host.Reason
		says   string
	}{
		{"silence", func(*lone) {}, host.NoAnswer, "no answer"},
		{"ICMP port unreachable", func(l *lone) { l.step(host.FromPlane{Event: dataplane.PortClosed{Remote: far(1)}}) }, host.PortClosed, "refused"},
		{"no proposal chosen", func(l *lone) { l.answer(wire.NoProposalChosen) }, host.NoProposal, "answers but is not compatible"},
		{"another error", func(l *lone) { l.answer(wire.AuthenticationFailed) }, host.PeerError, "answers but is not compatible"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLone(t, nil)
			l.acquire(far(1))
			l.run(100 * time.Millisecond)
			tc.during(l)
			l.run(20 * time.Second)
			if n := l.sent.by[far(1)]; n != 3 {
				t.Errorf("%d datagrams: what anybody can forge changes nothing", n)
			}
			x := l.host.Explain(l.now, far(1), 80)
			story := fmt.Sprint(x.Steps)
			if x.Reason != tc.reason || !strings.Contains(story, tc.says) || !strings.Contains(story, "left alone until") || x.Hint == "" || x.State != host.StateClear {
				t.Errorf("%+v", x)
			}
			l.acquire(far(1))
			l.run(20 * time.Second)
			if n := l.sent.by[far(1)]; n != 3 {
				t.Errorf("tried again at once: %d datagrams", n)
			}
			l.run(time.Minute)
			l.acquire(far(1))
			l.run(20 * time.Second)
			if n := l.sent.by[far(1)]; n != 6 {
				t.Errorf("not tried again after a minute: %d datagrams", n)
			}
		})
	}
	l := newLone(t, nil) // a hint about an attempt that is not under way is none
	for i := range 1000 {
		l.step(host.FromPlane{Event: dataplane.PortClosed{Remote: far(i)}})
	}
	if x := l.host.Explain(l.now, far(1), 0); x.Reason != "" || len(l.host.Peers(l.now)) != 0 {
		t.Errorf("%+v", x)
	}
}

// hold is a policy that lets packets wait for a moment while a host is tried.
func hold(c *host.Config) {
	p, err := policy.New(append(policy.Untouchable(), policy.Rest(policy.Unknown{Fallback: policy.Prefer, Waiting: policy.Hold})...), []policy.PADEntry{policy.Anyone()})
	if err != nil {
		panic(err)
	}
	c.Policy = p
}

// Hold: what comes while a host is tried waits, and goes protected when it turns out to run btns; a host that does not is
// spoken to in clear after the set time.
func TestHoldWhileTrying(t *testing.T) {
	w := New(t, 3)
	a, b := w.Host("a", hold), w.Host("b")
	w.SetLink(Link{Delay: 50 * time.Millisecond})
	w.After(0, func() { a.Send(b) }) // noticed from the side, so it has left
	for i := range 10 {
		w.After(time.Duration(10+i*20)*time.Millisecond, func() { a.Send(b) })
	}
	w.RunUntil(10*time.Second, "protected", func() bool { return a.Protected(b) && b.Protected(a) })
	w.Run(time.Second)
	if got := b.tally(a.Addr); got.Clear != 1 || got.Protected != 10 {
		w.Fail("%d packets came in clear, %d protected; want the first, and all others", got.Clear, got.Protected)
	}

	c := w.Host("c")
	c.Kill()
	w.After(0, func() { a.Send(c) })
	w.Run(time.Second)
	if s, _, _ := a.table.State(c.Addr); s != flow.Hold {
		w.Fail("packets do not wait: %v", s)
	}
	w.Run(host.DefaultHold)
	if s, _, _ := a.table.State(c.Addr); s != flow.Clear {
		w.Fail("packets wait for more than the set time: %v", s)
	}
	w.Run(10 * time.Second)
	a.Send(c)
	w.Run(time.Second)
	if s, _, _ := a.table.State(c.Addr); s != flow.Clear {
		w.Fail("a host that is known not to answer makes packets wait: %v", s)
	}
}

// Remembered means required: with IKE blocked for an hour, and across a restart, no packet leaves in clear; status and
// explain name the outage; forgetting ends it; and without any help it recovers when IKE passes again (TRUST-T10).
func TestRememberedMeansRequired(t *testing.T) {
	w := New(t, 7)
	a, b := meet(w)
	w.Run(time.Minute)
	chatter(w, 10*time.Second, a, b)
	w.Cut(a, b, true)
	for range 360 { // checkMayPass fails the test when one leaves in clear
		a.Send(b)
		w.Run(10 * time.Second)
	}
	v, _ := a.view(b)
	x := a.host.Explain(w.now, b.Addr, 0)
	if v.State != host.StateOutage || v.Reason != host.NoAnswer || !strings.Contains(x.Hint, "btns trust forget "+b.Addr.String()) {
		w.Fail("view %+v, explained as %+v", v, x)
	}
	if s := a.host.Status(w.now); s.Outage != 1 || len(s.Problems) != 1 || !strings.Contains(s.Problems[0], string(host.NoAnswer)) {
		w.Fail("status %+v", s)
	}
	a.Kill()
	a.Boot()
	for range 10 {
		a.Send(b)
		w.Run(10 * time.Second)
	}
	if s, _, _ := a.table.State(b.Addr); s != flow.Hold {
		w.Fail("after a restart the peer is in state %v", s)
	}
	w.Cut(a, b, false)
	chatter(w, 3*time.Minute, a, b)
	w.CheckWorks(a, b)

	w.Cut(a, b, true)
	b.Kill()
	for range 20 {
		a.Send(b)
		w.Run(10 * time.Second)
	}
	a.step(host.Forget{Addr: b.Addr})
	if s, _, _ := a.table.State(b.Addr); s != flow.Clear {
		w.Fail("after it was forgotten, the peer is in state %v", s)
	}
}

// explain goes through the deciders in order, and its last word is one thing to do.
func TestExplainWalksTheWay(t *testing.T) {
	w := New(t, 11)
	a, b := meet(w)
	x := a.host.Explain(w.now, b.Addr, 80)
	var names []string
	for _, s := range x.Steps {
		names = append(names, s.Name)
	}
	if got := strings.Join(names, " "); got != "policy trust probe state ike pad key assurance sa" {
		w.Fail("steps %s: %+v", got, x.Steps)
	}
	for i, part := range []string{`"everything else" (built in)`, "is recorded", "answers", "protected since", "AES-GCM", `"anyone"`, "SHA256:", "first-use", "packets"} {
		if !strings.Contains(x.Steps[i].Text, part) {
			w.Fail("step %s lacks %q: %s", x.Steps[i].Name, part, x.Steps[i].Text)
		}
	}
	if x.Reason != "" || x.State != host.StateProtected || !strings.Contains(x.Hint, "compare the key") {
		w.Fail("%+v", x)
	}
	if x := a.host.Explain(w.now, netip.MustParseAddr("224.0.0.1"), 0); len(x.Steps) != 2 || x.Hint != "" {
		w.Fail("multicast: %+v", x)
	}
	if x := a.host.Explain(w.now, far(9), 0); x.Reason != "" || !strings.Contains(x.Hint, "btns wait") {
		w.Fail("never met: %+v", x)
	}
}

// A host that answers whatever comes cannot be used against a third: what is sent because of forged messages is never
// more, nor larger, than what came, and nothing goes to who was not asked about.
func TestNoReflection(t *testing.T) {
	l := newLone(t, nil)
	in, inOctets := 0, 0
	for i := range 5000 {
		victim := netip.AddrPortFrom(far(i%50), 500)
		data := make([]byte, 28+i%700)
		binary.BigEndian.PutUint64(data, uint64(i+1))
		data[16], data[17], data[18], data[19] = 46, 0x20, byte(34+i%5), byte([]int{0x08, 0x28, 0x20, 0x00}[i/7%4])
		if i%3 == 0 {
			binary.BigEndian.PutUint64(data[8:], uint64(i))
		}
		binary.BigEndian.PutUint32(data[24:], uint32(len(data)))
		in++
		inOctets += len(data) + 28
		l.step(host.FromPlane{Event: dataplane.Datagram{Local: netip.AddrPortFrom(l.local, 500), Remote: victim, Data: data}})
		if i%2 == 0 {
			l.step(host.FromPlane{Event: dataplane.UnknownSPI{Local: netip.AddrPortFrom(l.local, 4500), Remote: victim, SPI: uint32(i)}})
			l.step(host.FromPlane{Event: dataplane.PortClosed{Remote: victim.Addr()}})
		}
		l.run(2 * time.Millisecond)
	}
	l.run(time.Minute)
	t.Logf("%d forged messages, %d octets: %d answers, %d octets", in, inOctets, l.sent.datagrams, l.sent.octets)
	if l.sent.datagrams > 20*11 || l.sent.octets > inOctets {
		t.Errorf("%d datagrams, %d octets sent for %d forged ones of %d octets", l.sent.datagrams, l.sent.octets, in, inOctets)
	}
}
