package main

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/btns-ipsec/btns/control"
)

// impostor kills b and puts another key in its place, at the same address.
func (d *demo) impostor(ctx context.Context) error {
	d.title("An impostor: b is knocked out, and somebody with another key takes its address")
	heard := d.listen(ctx)
	defer heard.stop()
	d.b.kill()
	c, err := d.record("impostor")
	if err != nil {
		return err
	}
	defer c.stop()
	if err := d.b.up(ctx, d.dir, "other-key"); err != nil {
		return err
	}
	id, err := d.b.client().ID(ctx)
	if err != nil {
		return err
	}
	text, err := d.b.btns(ctx, "wait", d.a.v4, "--timeout", "8s")
	d.say("   the impostor# btns wait %s", d.a.v4)
	d.indent(text)
	d.claim(err != nil, "the impostor does not get through to a")

	alarm, ok := heard.wait(ctx, 10*time.Second, func(e control.Event) bool { return e.Kind == "key-changed" })
	if ok {
		d.say("   a# btns watch")
		d.indent(eventText(alarm))
	}
	d.claim(ok && alarm.Name == id.Name, "a says that the key has changed, and which one came")
	want := "btns trust accept " + d.b.v4 + " " + id.Name
	d.claim(ok && strings.Contains(alarm.Hint, want), "a says how to accept it, should it be right: %s", want)

	leaked := d.tryTCP(ctx, d.b.v4, 2*time.Second)
	seen := c.stop()
	d.say("   On the cable: %v", seen)
	d.claim(leaked != nil && seen.clear() == 0, "what a sends to that address meanwhile reaches nobody, and nothing goes in clear%s", seen.clearSample())
	return nil
}

// hearing collects the events of host a.
type hearing struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	events []control.Event
	more   chan struct{} // holds one token when events has grown
}

func (d *demo) listen(ctx context.Context) *hearing {
	ctx, cancel := context.WithCancel(ctx)
	h := &hearing{cancel: cancel, done: make(chan struct{}), more: make(chan struct{}, 1)}
	go func() {
		defer close(h.done)
		_ = d.a.client().Watch(ctx, func(e control.Event) error { // what is missed then fails a claim
			h.mu.Lock()
			h.events = append(h.events, e)
			h.mu.Unlock()
			select {
			case h.more <- struct{}{}:
			default:
			}
			return nil
		})
	}()
	return h
}

func (h *hearing) wait(ctx context.Context, timeout time.Duration, match func(control.Event) bool) (control.Event, bool) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		h.mu.Lock()
		for _, e := range h.events {
			if match(e) {
				h.mu.Unlock()
				return e, true
			}
		}
		h.mu.Unlock()
		select {
		case <-h.more:
		case <-timer.C:
			return control.Event{}, false
		case <-ctx.Done():
			return control.Event{}, false
		}
	}
}

func (h *hearing) stop() {
	h.cancel()
	<-h.done
}

func eventText(e control.Event) string {
	var b strings.Builder
	_ = printEvent(&b, e) // a Builder does not fail
	return b.String()
}
