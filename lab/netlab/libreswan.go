package netlab

import (
	"path/filepath"
)

// Libreswan is a pluto on a host whose kernel only claims to have ESP: the handshake is real, no packet is ever
// protected.
type Libreswan struct {
	host *Host
}

// Libreswan starts pluto with one of lab/cases-libreswan; side is "a" or "b". It ends with the test.
func (h *Host) Libreswan(name, side string) *Libreswan {
	t := h.lab.t
	t.Helper()
	p := &Libreswan{host: h}
	if _, err := p.script("start", filepath.Join(Root(), "lab", "cases-libreswan", name, side)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Libreswan on %s:\n%s", h.Name, tail(p.Log(), 80))
		}
		if _, err := p.script("stop"); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *Libreswan) script(verb string, args ...string) (string, error) {
	return p.host.script("libreswan-host.sh", verb, args...)
}

// Log is what pluto has logged.
func (p *Libreswan) Log() string {
	out, err := p.script("log")
	if err != nil {
		return err.Error()
	}
	return out
}

// Initiate brings up the connection of the case; the end of pluto's own report tells whether it came up.
func (p *Libreswan) Initiate() (string, error) {
	return p.script("whack", "--name", "lab", "--initiate")
}

// Status is pluto's listing of its child SAs.
func (p *Libreswan) Status() string {
	p.host.lab.t.Helper()
	out, err := p.script("whack", "--trafficstatus")
	if err != nil {
		p.host.lab.t.Fatal(err)
	}
	return out
}
