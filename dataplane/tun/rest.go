//go:build linux

package tun

import (
	"time"

	"github.com/btns-ipsec/btns/dataplane/flow"
)

const (
	// restAfter is how long no packet must have come or gone under an SA before what only a busy one needs is given back.
	restAfter = 30 * time.Second
	restEvery = 10 * time.Second
	// restBatch is how many SAs are looked at while packets wait.
	restBatch = 64
)

// restless gives back the ciphers and replay windows of SAs that have nothing to do, until the plane is closed.
func (p *Plane) restless() {
	defer p.work.Done()
	t := time.NewTicker(restEvery)
	defer t.Stop()
	for {
		select {
		case <-p.stopped:
			return
		case now := <-t.C:
			p.rest(now.Add(-restAfter).UnixNano())
		}
	}
}

// rest has every SA rest that was not used since then.
func (p *Plane) rest(since int64) {
	pairs := make([]*flow.Pair, 0, restBatch)
	p.table.Load().Pairs(func(pair *flow.Pair) bool {
		if pairs = append(pairs, pair); len(pairs) == restBatch {
			p.restSome(pairs, since)
			pairs = pairs[:0]
		}
		return !p.stopping.Load()
	})
	p.restSome(pairs, since)
}

// restSome takes the locks under which each half is used: what they tell of its use is complete then.
func (p *Plane) restSome(pairs []*flow.Pair, since int64) {
	for _, o := range p.outs {
		o.mu.Lock()
	}
	for _, pair := range pairs {
		if s := saOf(pair); s != nil && pair.Usage().LastOut < since {
			pair.Sealer().Rest()
			s.dest.Store(nil)
		}
	}
	for _, o := range p.outs {
		o.mu.Unlock()
	}
	for _, pair := range pairs {
		if s := saOf(pair); s != nil {
			s.in.Lock()
			if pair.Usage().LastIn < since {
				pair.Opener().Rest()
			}
			s.in.Unlock()
		}
	}
}
