package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/btns-ipsec/btns/control"
	"github.com/btns-ipsec/btns/identity"
)

func newTrust(g *globals) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "trust",
		Short: "The keys recorded of peers: list, show, forget, accept, verify, compare, revoke, export, import",
	})
	cmd.AddCommand(
		newTrustList(g), newTrustShow(g), newTrustForget(g), newTrustAccept(g), newTrustVerify(g), newTrustCompare(g), newTrustRevoke(g),
		newTrustExport(g), newTrustImport(g),
	)
	return cmd
}

func newTrustList(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Every recorded key, and the address that it was seen at",
		Long: `Lists the recorded keys. STICKY says that traffic with the address must be protected from now on; what ends that is
"btns trust forget", or the peer's own announcement that it stops.`,
		Args: exactly(),
	}
	asJSON := jsonFlag(cmd)
	long := cmd.Flags().BoolP("long", "l", false, "also print the twelve words of each key")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		pins, err := control.NewClient(g.socket).Pins(cmd.Context())
		if err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		if *asJSON {
			return printJSON(w, pins...)
		}
		t := newTable(w, "ADDRESS", "ASSURANCE", "STICKY", "FIRST_SEEN", "LAST_SEEN", "KEY")
		for _, p := range pins {
			where := p.Addr
			if where == "" {
				where = p.Host
			}
			t.row(where, p.Assurance, strconv.FormatBool(p.Sticky), stamp(p.FirstSeen), stamp(p.LastSeen), p.Name)
		}
		if err := t.flush(); err != nil || !*long {
			return err
		}
		for _, p := range pins {
			fmt.Fprintf(w, "\n%s is, in words: %s\n", p.Name, p.Words)
		}
		return nil
	}
	return cmd
}

func newTrustForget(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "forget HOST|SHA256:...",
		Short: "Remove what is recorded of a host or of a key",
		Long: `Removes the records of a host or of a key, and with them the duty to protect traffic with it: it is met as a stranger
again, and may be spoken to in clear when it does not answer.`,
		Args: exactly("HOST"),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		addr, name, err := hostOrKey(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		done, err := control.NewClient(g.socket).For(named(args[0])).Forget(cmd.Context(), addr, name)
		return printDone(cmd, *asJSON, done, err)
	}
	return cmd
}

func newTrustAccept(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "accept HOST [SHA256:...]",
		Short: "Take a new key for a host whose key has changed",
		Long: `When a recorded host comes with another key, it was installed anew, or somebody is in between. Compare the new key with
"btns id" on that host, over another way than this network, and then accept it. Without a key, the one that was refused last
is taken. The key that was recorded is replaced; with --beside it stays, which is for several machines behind one address.`,
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return &usageError{"missing HOST", cmd.CommandPath()}
		}
		return atMost(2)(cmd, args)
	}
	asJSON := jsonFlag(cmd)
	beside := cmd.Flags().Bool("beside", false, "leave the other keys of the host: a load balancer")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := ""
		if len(args) == 2 {
			if name = args[1]; checkName(name) != nil {
				return checkName(name)
			}
		}
		addr, err := resolve(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		client := control.NewClient(g.socket).For(named(args[0]))
		accept := client.Accept
		if *beside {
			accept = client.AcceptBeside
		}
		done, err := accept(cmd.Context(), addr, name)
		return printDone(cmd, *asJSON, done, err)
	}
	return cmd
}

// hostOrKey reads what is either the name of a key or a host.
func hostOrKey(ctx context.Context, text string) (addr netip.Addr, name string, err error) {
	if strings.HasPrefix(text, "SHA256:") {
		return addr, text, checkName(text)
	}
	addr, err = resolve(ctx, text)
	return addr, "", err
}

func checkName(text string) error {
	if _, err := identity.ParseFingerprint(text); err != nil {
		err := &inputError{fmt.Errorf("%q is not the name of a key", text)}
		return hint(errors.Join(err), `it is "SHA256:" and 43 characters, as "btns id" and "btns peers" print it`)
	}
	return nil
}
