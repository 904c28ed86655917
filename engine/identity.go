package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/trust"
	"github.com/btns-ipsec/btns/trust/boltstore"
)

// KeyStore keeps the host's own key. When a call returns nil, what it did survives a loss of power.
type KeyStore interface {
	// PlanKey keeps the key that takes over at a time, DropPlan forgets it and no other, and TurnKey puts it in the place of the
	// present one. ReplaceKey puts another one there, since a statement has ended the present one.
	PlanKey(next identity.Signer, from time.Time) error
	DropPlan(next identity.PublicKey) error
	TurnKey(now time.Time) error
	ReplaceKey(key identity.Signer, statement []byte) error
}

// ownKeys is the host's own key in a store.
type ownKeys struct{ store *boltstore.Store }

func (k ownKeys) PlanKey(next identity.Signer, from time.Time) error {
	return k.store.PlanKey(keyName, next, from)
}
func (k ownKeys) DropPlan(next identity.PublicKey) error { return k.store.DropPlan(keyName, next) }
func (k ownKeys) TurnKey(now time.Time) error            { return k.store.TurnKey(keyName, now) }
func (k ownKeys) ReplaceKey(key identity.Signer, statement []byte) error {
	return k.store.ReplaceKey(keyName, key, statement)
}

// loadKey returns the own key, made when there is none, and how far its change has come. A planned key whose time came while
// nothing ran takes over first.
func loadKey(store *boltstore.Store, now time.Time) (key identity.Signer, r host.Rotation, fresh bool, err error) {
	kept, err := store.Rotation(keyName)
	if err == nil && kept.Next.Private != nil && !kept.From.After(now) {
		if err = store.TurnKey(keyName, now); err == nil {
			kept, err = store.Rotation(keyName)
		}
	}
	if err != nil {
		return key, r, false, err
	}
	key, fresh, err = ownKey(store)
	r = host.Rotation{Next: kept.Next, From: kept.From, Former: kept.Former, Turned: kept.Turned, Revocation: kept.Revocation}
	return key, r, fresh, err
}

// signer is the host's own key at present.
func (e *Engine) signer() identity.Signer { return *e.key.Load() }

// PublicKey is the host's own key.
func (e *Engine) PublicKey() identity.PublicKey { return e.signer().Public }

// Own returns the host's own keys, and how far a change has come.
func (e *Engine) Own(ctx context.Context) (host.OwnView, error) {
	return query(ctx, e, func(time.Time) host.OwnView { return e.host.Own() })
}

// Leads that may be given to a change of the own key. A peer that was not there for as long as its records of addresses last
// (30 days) has forgotten the old key, so that no longer one is needed (BTNS-TRUST-42); peers believe none of more than a year.
const (
	MinLead     = 10 * time.Minute
	DefaultLead = 30 * 24 * time.Hour
	MaxLead     = 360 * 24 * time.Hour
)

// Why a change of the own key cannot be planned.
var (
	ErrLead    = fmt.Errorf("engine: the lead must be between %v and %d days", MinLead, MaxLead/(24*time.Hour))
	ErrPlanned = errors.New("engine: a change of this host's key is planned already")
)

// Rotate makes another key, and plans that it becomes the host's own after lead. The plan is on disk before any peer hears of
// it.
func (e *Engine) Rotate(ctx context.Context, lead time.Duration) ([]host.Report, error) {
	if lead < MinLead || lead > MaxLead {
		return nil, ErrLead
	}
	return e.changeKey(ctx, func(now time.Time) (host.Event, error) {
		if !e.host.Own().Next.IsZero() {
			return nil, ErrPlanned
		}
		if err := e.keepTurned(); err != nil {
			return nil, err
		}
		next, err := identity.NewEd25519(rand.Reader)
		if err != nil {
			return nil, err
		}
		from := now.Add(lead).Truncate(time.Second)
		if err := e.cfg.Keys.PlanKey(next, from); err != nil {
			return nil, err
		}
		return host.Rotate{Next: next, From: from}, nil
	})
}

// TakeBack ends a planned change.
func (e *Engine) TakeBack(ctx context.Context) ([]host.Report, error) {
	return e.changeKey(ctx, func(time.Time) (host.Event, error) {
		if err := e.keepTurned(); err != nil {
			return nil, err
		}
		next := e.host.Own().Next
		if next.IsZero() { // the host says so; what is on disk is not for a plan that there is not
			return host.Rotate{}, nil
		}
		return host.Rotate{}, e.cfg.Keys.DropPlan(next)
	})
}

// RevokeOwn ends the host's own key for good, and goes on under another one; see Own for the statement.
func (e *Engine) RevokeOwn(ctx context.Context) ([]host.Report, error) {
	return e.changeKey(ctx, func(time.Time) (host.Event, error) {
		statement, err := trust.SignRevocation(rand.Reader, e.signer())
		if err != nil {
			return nil, err
		}
		next, err := identity.NewEd25519(rand.Reader)
		if err != nil {
			return nil, err
		}
		if err := e.cfg.Keys.ReplaceKey(next, statement); err != nil {
			return nil, err
		}
		e.loop.replaced, e.loop.turned = next.Public, time.Time{} // the store has it
		return host.RevokeOwn{Next: next, Statement: statement}, nil
	})
}

// Statement is a revocation of the present key, made to be kept apart: nothing is revoked by making it.
func (e *Engine) Statement() ([]byte, error) { return trust.SignRevocation(rand.Reader, e.signer()) }

// changeKey has the store know first, and then the host, with nothing in between: a key that comes into force at the same
// moment comes before both or after them.
func (e *Engine) changeKey(ctx context.Context, f func(now time.Time) (host.Event, error)) ([]host.Report, error) {
	type answer struct {
		reports []host.Report
		err     error
	}
	a, err := query(ctx, e, func(now time.Time) (a answer) {
		if e.cfg.Keys == nil {
			a.err = errors.New("engine: this host's key is not kept here")
			return a
		}
		ev, err := f(now)
		if err != nil {
			a.err = err
			return a
		}
		a.reports = operatorReports(e.step(now, ev))
		if r, ok := ev.(host.Rotate); ok && r.Next.Private != nil && refused(a.reports) {
			a.err = e.cfg.Keys.DropPlan(r.Next.Public)
		}
		return a
	})
	if err != nil {
		return nil, err
	}
	return a.reports, errors.Join(a.err, e.saver.flush(ctx))
}

// refused reports whether the host did not do what an operator wanted.
func refused(reports []host.Report) bool {
	return len(reports) == 0 || reports[len(reports)-1].Level >= host.Warn
}

// keyTurned takes note of the host's new key. That its store does so too is not waited for by anybody: a start with a planned
// key whose time has come begins with it all the same.
func (e *Engine) keyTurned(now time.Time, key identity.Signer) {
	e.key.Store(&key)
	if e.cfg.Keys == nil || e.loop.replaced == key.Public {
		return
	}
	e.loop.turned = now
	if err := e.keepTurned(); err != nil {
		e.teller.tell(now, host.Report{
			Time: now, Kind: StoreFailed, Level: host.Warn, Reason: host.StoreTrouble, Text: err.Error(),
			Hint: "the new key of this host is in use, and is taken up again after a restart",
		})
	}
}

// keepTurned has the store put the key in use in the place of the one before, if it could not do so when that was its time: until
// then it has the key in use as a planned one only.
func (e *Engine) keepTurned() error {
	if e.loop.turned.IsZero() {
		return nil
	}
	err := e.cfg.Keys.TurnKey(e.loop.turned)
	if err == nil {
		e.loop.turned = time.Time{}
	}
	return err
}
