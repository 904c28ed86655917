// Package boltstore keeps in one file what must outlive a restart: the host's own keys and the records of package trust.
//
// The file is a bbolt database, readable by its owner only. Every call that returns nil has reached the disk, and a
// crash at any moment leaves the state before or after a call, never between. A file that cannot be read whole is
// refused and left as it is: a host that forgot its pins in silence would believe the next attacker (BTNS-TRUST-18).
package boltstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/trust"
)

const (
	version     = "2"
	lockTimeout = time.Second
	private     = 0o600
	creating    = ".creating-" // temporary files: a store appears under its name only when it is complete
)

var (
	bucketMeta = []byte("meta")
	bucketKeys = []byte("keys")
	bucketPins = []byte("pins")
	keyVersion = []byte("version")
)

// CorruptError says that the file exists and is not a whole store.
type CorruptError struct {
	Path string
	Err  error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("boltstore: %s is damaged: %v; restore it from a backup, or move it away to begin with a new key and no pins", e.Path, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// VersionError says that the file was written by another version of the program.
type VersionError struct{ Path, Version string }

func (e *VersionError) Error() string {
	return fmt.Sprintf("boltstore: %s has format %q, this program reads %q; use the program that wrote it", e.Path, e.Version, version)
}

// BusyError says that another process has the file open.
type BusyError struct{ Path string }

func (e *BusyError) Error() string {
	return fmt.Sprintf("boltstore: %s is in use by another process; stop that one, or choose another state directory", e.Path)
}

// Store is an open file.
type Store struct {
	db   *bolt.DB
	path string
}

// Open opens the store at path, making it when there is none. Only one process at a time can have it open.
func Open(path string) (*Store, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, fmt.Errorf("boltstore: make %s: %w", path, err)
		}
	} else if err != nil {
		return nil, fmt.Errorf("boltstore: %w", err)
	}
	if err := inspect(path); err != nil {
		return nil, err
	}
	db, err := open(path, false)
	if err != nil {
		return nil, err
	}
	for _, kind := range []string{creating, copying} { // of a crash; we hold the lock on the real one
		leftovers, _ := filepath.Glob(path + kind + "*")
		for _, name := range leftovers {
			_ = os.Remove(name)
		}
	}
	if err := migrate(db, path); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &Store{db, path}, nil
}

// Close ends the use of the store.
func (s *Store) Close() error { return s.db.Close() }

// create makes a complete store beside path and then gives it its name, unless another process was faster.
func create(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+creating+"*") // mode 0600
	if err != nil {
		return err
	}
	temp := f.Name()
	defer func() { _ = os.Remove(temp) }()
	if err := f.Close(); err != nil {
		return err
	}
	db, err := bolt.Open(temp, private, &bolt.Options{Timeout: lockTimeout})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketKeys, bucketPins} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketMeta).Put(keyVersion, []byte(version))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Link(temp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func open(path string, readOnly bool) (*bolt.DB, error) {
	db, err := bolt.Open(path, private, &bolt.Options{Timeout: lockTimeout, ReadOnly: readOnly})
	switch {
	case err == nil:
		return db, nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, &BusyError{path}
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("boltstore: %w", err)
	}
	return nil, &CorruptError{path, err}
}

// inspect reads the whole file before anything is written. It opens read-only, since a writer follows pointers before it
// could be seen that the file is cut.
func inspect(path string) (err error) {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("boltstore: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("boltstore: %s is open to others (mode %v), and it holds a private key; chmod 600 it", path, info.Mode().Perm())
	}
	if info.Size() == 0 {
		return &CorruptError{path, errors.New("it is empty")}
	}
	db, err := open(path, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.View(func(tx *bolt.Tx) error {
		if tx.Size() > info.Size() {
			return &CorruptError{path, fmt.Errorf("%d octets of %d are there", info.Size(), tx.Size())}
		}
		var bad error
		for e := range tx.Check() { // to its end: it runs until all is read
			if bad == nil {
				bad = e
			}
		}
		if bad != nil {
			return &CorruptError{path, bad}
		}
		meta := tx.Bucket(bucketMeta)
		if meta == nil {
			return &CorruptError{path, errors.New("it is not a store of btns")}
		}
		if v := string(meta.Get(keyVersion)); v != version && !older[v] {
			return &VersionError{path, v}
		}
		if tx.Bucket(bucketKeys) == nil || tx.Bucket(bucketPins) == nil {
			return &CorruptError{path, errors.New("a table is missing")}
		}
		return nil
	})
}

// Load returns all records.
func (s *Store) Load() ([]trust.Record, error) {
	var out []trust.Record
	err := s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketPins).ForEach(func(k, v []byte) error {
			r, err := decode(v)
			if err == nil && r.ID() != string(k) {
				err = errors.New("it has another name inside")
			}
			if err != nil {
				return &CorruptError{s.path, fmt.Errorf("record %q: %w", k, err)}
			}
			out = append(out, r)
			return nil
		})
	})
	return out, err
}

// Apply carries out changes, all or none.
func (s *Store) Apply(changes ...trust.Change) error {
	if len(changes) == 0 {
		return nil
	}
	err := s.db.Update(func(tx *bolt.Tx) error {
		pins := tx.Bucket(bucketPins)
		for _, c := range changes {
			switch c := c.(type) {
			case trust.Put:
				v, err := encode(c.Record)
				if err != nil {
					return err
				}
				if err := pins.Put([]byte(c.Record.ID()), v); err != nil {
					return err
				}
			case trust.Delete:
				if err := pins.Delete([]byte(c.Record.ID())); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("boltstore: write %s: %w", s.path, err)
	}
	return nil
}

// Put writes one record, Delete removes one.
func (s *Store) Put(r trust.Record) error { return s.Apply(trust.Put{Record: r}) }

// Delete removes one record.
func (s *Store) Delete(r trust.Record) error { return s.Apply(trust.Delete{Record: r}) }

// Key returns the host's own key of a name, such as "ed25519"; ok is false when there is none.
func (s *Store) Key(name string) (key identity.Signer, ok bool, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		text := tx.Bucket(bucketKeys).Get([]byte(name))
		if text == nil {
			return nil
		}
		ok = true
		key, err = identity.ParsePrivateKey(text)
		if err != nil {
			return &CorruptError{s.path, fmt.Errorf("own key %q: %w", name, err)}
		}
		return nil
	})
	return key, ok, err
}

// AddKey keeps an own key under a name that is not in use: a key is the host's identity and is never overwritten by chance
// (BTNS-CORE-38).
func (s *Store) AddKey(name string, key identity.Signer) error {
	text, err := identity.MarshalPrivateKey(key)
	if err != nil {
		return err
	}
	err = s.db.Update(func(tx *bolt.Tx) error {
		keys := tx.Bucket(bucketKeys)
		if keys.Get([]byte(name)) != nil {
			return fmt.Errorf("own key %q exists", name)
		}
		return keys.Put([]byte(name), text)
	})
	if err != nil {
		return fmt.Errorf("boltstore: write %s: %w", s.path, err)
	}
	return nil
}
