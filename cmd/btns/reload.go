package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/btns-ipsec/btns/control"
)

func newReload(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have the daemon read its configuration anew",
		Long: `Has the daemon read the file anew that btns up was started with, and put it in force: all of it, or, when there is an error
in it, nothing. What is protected and stays allowed goes on without an interruption; what the file forbids ends at once.
What cannot change while btns runs (plane, state, socket, listen, log.format) is named, and then nothing is changed.
SIGHUP does the same. Exit code 2: the file has errors.`,
		Args: exactly(),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		a, err := control.NewClient(g.socket).Reload(cmd.Context())
		return printApplied(cmd, *asJSON, a, err)
	}
	return cmd
}

func printApplied(cmd *cobra.Command, asJSON bool, a control.Applied, err error) error {
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	if asJSON {
		return printJSON(w, a)
	}
	for _, warning := range a.Warnings {
		fmt.Fprintf(w, "warning: %s\n", warning)
	}
	for _, text := range a.Text {
		fmt.Fprintln(w, text)
	}
	if a.Reverts != nil {
		fmt.Fprintf(w, "taken back at %s unless you say: btns policy confirm\n", stamp(a.Reverts))
	}
	return nil
}
