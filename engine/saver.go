package engine

import (
	"context"
	"sync"

	"github.com/btns-ipsec/btns/trust"
)

// Store keeps records across restarts.
type Store interface {
	// Apply writes changes in order, all or none. When it returns nil they survive a loss of power.
	Apply(changes ...trust.Change) error
	Close() error
}

// saver writes to the store on a goroutine of its own: what gathers during one write goes with the next. What cannot be
// written stays, and is tried again with the next change.
type saver struct {
	store Store
	fail  func(error)
	wg    sync.WaitGroup

	mu      sync.Mutex
	changed sync.Cond // on mu: any of these
	pending []trust.Change
	added   uint64 // changes ever taken
	settled uint64 // of them, written or given up for the moment
	err     error  // of the last write
	closed  bool
}

// maxPending bounds what waits for a store that fails; beyond it the oldest change is lost, as the failure said.
const maxPending = 1 << 16

func startSaver(store Store, fail func(error)) *saver {
	s := &saver{store: store, fail: fail}
	s.changed.L = &s.mu
	s.wg.Go(s.run)
	return s
}

func (s *saver) add(c trust.Change) {
	s.mu.Lock()
	if len(s.pending) >= maxPending {
		s.pending = s.pending[1:]
	}
	s.pending = append(s.pending, c)
	s.added++
	s.mu.Unlock()
	s.changed.Broadcast()
}

func (s *saver) run() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for last := false; ; {
		for s.settled == s.added && !s.closed {
			s.changed.Wait()
		}
		if s.settled == s.added && (last || len(s.pending) == 0) {
			return
		}
		last = s.closed
		batch, upTo := s.pending, s.added
		s.pending = nil
		s.mu.Unlock()
		err := s.store.Apply(batch...)
		if err != nil {
			s.fail(err)
		}
		s.mu.Lock()
		if err != nil {
			s.pending = append(batch, s.pending...)
		}
		s.settled, s.err = upTo, err
		s.changed.Broadcast()
	}
}

// flush waits until everything added before it is on disk, or could not be.
func (s *saver) flush(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.changed.Broadcast)
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for upTo := s.added; s.settled < upTo; {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.changed.Wait()
	}
	return s.err
}

// close writes what is left and closes the store.
func (s *saver) close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.changed.Broadcast()
	s.wg.Wait()
	return s.store.Close()
}
