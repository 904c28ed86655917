package tun

import (
	"errors"
	"fmt"
)

// Config says how a plane is set up on the host. The zero value is the usual way.
type Config struct {
	Device    string // name of the TUN device, "btns0" if empty; numbered on if that is taken
	Port      uint16 // IKE, 500 if zero
	EncapPort uint16 // IKE and ESP in UDP, 4500 if zero
	// Mark is two neighbouring bits of packet marks that nobody else on the host uses, 0x30000000 if zero: the lower one
	// is on all packets of the plane's own, the upper one too on those that came out of ESP; the upper one alone is on packets
	// that are to wait.
	Mark     uint32
	Table    int  // three routing tables, this and the next ones, and the preference of their rules; 0x6274 if zero
	Unrouted bool // nothing on the host but device and sockets is touched: no routes, no filter, no acquires
}

const (
	defaultDevice = "btns0"
	defaultMark   = 0x30000000
	defaultTable  = 0x6274
)

func (c Config) withDefaults() Config {
	if c.Device == "" {
		c.Device = defaultDevice
	}
	if c.Port == 0 {
		c.Port = 500
	}
	if c.EncapPort == 0 {
		c.EncapPort = 4500
	}
	if c.Mark == 0 {
		c.Mark = defaultMark
	}
	if c.Table == 0 {
		c.Table = defaultTable
	}
	return c
}

// outer is the mark of the plane's own packets.
func (c Config) outer() uint32 { return c.Mark & -c.Mark }

// opened is the mark that packets out of ESP have besides.
func (c Config) opened() uint32 { return c.Mark &^ c.outer() }

// What can be missing on the machine.
var (
	ErrPermission  = errors.New("not permitted")
	ErrNoTUN       = errors.New("no TUN device")
	ErrPortInUse   = errors.New("port in use")
	ErrUnsupported = errors.New("not supported by this system")
)

// OpenError says why a plane could not be opened. It matches one of the conditions above, and the cause.
type OpenError struct {
	What   string // what was attempted
	Kind   error
	Remedy string // what to do, for people
	Err    error
}

func (e *OpenError) Error() string {
	return fmt.Sprintf("tun: %s: %v (%v); %s", e.What, e.Kind, e.Err, e.Remedy)
}

func (e *OpenError) Unwrap() []error { return []error{e.Kind, e.Err} }
