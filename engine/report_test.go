package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
)

// The first few of a kind are shown, the rest are counted and the last of them stands for them (design.md: rate-limited
// per peer and reason).
func TestLimiter(t *testing.T) {
	t.Run("BTNS-CORE-43 BTNS-CORE-63 what is told of one peer is limited", func(t *testing.T) {
		var l limiter
		now := time.Unix(1000, 0)
		count := func(r host.Report, n int) (got []shown) {
			for range n {
				got = l.admit(now, r, got)
			}
			return got
		}
		a := host.Report{Remote: remote, Kind: host.PeerRefused, Reason: "trust"}
		b := a
		b.Reason = "proposal"
		if got := count(a, 100); len(got) != burst {
			t.Fatalf("%d shown, want %d", len(got), burst)
		}
		if got := count(b, 1); len(got) != 1 {
			t.Fatal("another reason is another matter")
		}
		if at, ok := l.deadline(); !ok || !at.Equal(now.Add(window)) {
			t.Fatalf("deadline %v, %v", at, ok)
		}
		now = now.Add(window)
		if got := l.expire(now, nil); len(got) != 1 || got[0].similar != 100-burst-1 {
			t.Fatalf("at the end of the window: %+v", got)
		}
		if _, ok := l.deadline(); ok {
			t.Fatal("nothing is left to wait for")
		}
		if got := count(a, 1); len(got) != 1 {
			t.Fatal("a new window shows again")
		}
		for i := range 2 * maxWindows {
			r := a
			r.Reason = host.Reason(fmt.Sprint(i))
			count(r, 1)
		}
		if len(l.open) != maxWindows || len(l.order) != maxWindows {
			t.Fatalf("%d windows are open, the bound is %d", len(l.open), maxWindows)
		}
	})
}

// What was suppressed is told when its window ends, although nothing else happens.
func TestSuppressedIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		report := host.Report{Remote: remote, Kind: host.KeyChanged, Reason: "key-changed", Level: host.Alarm}
		var out []host.Action
		for range 20 {
			out = append(out, report)
		}
		r := start(t, onDatagram(out...))
		var got []uint64
		watching := make(chan error, 1)
		go func() {
			watching <- r.Watch(t.Context(), func(_ host.Report, suppressed uint64) error {
				got = append(got, suppressed)
				return nil
			})
		}()
		synctest.Wait()
		r.plane.sink(datagram)
		time.Sleep(window + time.Second) // of the bubble
		r.close(t)
		if err := <-watching; !errors.Is(err, ErrStopped) {
			t.Fatalf("watch ended with %v", err)
		}
		if want := fmt.Sprint([]uint64{0, 0, 0, 0, 0, 14}); fmt.Sprint(got) != want {
			t.Fatalf("suppressed %v, want %v", got, want)
		}
	})
}

// A reader that is too slow loses events, is told how many, and slows nobody down.
func TestSlowWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out []host.Action
		for i := range watchQueue + 50 {
			out = append(out, host.Report{Kind: host.IKENotice, Reason: host.Reason(fmt.Sprint(i))})
		}
		r := start(t, onDatagram(out...))
		stuck := make(chan struct{})
		n, lost := 0, ""
		watching := make(chan error, 1)
		go func() {
			watching <- r.Watch(t.Context(), func(rep host.Report, _ uint64) error {
				n++
				if rep.Kind == EventsLost {
					lost = rep.Text
				}
				<-stuck
				return nil
			})
		}()
		synctest.Wait()
		r.plane.sink(datagram)
		synctest.Wait()
		close(stuck)
		synctest.Wait()
		r.close(t)
		<-watching
		// One is in the reader's hands or still in the queue when it fills.
		if n < watchQueue || n > watchQueue+2 || !strings.Contains(lost, "events were lost") {
			t.Fatalf("%d events, %q", n, lost)
		}
	})
}

func TestWatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, onDatagram(host.Report{Kind: host.IKENotice}))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		go func() { ended <- r.Watch(ctx, func(host.Report, uint64) error { return nil }) }()
		go func() { ended <- r.Watch(t.Context(), func(host.Report, uint64) error { return errBroken }) }()
		synctest.Wait()
		r.plane.sink(datagram)
		if err := <-ended; !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if len(r.teller.watchers) != 0 {
			t.Fatal("a reader that has gone is still served")
		}
		r.close(t)
	})
}

// A log line: constant message, everything else a key (style.md).
func TestLogLine(t *testing.T) {
	var b bytes.Buffer
	l := &teller{log: slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelInfo}))}
	l.tell(time.Now(), host.Report{Kind: host.Protected, Level: host.Debug})
	if b.Len() != 0 {
		t.Fatalf("below the level: %s", &b)
	}
	l.tell(time.Now(), host.Report{
		Kind: host.KeyChanged, Level: host.Alarm, Remote: remote, Key: identity.Fingerprint{1}, Reason: "key-changed",
		Text: "another key", Hint: "btns trust accept 192.0.2.7",
	})
	want := `level=ERROR msg="peer key changed, refused" peer=192.0.2.7 name=` + identity.Fingerprint{1}.String() +
		` reason=key-changed why="another key" remedy="btns trust accept 192.0.2.7"` + "\n"
	if _, got, _ := strings.Cut(b.String(), " "); got != want {
		t.Fatalf("got  %swant %s", got, want)
	}
}
