package engine

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/btns-ipsec/btns/host"
)

// Kinds of reports that the engine adds to those of the host.
const (
	PlaneFailed host.Kind = "plane-failed" // the plane could not do what it was told
	StoreFailed host.Kind = "store-failed" // what was learnt could not be written
	EventsLost  host.Kind = "events-lost"  // a reader of events was too slow
)

// messages are the constant texts of log lines; a kind that is missing here is its own text.
var messages = map[host.Kind]string{
	host.Unprotected:    "no longer protected",
	host.FirstContact:   "key recorded",
	host.KeyChanged:     "peer key changed, refused",
	host.PeerRefused:    "peer refused",
	host.KeyLowered:     "less is known of a key",
	host.KeyRaised:      "more is known of a key",
	host.KeyReplaced:    "key replaced",
	host.KeyRotated:     "key rotated",
	host.KeyRevoked:     "key revoked",
	host.KeyShared:      "key or address shared",
	host.KeyCompared:    "key compared",
	host.OwnKey:         "own key",
	host.KeyCloned:      "key in two places",
	host.ConflictOver:   "recorded key is back",
	host.ProbeFailed:    "does not speak btns",
	host.Outage:         "protection required, peer does not answer",
	host.PacketsDropped: "packets dropped",
	host.IKENotice:      "IKE",
	host.PeerLeft:       "peer left",
	host.NetworkChanged: "network changed",
	host.Operator:       "on command",
	PlaneFailed:         "plane failed",
	StoreFailed:         "store failed",
}

// teller turns a report into a log line and a line for each watcher, so that the two never disagree.
type teller struct {
	log   *slog.Logger
	limit limiter // owned by the loop

	mu       sync.Mutex
	watchers map[*watcher]struct{}
}

// watcher is one reader of events. When its queue is full, reports are lost and counted.
type watcher struct {
	queue chan shown

	mu   sync.Mutex
	lost uint64
}

const watchQueue = 1024

// tell is called on the loop only.
func (t *teller) tell(now time.Time, r host.Report) {
	for _, s := range t.limit.admit(now, r, nil) {
		t.show(s)
	}
}

// expire tells what was suppressed in windows that are over.
func (t *teller) expire(now time.Time) {
	for _, s := range t.limit.expire(now, nil) {
		t.show(s)
	}
}

func (t *teller) show(s shown) {
	t.write(s)
	t.mu.Lock()
	defer t.mu.Unlock()
	for w := range t.watchers {
		select {
		case w.queue <- s:
		default:
			w.mu.Lock()
			w.lost++
			w.mu.Unlock()
		}
	}
}

func (t *teller) write(s shown) {
	levels := [...]slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}
	level := slog.LevelError
	if int(s.Level) < len(levels) {
		level = levels[s.Level]
	}
	ctx := context.Background()
	if !t.log.Enabled(ctx, level) {
		return
	}
	var attrs []slog.Attr
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	if s.Remote.IsValid() {
		add("peer", s.Remote.String())
	}
	if !s.Key.IsZero() {
		add("name", s.Key.String())
	}
	add("reason", string(s.Reason))
	add("why", s.Text)
	add("remedy", s.Hint)
	if s.similar > 0 {
		attrs = append(attrs, slog.Uint64("suppressed", s.similar))
	}
	msg, ok := messages[s.Kind]
	if !ok {
		msg = string(s.Kind)
	}
	t.log.LogAttrs(ctx, level, msg, attrs...)
}

// watch calls each for every report until ctx or done ends, or each fails.
func (t *teller) watch(ctx context.Context, done <-chan struct{}, each func(host.Report, uint64) error) error {
	w := &watcher{queue: make(chan shown, watchQueue)}
	t.mu.Lock()
	if t.watchers == nil {
		t.watchers = make(map[*watcher]struct{})
	}
	t.watchers[w] = struct{}{}
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		delete(t.watchers, w)
		t.mu.Unlock()
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-done:
			return ErrStopped
		case s := <-w.queue:
			if err := each(s.Report, s.similar); err != nil {
				return err
			}
			if n := w.takeLost(); n > 0 {
				r := host.Report{Time: s.Time, Kind: EventsLost, Level: host.Warn, Text: fmt.Sprintf("%d events were lost here: this reader is too slow", n)}
				if err := each(r, 0); err != nil {
					return err
				}
			}
		}
	}
}

func (w *watcher) takeLost() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.lost
	w.lost = 0
	return n
}
