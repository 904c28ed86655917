package netlab

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Until calls f until it returns nil, and prints how long that took. The deadline should be three times what is expected.
func Until(t testing.TB, deadline time.Duration, what string, f func() error) {
	t.Helper()
	start := time.Now()
	for {
		err := f()
		took := time.Since(start).Round(10 * time.Millisecond)
		if err == nil {
			t.Logf("%s after %v (deadline %v)", what, took, deadline)
			return
		}
		if took > deadline {
			t.Fatalf("%s: not within %v: %v", what, deadline, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Reaches says whether an echo request comes back within a second.
func (h *Host) Reaches(to string, args ...string) error {
	_, err := h.Try(5*time.Second, append(append([]string{"ping", "-n", "-q", "-c1", "-W1"}, args...), to)...)
	if err != nil {
		return fmt.Errorf("netlab: %s does not reach %s", h.Name, to)
	}
	return nil
}

// Contains is nil if s contains part.
func Contains(s, part string) error {
	if strings.Contains(s, part) {
		return nil
	}
	return fmt.Errorf("netlab: no %q in:\n%s", part, tail(s, 30))
}
