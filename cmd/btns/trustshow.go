package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/btns-ipsec/btns/control"
	"github.com/btns-ipsec/btns/identity"
)

func newTrustShow(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show HOST|SHA256:...",
		Short: "All that is recorded of a host or of a key, and the picture of its key",
		Long: `Prints what is recorded of a host or of a key: what the assurance rests on, the twelve words, and the picture of the key as
ssh draws it. Compare them with what "btns id" prints on that host.`,
		Args: exactly("HOST"),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		pins, err := pinsOf(cmd.Context(), g, args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), pins...)
		}
		for i, p := range pins {
			if i > 0 {
				fmt.Fprintln(cmd.OutOrStdout())
			}
			if err := printPin(cmd.OutOrStdout(), p); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

// pinsOf are the records of a host or of a key; at least one.
func pinsOf(ctx context.Context, g *globals, target string) (out []control.Pin, err error) {
	addr, name, err := hostOrKey(ctx, target)
	if err != nil {
		return nil, err
	}
	pins, err := control.NewClient(g.socket).Pins(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range pins {
		if name != "" && p.Name == name || addr.IsValid() && p.Addr == addr.String() || p.Host != "" && p.Host == named(target) {
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		return nil, hint(errors.New("nothing is recorded of "+whom(addr, name)), "see what is with: btns trust list")
	}
	return out, nil
}

func whom(addr netip.Addr, name string) string {
	if addr.IsValid() {
		return addr.String()
	}
	return name
}

func printPin(w io.Writer, p control.Pin) error {
	err := pairs(w,
		[2]string{"address", p.Addr}, [2]string{"host", p.Host}, [2]string{"network", p.Network},
		[2]string{"fingerprint", p.Name}, [2]string{"words", p.Words}, [2]string{"assurance", p.Assurance},
		[2]string{"revoked", stamp(p.Revoked)}, [2]string{"sticky", strconv.FormatBool(p.Sticky)},
		[2]string{"first seen", stamp(p.FirstSeen)}, [2]string{"last seen", stamp(p.LastSeen)},
		[2]string{"sessions", strconv.FormatUint(uint64(p.Sessions), 10)},
	)
	for _, e := range p.Evidence {
		fmt.Fprintf(w, "- %s since %s\n", e.Kind, stamp(&e.At))
	}
	printArt(w, p.Name, "")
	return err
}

// printArt draws a key; what is no key has no picture.
func printArt(w io.Writer, name, title string) {
	if f, err := identity.ParseFingerprint(name); err == nil {
		fmt.Fprintln(w, f.Randomart(title))
	}
}
