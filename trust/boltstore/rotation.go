package boltstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/btns-ipsec/btns/identity"
)

// Rotation is how far the change of an own key has come. The key to come is kept beside the present one until its time.
type Rotation struct {
	Next identity.Signer // zero: no change is planned
	From time.Time       // when it takes over
	// Former is the key that the present one took over from, and Turned when; zero: none.
	Former identity.PublicKey
	Turned time.Time
	// Revocation is the statement that ended a key before; nil: none.
	Revocation []byte
}

// rotation is what is written of a Rotation, besides the private key.
type rotation struct {
	Version    int        `json:"version"`
	From       *time.Time `json:"from,omitempty"`
	Former     []byte     `json:"former_spki,omitempty"`
	Turned     *time.Time `json:"turned,omitempty"`
	Revocation []byte     `json:"revocation,omitempty"`
}

const rotationVersion = 1

// Under these names: the private key to come, beside the present one, and what else there is to know of the change.
func nextName(name string) []byte     { return []byte(name + ".next") }
func rotationName(name string) []byte { return []byte("rotation." + name) }

var (
	errPlanned    = errors.New("a change of this key is planned already")
	errNotPlanned = errors.New("no change of this key is planned")
	errOtherPlan  = errors.New("a change to another key is planned, or none")
	errNoKey      = errors.New("there is no such key")
)

// Rotation returns how far the change of the own key of a name has come; zero when nothing is known of one.
func (s *Store) Rotation(name string) (r Rotation, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		r, err = readRotation(tx, name)
		if err != nil {
			return &CorruptError{s.path, fmt.Errorf("change of own key %q: %w", name, err)}
		}
		return nil
	})
	return r, err
}

func readRotation(tx *bolt.Tx, name string) (r Rotation, err error) {
	if text := tx.Bucket(bucketKeys).Get(nextName(name)); text != nil {
		if r.Next, err = identity.ParsePrivateKey(text); err != nil {
			return r, err
		}
	}
	text := tx.Bucket(bucketMeta).Get(rotationName(name))
	if text == nil {
		if r.Next.Private != nil {
			return r, errors.New("it has no time")
		}
		return r, nil
	}
	var w rotation
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err = d.Decode(&w); err != nil {
		return r, err
	}
	if w.Version != rotationVersion || (w.From == nil) != (r.Next.Private == nil) {
		return r, fmt.Errorf("version %d, or a key without its time", w.Version)
	}
	if w.From != nil {
		r.From = *w.From
	}
	if w.Turned != nil {
		r.Turned = *w.Turned
	}
	if len(w.Former) > 0 {
		if r.Former, err = identity.ParsePublicKey(w.Former); err != nil {
			return r, err
		}
	}
	r.Revocation = w.Revocation
	return r, nil
}

func writeRotation(tx *bolt.Tx, name string, r Rotation) error {
	keys := tx.Bucket(bucketKeys)
	if r.Next.Private == nil {
		if err := keys.Delete(nextName(name)); err != nil {
			return err
		}
	} else {
		text, err := identity.MarshalPrivateKey(r.Next)
		if err != nil {
			return err
		}
		if err := keys.Put(nextName(name), text); err != nil {
			return err
		}
	}
	w := rotation{Version: rotationVersion, From: timeOf(r.From), Former: r.Former.SPKI(), Turned: timeOf(r.Turned), Revocation: r.Revocation}
	text, err := json.Marshal(w)
	if err != nil {
		return err
	}
	return tx.Bucket(bucketMeta).Put(rotationName(name), text)
}

// change replaces a Rotation, and with it the own key when key is not zero, all or nothing.
func (s *Store) change(name string, f func(tx *bolt.Tx, r Rotation) (next Rotation, key identity.Signer, err error)) error {
	err := s.db.Update(func(tx *bolt.Tx) error {
		r, err := readRotation(tx, name)
		if err != nil {
			return err
		}
		r, key, err := f(tx, r)
		if err != nil {
			return err
		}
		if key.Private != nil {
			text, err := identity.MarshalPrivateKey(key)
			if err != nil {
				return err
			}
			if err := tx.Bucket(bucketKeys).Put([]byte(name), text); err != nil {
				return err
			}
		}
		return writeRotation(tx, name, r)
	})
	if err != nil {
		return fmt.Errorf("boltstore: own key %q in %s: %w", name, s.path, err)
	}
	return nil
}

// PlanKey keeps the key that is to take over, beside the present one, and when.
func (s *Store) PlanKey(name string, next identity.Signer, from time.Time) error {
	return s.change(name, func(tx *bolt.Tx, r Rotation) (Rotation, identity.Signer, error) {
		switch {
		case tx.Bucket(bucketKeys).Get([]byte(name)) == nil:
			return r, identity.Signer{}, errNoKey
		case r.Next.Private != nil:
			return r, identity.Signer{}, errPlanned
		}
		r.Next, r.From = next, from
		return r, identity.Signer{}, nil
	})
}

// DropPlan forgets the key that was to take over, if it is that one: another may be in use already.
func (s *Store) DropPlan(name string, next identity.PublicKey) error {
	return s.change(name, func(_ *bolt.Tx, r Rotation) (Rotation, identity.Signer, error) {
		if r.Next.Public != next {
			return r, identity.Signer{}, errOtherPlan
		}
		r.Next, r.From = identity.Signer{}, time.Time{}
		return r, identity.Signer{}, nil
	})
}

// TurnKey puts the planned key in the place of the present one. The private part of that is not kept, though free pages of the
// file may still hold it.
func (s *Store) TurnKey(name string, now time.Time) error {
	return s.change(name, func(tx *bolt.Tx, r Rotation) (Rotation, identity.Signer, error) {
		if r.Next.Private == nil {
			return r, identity.Signer{}, errNotPlanned
		}
		old, err := presentKey(tx, name)
		return Rotation{Former: old, Turned: now, Revocation: r.Revocation}, r.Next, err
	})
}

// ReplaceKey puts another key in the place of the present one, which the statement has ended, and ends any plan.
func (s *Store) ReplaceKey(name string, key identity.Signer, statement []byte) error {
	return s.change(name, func(tx *bolt.Tx, _ Rotation) (Rotation, identity.Signer, error) {
		_, err := presentKey(tx, name)
		return Rotation{Revocation: statement}, key, err
	})
}

func presentKey(tx *bolt.Tx, name string) (identity.PublicKey, error) {
	text := tx.Bucket(bucketKeys).Get([]byte(name))
	if text == nil {
		return identity.PublicKey{}, errNoKey
	}
	k, err := identity.ParsePrivateKey(text)
	return k.Public, err
}
