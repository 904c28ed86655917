package engine

import (
	"errors"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/trust"
)

// loopState belongs to the loop.
type loopState struct {
	out        []host.Action
	answers    []host.Event // of the machine, to be stepped before anything else
	changes    []dataplane.Change
	groups     []int // where in changes each group begins
	counters   []dataplane.Counters
	waiters    []*waiter
	comparers  []*comparer
	sendFailed uint64
	replaced   identity.PublicKey  // own key that the store had before the host
	turned     time.Time           // when the own key came into use, while the store has it as a planned one; zero: it does not
	problems   map[string]struct{} // what the plane could not do
	around     host.Surroundings   // as the host has been told
	lookAgain  time.Time           // when to read them once more; zero: not
}

// afterwards is how long after a change of addresses or routes a DHCP client has noted the resolvers too.
const afterwards = 5 * time.Second

// maxBatch is how many events are stepped before what they caused is carried out.
const maxBatch = 32

func (e *Engine) run() {
	defer close(e.done)
	began := time.Now()
	e.carryOut(e.host.Start(began, nil))
	if e.cfg.Around != nil {
		e.loop.lookAgain = began // what changed while the plane was not there yet to tell
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var items []item
	for {
		e.wake(time.Now())
		e.arm(timer)
		select {
		case <-e.quit:
			return
		case <-timer.C:
		case <-e.inbox.ready:
			items = e.inbox.take(items)
			if !e.stepAll(items) {
				return
			}
		}
	}
}

// stepAll works off items and reports whether to go on.
func (e *Engine) stepAll(items []item) bool {
	for len(items) > 0 {
		select {
		case <-e.quit:
			return false
		default:
		}
		n := min(len(items), maxBatch)
		now := time.Now()
		out := e.loop.out[:0]
		for _, it := range items[:n] {
			if e.moves(it.event) {
				e.carryOut(out)
				out = e.loop.out[:0]
				e.look(now)
				e.loop.lookAgain = now.Add(afterwards)
			}
			if it.call == nil {
				out = e.host.Step(now, it.event, out)
				continue
			}
			e.carryOut(out) // a request sees the world after what came before it
			out = e.loop.out[:0]
			it.call()
		}
		e.carryOut(out)
		items = items[n:]
	}
	return true
}

// wake does what is due.
func (e *Engine) wake(now time.Time) {
	if at, ok := e.host.Deadline(); ok && !at.After(now) {
		e.step(now, host.Tick{})
	}
	if at := e.loop.lookAgain; !at.IsZero() && !at.After(now) {
		e.loop.lookAgain = time.Time{}
		e.look(now)
	}
	e.teller.expire(now)
}

// moves reports whether an event says that this host may be in another network.
func (e *Engine) moves(ev host.Event) bool {
	p, ok := ev.(host.FromPlane)
	if !ok || e.cfg.Around == nil {
		return false
	}
	_, ok = p.Event.(dataplane.AddressChanged)
	return ok
}

// look tells the host what network it is in, if that is another than it was told of.
func (e *Engine) look(now time.Time) {
	if s := e.cfg.Around(); !s.Same(e.loop.around) {
		e.loop.around = s
		e.step(now, s)
	}
}

func (e *Engine) arm(timer *time.Timer) {
	next, ok := e.host.Deadline()
	if at, any := e.teller.limit.deadline(); any && (!ok || at.Before(next)) {
		next, ok = at, true
	}
	if at := e.loop.lookAgain; !at.IsZero() && (!ok || at.Before(next)) {
		next, ok = at, true
	}
	wait := time.Hour
	if ok {
		wait = max(time.Until(next), 0)
	}
	timer.Reset(wait)
}

// step applies one event and carries out what comes of it. The result is valid until the next step.
func (e *Engine) step(now time.Time, ev host.Event) []host.Action {
	out := e.host.Step(now, ev, e.loop.out[:0])
	e.carryOut(out)
	return out
}

// carryOut does everything in out, in order, and then steps the answers that the machine gave at once.
func (e *Engine) carryOut(out []host.Action) {
	e.do(out)
	for len(e.loop.answers) > 0 {
		answers := e.loop.answers
		e.loop.answers = nil
		now := time.Now()
		for _, ev := range answers {
			e.do(e.host.Step(now, ev, nil))
		}
	}
	if cap(out) > cap(e.loop.out) {
		e.loop.out = out[:0]
	}
	if len(out) > 0 {
		e.checkWaiters()
		e.checkComparers()
	}
}

// do carries out everything in out, in order, except that all changes of the plane come first and together: one table
// is made for a whole batch, and is there before any message that may depend on it (LATCH-37).
func (e *Engine) do(out []host.Action) {
	e.gather(out)
	e.apply()
	for _, a := range out {
		switch a := a.(type) {
		case host.Send:
			if e.plane.Send(a.Local, a.Remote, a.Data) != nil {
				e.loop.sendFailed++ // as good as lost on the way: IKE sends again
			}
		case host.Keepalive:
			if e.plane.Keepalive(a.Local, a.Remote) != nil {
				e.loop.sendFailed++
			}
		case host.Compute:
			e.workers.add(a.Job)
		case host.Save:
			e.saver.add(trust.Put{Record: a.Record})
		case host.Erase:
			e.saver.add(trust.Delete{Record: a.Record})
		case host.FindSource:
			local, err := e.plane.Source(a.Remote)
			e.loop.answers = append(e.loop.answers, host.SourceFound{Remote: a.Remote, Local: local, Err: err})
		case host.ReadCounters:
			e.loop.answers = append(e.loop.answers, host.CountersRead{Counters: e.counters()})
		case host.KeyTurned:
			e.keyTurned(time.Now(), a.Key)
		case host.Report:
			e.teller.tell(a.Time, a)
		case host.Stopped:
			select {
			case <-e.stopped:
			default:
				close(e.stopped)
			}
		}
	}
}

// counters reads those of all pairs. The result is valid until the next reading, which a step of the host lies before.
func (e *Engine) counters() []dataplane.Counters {
	e.loop.counters = e.plane.Counters(e.loop.counters[:0])
	return e.loop.counters
}

// gather collects the changes in out. Those that stand together belong together: when one fails, the rest of its group
// is not carried out, but the groups behind it are.
func (e *Engine) gather(out []host.Action) {
	together := false
	for _, a := range out {
		c, ok := a.(host.Change)
		if ok {
			if !together {
				e.loop.groups = append(e.loop.groups, len(e.loop.changes))
			}
			e.loop.changes = append(e.loop.changes, c.Change)
		}
		together = ok
	}
}

// apply gives the gathered changes to the plane.
func (e *Engine) apply() {
	for at := 0; at < len(e.loop.changes); {
		err := e.plane.Apply(e.loop.changes[at:])
		if err == nil {
			break
		}
		e.planeFailed(err)
		var failed *dataplane.ChangeError
		if !errors.As(err, &failed) {
			break
		}
		next, _ := slices.BinarySearch(e.loop.groups, at+failed.Index+1)
		if next == len(e.loop.groups) {
			break
		}
		at = e.loop.groups[next]
	}
	clear(e.loop.changes) // keys among them
	e.loop.changes, e.loop.groups = e.loop.changes[:0], e.loop.groups[:0]
}

func (e *Engine) planeFailed(err error) {
	if e.loop.problems == nil {
		e.loop.problems = make(map[string]struct{})
	}
	if len(e.loop.problems) < 16 {
		e.loop.problems[err.Error()] = struct{}{}
	}
	now := time.Now()
	e.teller.tell(now, host.Report{
		Time: now, Kind: PlaneFailed, Level: host.Alarm, Reason: host.PlaneTrouble, Text: err.Error(),
		Hint: "some traffic may be stopped until btns is restarted; please report this",
	})
}
