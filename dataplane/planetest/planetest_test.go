package planetest

import "testing"

// The reference plane does all that a plane must do.
func TestMemory(t *testing.T) {
	Run(t, func(*testing.T) Harness { return NewMemoryHarness() })
}
