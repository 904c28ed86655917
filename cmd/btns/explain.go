package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/btns-ipsec/btns/control"
)

func newExplain(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain HOST[:PORT]",
		Short: "Why traffic with a host is, or is not, protected, and what to do",
		Args:  exactly("HOST"),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		addr, port, err := resolvePort(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		x, err := control.NewClient(g.socket).Explain(cmd.Context(), addr, port)
		if err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		if *asJSON {
			return printJSON(w, x)
		}
		if err := pairs(w, [2]string{"address", x.Addr}, [2]string{"state", x.State}, [2]string{"rule", x.Entry}, [2]string{"reason", x.Reason}); err != nil {
			return err
		}
		for _, s := range x.Steps {
			fmt.Fprintf(w, "- %s: %s\n", s.Step, s.Text)
		}
		if x.Hint != "" {
			fmt.Fprintf(w, "hint: %s\n", x.Hint)
		}
		return nil
	}
	return cmd
}
