package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/btns-ipsec/btns/trust"
)

// resolve turns an address or a name into an address. Of several it takes the one that the system would try first.
func resolve(ctx context.Context, name string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(name); err == nil {
		return a.Unmap(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		var dns *net.DNSError
		if errors.As(err, &dns) {
			err = errors.New(dns.Err)
		}
		return netip.Addr{}, hint(fmt.Errorf("cannot find the address of %q: %w", name, err), "check the name, or give the address itself")
	}
	if len(found) == 0 {
		return netip.Addr{}, hint(fmt.Errorf("%q has no address", name), "check the name, or give the address itself")
	}
	return found[0].Unmap(), nil
}

// named is what the daemon is told of how the user named a host: nothing when that was by its address.
func named(text string) string {
	if _, err := netip.ParseAddr(text); err == nil {
		return ""
	}
	name, err := trust.ParseName(text)
	if err != nil {
		return ""
	}
	return name
}

// resolvePort is resolve for HOST[:PORT]; without a port it is 0. A bare IPv6 address needs no brackets.
func resolvePort(ctx context.Context, text string) (netip.Addr, uint16, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Unmap(), 0, nil
	}
	host, service, err := net.SplitHostPort(text)
	if err != nil {
		a, err := resolve(ctx, text)
		return a, 0, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return netip.Addr{}, 0, &inputError{fmt.Errorf("%q in %q is not a port number", service, text)}
	}
	a, err := resolve(ctx, host)
	return a, uint16(port), err
}
