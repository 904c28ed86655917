package boltstore

import (
	"fmt"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

// older are the formats that this program brings to its own.
var older = map[string]bool{"1": true}

const copying = ".copying-" // a backup appears under its name only when it is complete

// BackupPath is where the store at path is kept as it was before its format changed.
func BackupPath(path, format string) string { return path + ".format-" + format }

// migrate brings a store of an older format to this one. A backup is kept first; then all changes in one step, so that a
// crash leaves the one or the other. A record that cannot be read stops it with nothing changed.
func migrate(db *bolt.DB, path string) error {
	var found string
	if err := db.View(func(tx *bolt.Tx) error {
		found = string(tx.Bucket(bucketMeta).Get(keyVersion))
		return nil
	}); err != nil || found == version {
		return err
	}
	s := &Store{db, path}
	if _, err := s.Load(); err != nil {
		return err
	}
	if err := backup(db, path, BackupPath(path, found)); err != nil {
		return fmt.Errorf("boltstore: back up %s before its format changes: %w", path, err)
	}
	if err := db.Update(func(tx *bolt.Tx) error { // the records of version 1 are records of version 2
		return tx.Bucket(bucketMeta).Put(keyVersion, []byte(version))
	}); err != nil {
		return fmt.Errorf("boltstore: write %s: %w", path, err)
	}
	return nil
}

// backup writes a copy that is whole or not there, readable by its owner only.
func backup(db *bolt.DB, path, to string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+copying+"*") // mode 0600
	if err != nil {
		return err
	}
	temp := f.Name()
	defer func() { _ = os.Remove(temp) }()
	if err := db.View(func(tx *bolt.Tx) error {
		_, err := tx.WriteTo(f)
		return err
	}); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(temp, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
