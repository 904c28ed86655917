package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/btns-ipsec/btns/control"
)

func newID(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "id",
		Short: "This host's own key: fingerprint, words, picture, public key; rotate, revoke",
		Long: `Prints the name of this host's key. Compare it with what "btns peers" shows on another host: the fingerprint by eye,
or the twelve words by telephone. When they agree, nobody sits in between.

A key can be changed as planned, without an alarm anywhere ("btns id rotate"), and ended when it was stolen ("btns id revoke").`,
		Args: exactly(),
	}
	cmd.AddCommand(newIDRotate(g), newIDRevoke(g))
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		id, err := control.NewClient(g.socket).ID(cmd.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), id)
		}
		return printID(cmd.OutOrStdout(), id)
	}
	return cmd
}

func printID(w io.Writer, id control.ID) error {
	err := pairs(w, [2]string{"fingerprint", id.Name}, [2]string{"words", id.Words}, [2]string{"algorithm", id.Algorithm})
	printArt(w, id.Name, id.Algorithm)
	fmt.Fprint(w, id.PublicKey)
	if err == nil && id.Next != nil {
		fmt.Fprintln(w)
		err = pairs(w, [2]string{"next key from", stamp(&id.Next.From)}, [2]string{"fingerprint", id.Next.Name}, [2]string{"words", id.Next.Words},
			[2]string{"told", fmt.Sprintf("%d of the peers with SAs", id.Next.Told)})
	}
	if err == nil && id.Former+id.Revocation != "" {
		fmt.Fprintln(w)
		err = pairs(w, [2]string{"key before", id.Former}, [2]string{"until", stamp(id.Turned)}, [2]string{"revocation", id.Revocation})
	}
	return err
}
