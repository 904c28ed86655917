package engine

import (
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/trust"
)

// datagram makes the brain answer: the test's way to have actions carried out.
var datagram = dataplane.Datagram{Data: []byte("x")}

func onDatagram(out ...host.Action) func(host.Event) []host.Action {
	return func(ev host.Event) []host.Action {
		if p, ok := ev.(host.FromPlane); ok {
			if _, ok := p.Event.(dataplane.Datagram); ok {
				return out
			}
		}
		return nil
	}
}

// What the plane is told keeps the order of the actions, except that changes come first and together (LATCH-37: a table
// is published before what depends on it).
func TestActionsKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := flow.PairID(1), flow.PairID(2), flow.PairID(3)
		to := netip.AddrPortFrom(remote, 500)
		r := start(t, onDatagram(
			host.Change{Change: dataplane.UseSA{ID: a}}, host.Change{Change: dataplane.UseSA{ID: b}},
			host.Send{Remote: to}, host.Keepalive{}, host.Change{Change: dataplane.RemoveSA{ID: c}},
		))
		r.plane.sink(datagram)
		synctest.Wait()
		r.close(t)
		want := []any{
			[]dataplane.Change{dataplane.UseSA{ID: a}, dataplane.UseSA{ID: b}, dataplane.RemoveSA{ID: c}},
			to, "keepalive",
			"closed",
		}
		if got := r.plane.all(); !reflect.DeepEqual(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		if !r.store.closed {
			t.Fatal("the store is still open")
		}
	})
}

// Questions that the machine answers at once come back as events.
func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := netip.MustParseAddr("203.0.113.1")
		r := start(t, onDatagram(host.FindSource{Remote: remote}, host.FindSource{Remote: other}, host.ReadCounters{}))
		r.plane.sink(datagram)
		synctest.Wait()
		want := []host.Event{
			host.FromPlane{Event: datagram},
			host.SourceFound{Remote: remote, Local: local},
			host.SourceFound{Remote: other, Err: errNoRoute},
			host.CountersRead{Counters: []dataplane.Counters{{ID: 7}}},
		}
		if got := r.brain.seen(); !reflect.DeepEqual(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		r.close(t)
	})
}

// The host is called when its deadline comes, not earlier and not again.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil)
		due := time.Now().Add(5 * time.Second)
		if err := r.ask(t.Context(), func(time.Time) { r.brain.due = due }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // of the bubble
		synctest.Wait()
		if got := r.brain.seen(); len(got) != 1 || got[0] != (host.Tick{}) || !r.brain.at[0].Equal(due) {
			t.Fatalf("events %v at %v, want one tick at %v", got, r.brain.at, due)
		}
		r.close(t)
	})
}

type job struct{ ran chan struct{} }

func (j *job) Run() { close(j.ran) }

// Public-key work runs on a worker and comes back.
func TestComputed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &job{make(chan struct{})}
		r := start(t, onDatagram(host.Compute{Job: j}))
		r.plane.sink(datagram)
		<-j.ran
		synctest.Wait()
		got := r.brain.seen()
		if len(got) != 2 || got[1] != (host.Computed{Job: j}) {
			t.Fatalf("got %v", got)
		}
		r.close(t)
	})
}

// A full queue drops IKE datagrams first, then what the plane tells again, and never what it tells once.
func TestFullQueue(t *testing.T) {
	q := newInbox()
	for range maxDatagrams + 10 {
		q.plane(datagram)
	}
	if got := q.drops(); got != 10 {
		t.Fatalf("%d datagrams dropped, want 10", got)
	}
	for range maxRepeated - maxDatagrams + 5 {
		q.plane(dataplane.Acquire{})
	}
	if got := q.drops(); got != 15 {
		t.Fatalf("%d dropped, want 15", got)
	}
	q.plane(dataplane.Carried{ID: 1})
	items := q.take(nil)
	if last := items[len(items)-1].event; len(items) != maxRepeated+1 || last != (host.FromPlane{Event: dataplane.Carried{ID: 1}}) {
		t.Fatalf("%d items, the last is %v", len(items), last)
	}
	q.plane(datagram)
	if left := q.close(); len(left) != 1 || q.put(item{}, 0) {
		t.Fatal("a closed queue takes nothing, and returns what was left")
	}
}

// Records are written in order; what could not be written is told, kept, and written with the next (BTNS-TRUST-18).
func TestStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := trust.Record{Addr: remote}, trust.Record{Addr: local}
		r := start(t, onDatagram(host.Save{Record: first}, host.Erase{Record: second}))
		events := make(chan host.Report, 10)
		go func() {
			_ = r.Watch(t.Context(), func(rep host.Report, _ uint64) error {
				events <- rep
				return nil
			})
		}()
		r.store.setFail(errBroken)
		synctest.Wait()
		r.plane.sink(datagram)
		if rep := <-events; rep.Kind != StoreFailed || rep.Text != "broken" {
			t.Fatalf("told %+v", rep)
		}
		r.store.setFail(nil)
		r.close(t) // writes what is left
		want := []trust.Change{trust.Put{Record: first}, trust.Delete{Record: second}}
		if got := r.store.written(); !reflect.DeepEqual(got, want) {
			t.Fatalf("wrote %v, want %v", got, want)
		}
	})
}

// Close gives the host three seconds to tell its peers, and not one more.
func TestCloseIsBounded(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func(host.Event) []host.Action
		want   time.Duration
	}{
		"all told":       {func(host.Event) []host.Action { return []host.Action{host.Stopped{}} }, 0},
		"said twice":     {func(host.Event) []host.Action { return []host.Action{host.Stopped{}, host.Stopped{}} }, 0},
		"nobody answers": {func(host.Event) []host.Action { return []host.Action{} }, farewell},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, tt.answer)
				began := time.Now()
				r.close(t)
				r.close(t) // again changes nothing
				if took := time.Since(began); took != tt.want {
					t.Fatalf("took %v, want %v", took, tt.want)
				}
				if err := r.ask(t.Context(), func(time.Time) {}); !errors.Is(err, ErrStopped) {
					t.Fatalf("a request afterwards: %v", err)
				}
			})
		})
	}
}

func TestPlaneDoesNotOpen(t *testing.T) {
	store := &memoryStore{}
	_, err := Start(Config{
		Host: &brain{}, Store: store, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Open: func(func(dataplane.Event)) (dataplane.Plane, error) { return nil, errBroken },
	})
	if !errors.Is(err, errBroken) || !store.closed {
		t.Fatalf("%v, store closed: %v", err, store.closed)
	}
}

// A change that the plane refuses is told and stands in the status; the engine goes on.
func TestPlaneRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, onDatagram(host.Change{Change: dataplane.UseSA{ID: 1}}, host.Send{Remote: netip.AddrPortFrom(remote, 500)}))
		r.plane.refuse = errBroken
		r.plane.sink(datagram)
		synctest.Wait()
		v, info, err := r.Status(t.Context())
		if err != nil || info.Name != "fake" || !reflect.DeepEqual(v.Problems, []string{"broken"}) || v.Drops["ike-send-failed"] != 1 {
			t.Fatalf("%+v, %v, %v", v, info, err)
		}
		want := host.ClearedRead{Cleared: []dataplane.Cleared{{Tally: 3, Packets: 2, Bytes: 100}}}
		if seen := r.brain.seen(); !reflect.DeepEqual(seen[len(seen)-1], host.Event(want)) {
			t.Fatalf("before the status the host was told %+v, not what left in clear", seen[len(seen)-1])
		}
		r.close(t)
	})
}

// A change that fails takes those with it that stand together with it, and no others: in one batch are many peers.
func TestPlaneRefusesOneOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		use := func(id flow.PairID) host.Action { return host.Change{Change: dataplane.UseSA{ID: id}} }
		to := host.Send{Remote: netip.AddrPortFrom(remote, 500)}
		r := start(t, onDatagram(use(1), use(2), to, use(3), use(4), use(5), to, use(6)))
		r.plane.refuseID = 4
		r.plane.sink(datagram)
		synctest.Wait()
		var made []flow.PairID
		for _, what := range r.plane.all() {
			changes, _ := what.([]dataplane.Change)
			for _, c := range changes {
				made = append(made, c.(dataplane.UseSA).ID)
			}
		}
		if want := []flow.PairID{1, 2, 3, 6}; !reflect.DeepEqual(made, want) {
			t.Fatalf("made %v, want %v", made, want)
		}
		if v, _, err := r.Status(t.Context()); err != nil || len(v.Problems) != 1 {
			t.Fatalf("%v, %v", v.Problems, err)
		}
		r.close(t)
	})
}
