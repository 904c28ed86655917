package boltstore

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/btns-ipsec/btns/trust"
)

const (
	childEnv   = "BTNS_BOLTSTORE_CHILD" // the path of the store that the child process works on
	childFirst = "BTNS_BOLTSTORE_FIRST" // the number of the first record it writes; empty: it only opens
)

// TestMain also is the child process of the tests below.
func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		os.Exit(child(path, os.Getenv(childFirst)))
	}
	os.Exit(m.Run())
}

// child writes records until it is killed, and says the number of each that was acknowledged.
func child(path, first string) int {
	s, err := Open(path)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if first == "" {
		fmt.Println("open")
		select {}
	}
	if first == "turn" {
		return turning(s)
	}
	n, err := strconv.Atoi(first)
	if err != nil {
		return 2
	}
	for ; ; n++ {
		// Each call writes a record and moves a second one, which is all or nothing.
		if err := s.Apply(trust.Delete{Record: numbered(-n)}, trust.Put{Record: numbered(n)}, trust.Put{Record: numbered(-n - 1)}); err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println(n)
	}
}

// numbered is the record with a number; the negative ones follow each other as a marker of the last call.
func numbered(n int) trust.Record {
	r := trust.Record{Key: [32]byte{1}, Sessions: uint32(max(n, -n)), FirstSeen: time.Unix(1, 0).UTC(), LastSeen: time.Unix(1, 0).UTC()}
	r.Addr = netip.AddrFrom4([4]byte{10, 0, byte(r.Sessions >> 8), byte(r.Sessions)})
	if n < 0 {
		r.Network = "marker"
	}
	return r
}

func start(t *testing.T, path, first string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+path, childFirst+"="+first)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, bufio.NewScanner(out)
}

// BTNS-TRUST-18: a process that is killed while it writes, again and again until 1,000 writes were acknowledged, loses
// none of them, and no call is ever half done.
func TestKilledWhileWriting(t *testing.T) {
	t.Run("BTNS-TRUST-18 a kill loses nothing that was acknowledged", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "state.db")
		wanted := 1000
		if testing.Short() {
			wanted = 200
		}
		acknowledged, kills := 0, 0
		rng := rand.New(rand.NewPCG(1, 2))
		for acknowledged < wanted {
			cmd, lines := start(t, path, strconv.Itoa(acknowledged+1))
			killAt := acknowledged + 1 + rng.IntN(wanted/8)
			for lines.Scan() {
				n, err := strconv.Atoi(lines.Text())
				if err != nil || n != acknowledged+1 {
					t.Fatalf("after %d: %q", acknowledged, lines.Text())
				}
				acknowledged = n
				if n == killAt { // and what it says until it is dead counts, too
					if err := cmd.Process.Kill(); err != nil {
						t.Fatal(err)
					}
				}
			}
			_ = cmd.Wait()
			kills++
			acknowledged = checkWritten(t, path, acknowledged)
		}
		t.Logf("%d writes acknowledged, %d kills", acknowledged, kills)
	})
}

// checkWritten opens the store after a kill and returns the number of the last write in it.
func checkWritten(t *testing.T, path string, acknowledged int) int {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatalf("after %d writes: %v", acknowledged, err)
	}
	records, err := s.Load()
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	last, markers := 0, 0
	got := map[uint32]bool{}
	for _, r := range records {
		if r.Network == "marker" {
			last, markers = int(r.Sessions)-1, markers+1
			continue
		}
		got[r.Sessions] = true
	}
	if len(records) == 0 {
		last = 0 // killed before the first write
	} else if markers != 1 {
		t.Fatalf("%d markers: a call was half done", markers)
	}
	// The last write may have reached the disk without its acknowledgement having reached us.
	if last < acknowledged || last > acknowledged+1 || len(got) != last {
		t.Fatalf("%d acknowledged, %d there, the last is %d", acknowledged, len(got), last)
	}
	for n := 1; n <= last; n++ {
		if !got[uint32(n)] {
			t.Fatalf("write %d of %d acknowledged ones is lost", n, acknowledged)
		}
	}
	return last
}

// Two processes on one store: the second says so and stops, and goes on when the first is dead.
func TestSecondProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	first, lines := start(t, path, "")
	if !lines.Scan() || lines.Text() != "open" {
		t.Fatalf("%q", lines.Text())
	}
	second, said := start(t, path, "")
	if !said.Scan() || !strings.Contains(said.Text(), path+" is in use by another process") {
		t.Fatalf("%q", said.Text())
	}
	var exit *exec.ExitError
	if err := second.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Fatal(err)
	}
	var busy *BusyError
	if _, err := Open(path); !errors.As(err, &busy) || busy.Path != path {
		t.Fatal(err)
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait()
	if _, err := reopen(t, path).Load(); err != nil {
		t.Fatal(err)
	}
}
