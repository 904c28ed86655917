package boltstore

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/trust"
)

func signer(t testing.TB) identity.Signer {
	t.Helper()
	s, err := identity.NewEd25519(bytes.NewReader(bytes.Repeat([]byte{3}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func reopen(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func sample(t testing.TB) []trust.Record {
	now := time.Date(2026, 3, 1, 9, 0, 0, 123, time.UTC)
	k := signer(t).Public
	return []trust.Record{
		{Key: k.Fingerprint(), Assurance: identity.FirstUse, FirstSeen: now, LastSeen: now, Inbound: true},
		{
			Addr: netip.MustParseAddr("192.168.1.1"), Network: "192.168.1.0/24 via 192.168.1.254", Key: k.Fingerprint(), Public: k,
			Assurance: identity.Verified, FirstSeen: now, LastSeen: now.Add(time.Hour), Sessions: 7, Sticky: true, Suspended: true,
			Evidence: []trust.Evidence{{Kind: trust.Seen, At: now}, {Kind: trust.Compared, At: now.Add(time.Minute)}},
		},
	}
}

// BTNS-TRUST-18, BTNS-CORE-38: what was acknowledged is there after a restart, in a file of mode 0600.
func TestSurvivesRestart(t *testing.T) {
	t.Run("BTNS-TRUST-18 BTNS-CORE-38 the store outlives a restart, the own key with it", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "state.db")
		if err := os.WriteFile(path+creating+"crash", nil, private); err != nil {
			t.Fatal(err)
		}
		s := reopen(t, path)
		want := sample(t)
		if err := s.Apply(trust.Put{Record: want[0]}, trust.Put{Record: want[1]}); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := s.Key("ed25519"); ok || err != nil {
			t.Fatalf("a new store has no key: %v", err)
		}
		if err := s.AddKey("ed25519", signer(t)); err != nil {
			t.Fatal(err)
		}
		if err := s.AddKey("ed25519", signer(t)); err == nil {
			t.Fatal("an own key is never overwritten")
		}
		var busy *BusyError
		if _, err := Open(path); !errors.As(err, &busy) {
			t.Fatalf("opened twice: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}

		s = reopen(t, path)
		got, err := s.Load()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%v\n got %+v\nwant %+v", err, got, want)
		}
		k, ok, err := s.Key("ed25519")
		if err != nil || !ok || k.Public != signer(t).Public {
			t.Fatalf("%v, %v, %v", k, ok, err)
		}
		if err := s.Delete(want[0]); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Load(); err != nil || len(got) != 1 {
			t.Fatalf("%v, %v", got, err)
		}
		if err := s.Put(want[0]); err != nil {
			t.Fatal(err)
		}
		files, err := os.ReadDir(filepath.Dir(path))
		if err != nil || len(files) != 1 {
			t.Fatalf("leftovers: %v, %v", files, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != private {
			t.Fatalf("%v, %v", info.Mode(), err)
		}
	})
}

// TRUST-T13, BTNS-TRUST-18: what cannot be read whole is refused by name and left alone; it never starts empty.
func TestDamagedFile(t *testing.T) {
	good := filepath.Join(t.TempDir(), "state.db")
	s := reopen(t, good)
	records := sample(t)
	for i := range 200 { // more than one page
		records[0].Network = strings.Repeat("n", i)
		if err := s.db.Update(func(tx *bolt.Tx) error {
			v, err := encode(records[0])
			if err != nil {
				return err
			}
			return tx.Bucket(bucketPins).Put([]byte(records[0].ID()), v)
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	zeroed := bytes.Clone(whole)
	clear(zeroed[4096*2:])
	for name, content := range map[string][]byte{
		"empty": {}, "not a database": []byte("hello"), "cut in the first page": whole[:100], "cut to two pages": whole[:8192],
		"cut to three pages": whole[:12288], "zeroed": zeroed, "text": bytes.Repeat([]byte("hello "), 20000),
	} {
		t.Run("BTNS-TRUST-18 never opened as if new: "+name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			if err := os.WriteFile(path, content, private); err != nil {
				t.Fatal(err)
			}
			var corrupt *CorruptError
			if _, err := Open(path); !errors.As(err, &corrupt) || !strings.Contains(err.Error(), path) {
				t.Fatalf("%v", err)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, content) {
				t.Fatal("the file was changed")
			}
		})
	}
}

func TestRefusedFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := reopen(t, path)
	update := func(f func(tx *bolt.Tx) error) {
		t.Helper()
		if err := s.db.Update(f); err != nil {
			t.Fatal(err)
		}
	}
	update(func(tx *bolt.Tx) error { return tx.Bucket(bucketPins).Put([]byte("x"), []byte(`{"surprise":1}`)) })
	var corrupt *CorruptError
	if _, err := s.Load(); !errors.As(err, &corrupt) {
		t.Fatalf("a record that cannot be read: %v", err)
	}
	update(func(tx *bolt.Tx) error { return tx.Bucket(bucketKeys).Put([]byte("k"), []byte("no PEM")) })
	if _, _, err := s.Key("k"); !errors.As(err, &corrupt) {
		t.Fatalf("a key that cannot be read: %v", err)
	}
	update(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyVersion, []byte("3")) })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var newer *VersionError
	if _, err := Open(path); !errors.As(err, &newer) || newer.Version != "3" {
		t.Fatalf("a newer format: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Fatalf("readable by others: %v", err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none", "state.db")); err == nil {
		t.Fatal("no directory")
	}
}

// FuzzDecode: no record panics; what is read is written again as it was.
func FuzzDecode(f *testing.F) {
	for _, r := range sample(f) {
		b, err := encode(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decode(b)
		if err != nil {
			return
		}
		again, err := encode(r)
		if err != nil {
			return // a year that JSON cannot write
		}
		if back, err := decode(again); err != nil || back.ID() != r.ID() {
			t.Fatalf("%s: %v, %v", again, back, err)
		}
	})
}
