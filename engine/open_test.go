package engine

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// BTNS-CORE-38: the own key is made once and stays.
func TestOwnKey(t *testing.T) {
	t.Run("BTNS-CORE-38 the own key is made once and stays", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "a", "state")
		var names [2]string
		for i := range names {
			store, err := openStore(dir)
			if err != nil {
				t.Fatal(err)
			}
			key, fresh, err := ownKey(store)
			if err != nil || fresh != (i == 0) {
				t.Fatalf("start %d: fresh %v, %v", i, fresh, err)
			}
			names[i] = key.Public.Fingerprint().String()
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if names[0] != names[1] {
			t.Fatalf("%v: another key after a restart", names)
		}
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Fatalf("%v, %v", info.Mode(), err)
		}
	})
}

func TestPlaneNames(t *testing.T) {
	if err := CheckPlane("kernel"); !errors.Is(err, ErrNoKernelPlane) {
		t.Error(err)
	}
	var unknown *PlaneError
	if err := CheckPlane("warp"); !errors.As(err, &unknown) || unknown.Name != "warp" {
		t.Error(err)
	}
	if CheckPlane("auto") != nil || CheckPlane("tun") != nil {
		t.Error("a plane that exists")
	}
}
