package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/btns-ipsec/btns/control"
)

func newDown(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "down HOST",
		Short: "Delete the SAs with a peer",
		Long: `Deletes the SAs with a peer and tells it so. The next packet makes new ones. What is recorded of the peer stays: see
"btns trust forget".`,
		Args: exactly("HOST"),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		addr, err := resolve(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		done, err := control.NewClient(g.socket).Down(cmd.Context(), addr)
		return printDone(cmd, *asJSON, done, err)
	}
	return cmd
}

func printDone(cmd *cobra.Command, asJSON bool, done control.Done, err error) error {
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), done)
	}
	for _, text := range done.Text {
		fmt.Fprintln(cmd.OutOrStdout(), text)
	}
	return nil
}
