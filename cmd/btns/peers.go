package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/btns-ipsec/btns/control"
)

func newPeers(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "peers",
		Short: "Every peer: address, key, assurance, SAs, traffic",
		Long: `Lists every peer. ASSURANCE says how well its key is known, from weak to strong:

  encrypted    no key, or one made for this session: nobody on the way reads it, but who it is is unknown
  first-use    the key was seen for the first time: a leap of faith
  continuity   the key is the one seen before
  verified     an operator or the configuration vouches for the key

To raise first-use to certainty, compare KEY (or its words, with --long) with "btns id" on the other host.`,
		Args: exactly(),
	}
	asJSON := jsonFlag(cmd)
	long := cmd.Flags().BoolP("long", "l", false, "print all that is known of each peer")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		peers, err := control.NewClient(g.socket).Peers(cmd.Context())
		w := cmd.OutOrStdout()
		switch {
		case err != nil:
			return err
		case *asJSON:
			return printJSON(w, peers...)
		case *long:
			for i, p := range peers {
				if i > 0 {
					fmt.Fprintln(w)
				}
				if err := printPeer(w, p); err != nil {
					return err
				}
			}
			return nil
		}
		t := newTable(w, "ADDRESS", "STATE", "ASSURANCE", "SAS", "IN_BYTES", "OUT_BYTES", "SINCE", "KEY")
		for _, p := range peers {
			t.row(p.Addr, p.State, p.Assurance, strconv.Itoa(p.SAs), fmt.Sprint(p.InBytes), fmt.Sprint(p.OutBytes), stamp(p.Since), p.Name)
		}
		return t.flush()
	}
	return cmd
}

func printPeer(w io.Writer, p control.Peer) error {
	var flags []string
	if p.Btns {
		flags = append(flags, "runs btns")
	}
	if p.Initiator {
		flags = append(flags, "we began")
	}
	if p.NAT != "" {
		flags = append(flags, "NAT: "+p.NAT)
	}
	lines := [][2]string{
		{"address", p.Addr},
		{"label", p.Label},
		{"state", p.State + " since " + stamp(p.Since)},
		{"assurance", p.Assurance},
		{"key", p.Name},
		{"words", p.Words},
		{"identity", p.ID},
		{"method", p.Method},
		{"first seen", stamp(p.FirstSeen)},
		{"IKE", p.IKE},
		{"notes", strings.Join(flags, ", ")},
		{"reason", p.Reason},
		{"why", p.Why},
		{"hint", p.Hint},
	}
	for _, c := range p.Children {
		form := "plain"
		if c.Encap {
			form = "in UDP"
		}
		use := "receiving"
		if c.Sending {
			use = "in use"
		}
		lines = append(
			lines,
			[2]string{"SA", fmt.Sprintf("%s in, %s out, %s, %s, %s, %s", c.SPIIn, c.SPIOut, c.Suite, c.Mode, form, use)},
			[2]string{"", fmt.Sprintf("%s <-> %s", c.Local, c.Remote)},
			[2]string{"", fmt.Sprintf("in %d packets, %d bytes, %d dropped; out %d packets, %d bytes", c.InPackets, c.InBytes, c.InDrops, c.OutPackets, c.OutBytes)},
		)
	}
	return pairs(w, lines...)
}
