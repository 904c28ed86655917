package boltstore

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/btns-ipsec/btns/trust"
)

// formatOne makes a store as version 1 wrote it: its JSON is spelled out, so that the test does not follow the code.
func formatOne(t *testing.T, records map[string]string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	db, err := bolt.Open(path, private, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range []string{"meta", "keys", "pins"} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		for k, v := range records {
			if err := tx.Bucket([]byte("pins")).Put([]byte(k), []byte(v)); err != nil {
				return err
			}
		}
		return tx.Bucket([]byte("meta")).Put([]byte("version"), []byte("1"))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

var inFormatOne = map[string]string{
	"192.168.1.1|192.168.1.0/24 via 192.168.1.254|SHA256:U1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1M": `{"addr":"192.168.1.1",` +
		`"network":"192.168.1.0/24 via 192.168.1.254","key":"SHA256:U1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1M","assurance":60,` +
		`"evidence":[{"kind":"seen","at":"2026-03-01T09:00:00Z"},{"kind":"compared","at":"2026-03-01T09:01:00Z"}],` +
		`"first_seen":"2026-03-01T09:00:00Z","last_seen":"2026-03-01T10:00:00Z","sessions":7,"sticky":true,"suspended":true}`,
	"-||SHA256:U1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1M": `{"key":"SHA256:U1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1M",` +
		`"assurance":20,"evidence":null,"first_seen":"2026-03-01T09:00:00Z","last_seen":"2026-03-01T09:00:00Z","sessions":1,"inbound":true}`,
}

// An older format is brought up, with a backup of what was there.
func TestMigration(t *testing.T) {
	path := formatOne(t, inFormatOne)
	if err := os.WriteFile(path+copying+"crash", nil, private); err != nil {
		t.Fatal(err)
	}
	s := reopen(t, path)
	got, err := s.Load()
	if err != nil || len(got) != 2 || !got[1].Verified() || got[1].Sessions != 7 || !got[1].Sticky || got[0].Addr.IsValid() {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := s.Put(got[0]); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	old, err := bolt.Open(BackupPath(path, "1"), private, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := old.View(func(tx *bolt.Tx) error {
		for k, v := range inFormatOne {
			if string(tx.Bucket([]byte("pins")).Get([]byte(k))) != v {
				t.Errorf("%s is not in the backup", k)
			}
		}
		if v := tx.Bucket([]byte("meta")).Get([]byte("version")); string(v) != "1" {
			t.Errorf("the backup has version %s", v)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(BackupPath(path, "1")); err != nil || info.Mode().Perm() != private {
		t.Fatalf("%v, %v", info, err)
	}
	again, err := reopen(t, path).Load() // no second migration
	if err != nil || !reflect.DeepEqual(again, got) {
		t.Fatalf("%+v, %v", again, err)
	}
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
}

// A crash between the backup and the change, or a record that cannot be read, leaves the old store as it was.
func TestMigrationThatStops(t *testing.T) {
	t.Run("after the backup", func(t *testing.T) {
		path := formatOne(t, inFormatOne)
		if err := os.WriteFile(BackupPath(path, "1"), []byte("of another try"), private); err != nil {
			t.Fatal(err)
		}
		if got, err := reopen(t, path).Load(); err != nil || len(got) != 2 {
			t.Fatalf("%v, %v", got, err)
		}
		if b, err := os.ReadFile(BackupPath(path, "1")); err != nil || len(b) < 100 {
			t.Fatalf("%q, %v", b, err)
		}
	})
	t.Run("at a record", func(t *testing.T) {
		path := formatOne(t, map[string]string{"x": `{"surprise":1}`})
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var corrupt *CorruptError
		if _, err := Open(path); !errors.As(err, &corrupt) {
			t.Fatal(err)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
			t.Fatal("the file was changed")
		}
		if _, err := os.Stat(BackupPath(path, "1")); err == nil {
			t.Fatal("a backup of nothing that changed")
		}
	})
	t.Run("where no backup can be written", func(t *testing.T) {
		path := formatOne(t, inFormatOne)
		if err := os.Mkdir(BackupPath(path, "1"), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil {
			t.Fatal("changed without a backup")
		}
		var found string
		db, err := bolt.Open(path, private, &bolt.Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		_ = db.View(func(tx *bolt.Tx) error { found = string(tx.Bucket(bucketMeta).Get(keyVersion)); return nil })
		if err := db.Close(); err != nil || found != "1" {
			t.Fatalf("version %s, %v", found, err)
		}
	})
}

// What version 2 added survives a restart.
func TestNewFields(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := reopen(t, path)
	k, now := signer(t).Public, sample(t)[0].FirstSeen
	want := []trust.Record{
		{
			Key: k.Fingerprint(), Public: k, FirstSeen: now, LastSeen: now, Revoked: now, Heir: k.Fingerprint(), Retire: now,
			Next: []trust.Successor{{Key: k, From: now, Told: now}},
		},
		{Name: "host.example:22", Key: k.Fingerprint(), Public: k, FirstSeen: now, LastSeen: now},
	}
	if err := s.Apply(trust.Put{Record: want[0]}, trust.Put{Record: want[1]}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := reopen(t, path).Load(); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%v\n got %+v\nwant %+v", err, got, want)
	}
	for text, bad := range map[string]bool{
		`{"name":"host.example","key":"` + k.String() + `"}`:                    false,
		`{"name":"Host.example","key":"` + k.String() + `"}`:                    true,
		`{"name":"host.example","addr":"192.0.2.1","key":"` + k.String() + `"}`: true,
		`{"heir":"x","key":"` + k.String() + `"}`:                               true,
		`{"next":[{"spki":"AAAA"}],"key":"` + k.String() + `"}`:                 true,
		`{"key":"` + k.String() + `"} {}`:                                       true,
	} {
		if _, err := decode([]byte(text)); (err != nil) != bad {
			t.Errorf("%s: %v", text, err)
		}
	}
}
