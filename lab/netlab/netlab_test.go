//go:build lab

package netlab

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if err := Sweep(); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// A capture shows what travels in clear, and its absence is noticed.
func TestCaptureSeesClearText(t *testing.T) {
	t.Parallel()
	a, _, wire := New(t).Pair()
	all, clear := wire.Capture("b", ""), wire.CaptureClear("b")
	if n := a.Ping(B4, 3, "-p", "6275746e73"); n != 3 {
		t.Fatalf("%d of 3 pings came back", n)
	}
	if err := a.Reaches(B6); err != nil {
		t.Fatal(err)
	}
	all.Stop()
	clear.Stop()
	if !all.Shows("butnsbutns") {
		t.Error("the payload of the ping is not in the capture")
	}
	if n := len(all.Packets("icmp")); n != 6 {
		t.Errorf("%d ICMP packets captured, want 6", n)
	}
	if n := len(clear.Packets("")); n != 8 {
		t.Errorf("%d clear packets captured, want 8 (neighbor discovery apart):\n%s", n, strings.Join(clear.Packets(""), "\n"))
	}
}

// The peers work without us: strongSwan with itself, in every case that our own tests use it in.
func TestStrongSwanWithItself(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		options []string
	}{
		{name: "rawkey"},
		{name: "selfsigned", options: []string{"key=ecdsa256"}},
		{name: "psk", options: []string{"ike=aes128-sha256-ecp256", "esp=chacha20poly1305"}},
		{name: "v6", options: []string{"ike=aes256-sha256-modp2048", "esp=aes128-sha256"}},
		{name: "cookie"},
		{name: "fragment", options: []string{"key=rsa3072"}},
		{name: "rekey"},
		{name: "childless"},
		{name: "dpd"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := New(t)
			a, b, _ := l.Pair()
			l.Inner(a, b)
			c := l.Case(tt.name, tt.options...)
			sb, sa := b.StrongSwan(c.B), a.StrongSwan(c.A)
			if tt.name == "cookie" {
				a.HalfOpen(B4)
			}
			if err := sa.Initiate("net"); err != nil {
				t.Fatal(err)
			}
			sb.Established(5 * time.Second)
			if n := a.Ping(BIn4, 5, "-I", AIn4); n != 5 {
				t.Errorf("%d of 5 pings came back", n)
			}
			// A rekeyed child SA begins to count anew.
			Until(t, 5*time.Second, "the child SA carries both ways", func() error {
				if in, out := sb.Carried(); in == 0 || out == 0 {
					return errors.Join(fmt.Errorf("%d packets in, %d out", in, out), a.Reaches(BIn4, "-I", AIn4))
				}
				return nil
			})
			if tt.name == "cookie" && !strings.Contains(sb.Log(), "N(COOKIE)") {
				t.Error("no cookie was asked for")
			}
		})
	}
}

// pluto above the kernel that only claims to have ESP meets strongSwan.
func TestLibreswanWithStrongSwan(t *testing.T) {
	t.Parallel()
	l := New(t)
	a, b, _ := l.Pair()
	l.Inner(a, b)
	p, s := b.Libreswan("psk", "b"), a.StrongSwan(l.Case("psk").A)
	if err := s.Initiate("net"); err != nil {
		t.Fatal(err)
	}
	if err := Contains(p.Status(), "ESP"); err != nil {
		t.Error(err)
	}
}

// NULL authentication between two plutos (RFC 7619).
func TestLibreswanWithItself(t *testing.T) {
	t.Parallel()
	l := New(t)
	a, b, _ := l.Pair()
	pb, pa := b.Libreswan("null", "b"), a.Libreswan("null", "a")
	if out, err := pa.Initiate(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := Contains(pb.Status(), "ESP"); err != nil {
		t.Error(err)
	}
}
