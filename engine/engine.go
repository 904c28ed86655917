package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/selector"
	"github.com/btns-ipsec/btns/trust"
)

// ErrStopped says that the engine is no longer running.
var ErrStopped = errors.New("engine: stopped")

// farewell bounds how long Close waits for the host to have told its peers.
const farewell = 3 * time.Second

// Host is what the engine runs: a [host.Host], or a fake in tests.
type Host interface {
	Start(now time.Time, out []host.Action) []host.Action
	Step(now time.Time, ev host.Event, out []host.Action) []host.Action
	Deadline() (time.Time, bool)
	Peers(now time.Time) []host.PeerView
	Status(now time.Time) host.StatusView
	Explain(now time.Time, addr netip.Addr, port uint16) host.Explanation
	Records() []trust.Record
	Own() host.OwnView
	Comparing(now time.Time, addr netip.Addr) host.CompareView
	TestPolicy(now time.Time, f selector.Flow) host.PolicyTest
}

// Config is what an engine runs on. The engine closes plane and store.
type Config struct {
	Host Host
	// Open opens the plane; sink takes its events and may be called before Open returns.
	Open func(sink func(dataplane.Event)) (dataplane.Plane, error)
	// Around reads what network this host is in; nil: that is not followed. The host knows what it was at first.
	Around   func() host.Surroundings
	Store    Store
	Keys     KeyStore        // nil: the own key is not kept, and cannot be changed
	Signer   identity.Signer // the own key; for peers that are configured later
	Log      *slog.Logger
	Workers  int      // for public-key work; 0 is one for each processor
	Problems []string // known before the start, for Status
}

// Engine is a running host.
type Engine struct {
	cfg     Config
	host    Host
	plane   dataplane.Plane
	info    dataplane.Info
	inbox   *inbox
	workers *workers
	saver   *saver
	teller  *teller

	quit    chan struct{} // closed: the loop ends
	done    chan struct{} // closed: the loop has ended
	stopped chan struct{} // closed: the host has said Stopped
	key     atomic.Pointer[identity.Signer]
	closing sync.Once
	err     error // of closing

	loop loopState
}

// Start opens the plane and begins. On an error the store is closed too.
func Start(cfg Config) (*Engine, error) {
	e := &Engine{
		cfg: cfg, host: cfg.Host, inbox: newInbox(), teller: &teller{log: cfg.Log},
		quit: make(chan struct{}), done: make(chan struct{}), stopped: make(chan struct{}),
	}
	e.key.Store(&cfg.Signer)
	plane, err := cfg.Open(e.inbox.plane)
	if err != nil {
		return nil, errors.Join(err, cfg.Store.Close())
	}
	e.plane, e.info = plane, plane.Info()
	n := cfg.Workers
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	e.workers = startWorkers(n, func(j ikev2.Job) { e.inbox.put(item{event: host.Computed{Job: j}}, 0) })
	e.saver = startSaver(cfg.Store, func(err error) {
		e.inbox.put(item{call: func() {
			e.teller.tell(time.Now(), host.Report{
				Time: time.Now(), Kind: StoreFailed, Level: host.Warn, Reason: host.StoreTrouble, Text: err.Error(),
				Hint: "what was learnt of peers is kept in memory and tried again: is the disk full or read-only?",
			})
		}}, 0)
	})
	go e.run()
	return e, nil
}

// Close stops in good order: peers are told, within three seconds; then the plane takes back what it changed.
func (e *Engine) Close() error {
	e.closing.Do(func() {
		e.inbox.put(item{event: host.Stop{}}, 0)
		timer := time.NewTimer(farewell)
		defer timer.Stop()
		select {
		case <-e.stopped:
		case <-timer.C:
		}
		close(e.quit)
		<-e.done
		e.inbox.close()
		e.workers.close()
		if err := e.plane.Close(); err != nil {
			e.err = fmt.Errorf("engine: closing the plane: %w", err)
		}
		e.err = errors.Join(e.err, e.saver.close())
	})
	return e.err
}

// Plane describes the plane as it was opened.
func (e *Engine) Plane() dataplane.Info { return e.info }
