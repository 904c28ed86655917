//go:build linux

package xfrm

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// With every acquire the kernel makes a larval state, without an SPI, that keeps it from asking about the same addresses
// again for net.core.xfrm_acq_expires seconds. It outlives the policy that asked.

// Renew has the kernel ask again about the addresses in a prefix with the next packet, however recently it has.
func (w *Watcher) Renew(p netip.Prefix) error { return w.dropLarval(filter(p)) }

// dropLarval deletes the larval states that our policies made, among those that an attribute selects.
func (w *Watcher) dropLarval(which []byte) error {
	msgs, err := w.command(msgGetState, netlink.Dump, which)
	if err != nil {
		return fmt.Errorf("xfrm: list states: %w", err)
	}
	for _, m := range msgs {
		s, err := readState(m.Data)
		if err != nil || s.reqid != w.cfg.ReqID {
			continue
		}
		if err := w.drop(s); err != nil {
			return fmt.Errorf("xfrm: delete the larval state for %v: %w", s.to, err)
		}
	}
	return nil
}

// drop deletes a state. States are deleted by SPI, so one that has none is given one first.
func (w *Watcher) drop(s state) error {
	if s.spi == 0 {
		msgs, err := w.command(msgAllocSPI, 0, s.putAlloc())
		if err != nil {
			return err
		}
		for _, m := range msgs {
			if given, err := readState(m.Data); err == nil && given.reqid == s.reqid {
				s.spi = given.spi
			}
		}
	}
	if _, err := w.command(msgDelState, netlink.Acknowledge, s.putID()); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}
