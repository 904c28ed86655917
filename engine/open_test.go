package engine

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestNetwork(t *testing.T) {
	const head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	const lan = "eth0\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
	const gateway = "eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
	for want, text := range map[string]string{
		"":                               head + lan,
		"192.168.2.0/24 via 192.168.2.1": head + gateway + lan,
		"via 192.168.2.1":                head + gateway + "junk\n",
	} {
		path := filepath.Join(t.TempDir(), "route")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := network(path); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := network("/nowhere"); got != "" {
		t.Errorf("got %q", got)
	}
}

// BTNS-CORE-38: the own key is made once and stays.
func TestOwnKey(t *testing.T) {
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
