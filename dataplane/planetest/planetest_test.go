package planetest

import "testing"

// The reference plane does all that a plane must do.
func TestMemory(t *testing.T) {
	Run(t, func(*testing.T) Harness { return NewMemoryHarness() })
}

// Each broken plane is caught, and the reference is not blamed for what it does rightly.
func TestBroken(t *testing.T) {
	for _, f := range Broken() {
		t.Run(f.Name, func(t *testing.T) {
			var found []string
			for _, c := range Cases() {
				if wrong := c.Check(f.New()); len(wrong) > 0 {
					found = append(found, c.Name+": "+wrong[0])
				}
			}
			if len(found) == 0 {
				t.Fatal("no case finds the fault")
			}
			if len(found) > len(Cases())/2 && f.Name != "protects nothing" {
				t.Errorf("%d cases fail: the plane is broken in more than one way", len(found))
			}
			t.Log(found)
		})
	}
}

// Every case finds a fault that others may miss: one that no broken plane fails proves nothing.
func TestEveryCaseFindsSomething(t *testing.T) {
	for _, c := range Cases() {
		var n int
		for _, f := range Broken() {
			if len(c.Check(f.New())) > 0 {
				n++
			}
		}
		if n == 0 {
			t.Errorf("no broken plane fails %q", c.Name)
		}
	}
}
