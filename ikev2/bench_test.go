package ikev2

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"
)

// crowd makes n IKE SAs between one responder and as many initiators as addresses.
func crowd(t testing.TB, n int, cfg Config) *pair {
	p := newPair(t, 1, cfg, cfg)
	p.record = false
	p.delay = time.Microsecond
	p.b.cfg.CookieAbove, p.b.cfg.MaxHalfOpenPerPrefix = 1<<30, 1<<30
	for i := range n {
		init := p.initiation(p.a)
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], 0x0a000000+uint32(i))
		init.Local = ap(netip.AddrFrom4(a), 500)
		p.step2(p.a, init)
		for p.next2() {
		}
	}
	return p
}

// step2 and next2 are step and next without invariants and books: a benchmark is about the endpoint.
func (p *pair) step2(n *node, ev Event) {
	queue := []Event{ev}
	var out []Action
	for len(queue) > 0 {
		ev, queue = queue[0], queue[1:]
		out = n.Step(p.now, ev, out[:0])
		for _, a := range out {
			switch a := a.(type) {
			case Send:
				p.fly(p.other(n), Datagram{a.Remote, a.Local, a.Data})
			case Compute:
				a.Job.Run()
				queue = append(queue, Computed(a))
			case FindCredential:
				queue = append(queue, Credential{SA: a.SA, Local: n.local, Remote: n.remote})
			case JudgePeer:
				queue = append(queue, PeerJudged{SA: a.SA})
			case JudgeChild:
				n.spi++
				queue = append(queue, ChildJudged{SA: a.SA, Child: a.Child, SPI: n.spi, Local: a.Local, Remote: a.Remote, Mode: a.Mode, Offer: n.offer})
			}
		}
	}
}

func (p *pair) next2() bool {
	if len(p.sky) == 0 {
		return false
	}
	f := p.sky[0]
	p.sky = p.sky[1:]
	p.now = f.at
	p.step2(f.to, f.d)
	return true
}

// One handshake, both sides on one core.
func BenchmarkHandshake(b *testing.B) {
	for name, cfg := range map[string]Config{"X25519": plain(), "hybrid": {}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			p := crowd(b, b.N, cfg)
			if p.b.Stats().SAs != b.N {
				b.Fatalf("%d of %d", p.b.Stats().SAs, b.N)
			}
		})
	}
}

// What an idle IKE SA with one child holds (performance.md §4).
func TestMemoryPerSA(t *testing.T) {
	const n = 2000
	p := crowd(t, n, plain())
	p.now = p.now.Add(6 * time.Minute)
	p.step2(p.b, Tick{})
	p.a.Endpoint = nil
	var with, without runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&with)
	if p.b.Stats().SAs != n {
		t.Fatal(p.b.Stats().SAs)
	}
	p.b.Endpoint = nil
	runtime.GC()
	runtime.ReadMemStats(&without)
	per := int64(with.HeapAlloc-without.HeapAlloc) / n
	objects := int64(with.HeapObjects-without.HeapObjects) / n
	t.Logf("%d octets in %d objects for an IKE SA with one child", per, objects)
	if per > memoryLimit {
		t.Errorf("more than %d", memoryLimit)
	}
}

const memoryLimit = 1100
