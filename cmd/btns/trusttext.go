package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/btns-ipsec/btns/control"
	"github.com/btns-ipsec/btns/trust"
)

func newTrustExport(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Print what is recorded as a text that import reads",
		Long: `Prints one known peer a line, as ssh's known_hosts: selector, key, attributes. "btns trust import" on another host reads it.
With --hashed nobody can read from it which hosts are meant; import finds those that it knows.`,
		Args: exactly(),
	}
	hashed := cmd.Flags().Bool("hashed", false, "hide names and addresses")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		x, err := control.NewClient(g.socket).Export(cmd.Context(), *hashed)
		if err != nil {
			return err
		}
		_, err = fmt.Fprint(cmd.OutOrStdout(), x.Text)
		return err
	}
	return cmd
}

func newTrustImport(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Take in a text of known peers",
		Long: `Takes in known peers, one a line: what "btns trust export" prints, or "SELECTOR SHA256:..." or "SELECTOR ssh-ed25519 AAAA...".
A line that does not say how well the key is known is your word that it is right. All of the file is taken, or nothing.`,
		Args: exactly("FILE"),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		text, err := os.ReadFile(args[0])
		if err != nil {
			return &inputError{err}
		}
		if _, err := trust.ParseKnown(text); err != nil { // the daemon does not know the name of the file
			return &inputError{fmt.Errorf("%s: %w", args[0], err)}
		}
		done, err := control.NewClient(g.socket).Import(cmd.Context(), text)
		return printDone(cmd, *asJSON, done, err)
	}
	return cmd
}
