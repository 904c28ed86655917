package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// lookAtMemory is how often it is looked whether memory can be given back.
const lookAtMemory = 30 * time.Second

// saveMemory gives memory back to the system when a burst is over, until ctx ends. What the daemon holds is peers, most of
// which do nothing, and packets make no garbage: what the collector keeps free for the next burst may be as much again, for
// ever. Collecting more often instead would cost each handshake a tenth more.
func saveMemory(ctx context.Context) {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(lookAtMemory)
	defer tick.Stop()
	for u := (usage{}); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(samples)
		if u.over(samples[0].Value.Uint64(), samples[1].Value.Uint64()) {
			debug.FreeOSMemory()
		}
	}
}

// usage is what has been allocated, in octets since the start.
type usage struct {
	last  uint64 // at the last look
	given uint64 // when memory was last given back
}

// little is how much may be allocated between two looks at all times.
const little = 1 << 20

// over reports whether a burst is over, and is asked once for each: memory has been used since it was last given back, and
// next to none of it since the last look. live is what the last collection found in use.
func (u *usage) over(allocated, live uint64) bool {
	calm := allocated-u.last <= max(little, live/8)
	u.last = allocated
	if !calm || allocated-u.given <= max(little, live/8) {
		return false
	}
	u.given = allocated
	return true
}
