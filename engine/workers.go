package engine

import (
	"sync"

	"github.com/btns-ipsec/btns/ikev2"
)

// workers is a fixed set of goroutines for public-key work. How much can wait is bounded by the host: an IKE SA has at
// most one job at a time, and half-open ones are limited.
type workers struct {
	done func(ikev2.Job)
	wg   sync.WaitGroup

	mu     sync.Mutex
	work   sync.Cond // on mu: jobs or closed changed
	jobs   []ikev2.Job
	closed bool
}

func startWorkers(n int, done func(ikev2.Job)) *workers {
	w := &workers{done: done}
	w.work.L = &w.mu
	for range n {
		w.wg.Go(w.run)
	}
	return w
}

func (w *workers) add(j ikev2.Job) {
	w.mu.Lock()
	w.jobs = append(w.jobs, j)
	w.mu.Unlock()
	w.work.Signal()
}

func (w *workers) run() {
	for {
		w.mu.Lock()
		for len(w.jobs) == 0 && !w.closed {
			w.work.Wait()
		}
		if w.closed {
			w.mu.Unlock()
			return
		}
		j := w.jobs[0]
		w.jobs[0] = nil
		w.jobs = w.jobs[1:]
		w.mu.Unlock()
		j.Run()
		w.done(j)
	}
}

// close forgets the jobs that wait, and waits for those that run.
func (w *workers) close() {
	w.mu.Lock()
	w.jobs, w.closed = nil, true
	w.mu.Unlock()
	w.work.Broadcast()
	w.wg.Wait()
}
