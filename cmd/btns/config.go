package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/btns-ipsec/btns/config"
)

// defaultConfig is where packages put the file.
const defaultConfig = "/etc/btns/btns.toml"

func newConfig() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "config",
		Short: "The configuration: check it, show what it means",
	})
	cmd.AddCommand(newConfigCheck(), newConfigShow())
	return cmd
}

func newConfigCheck() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Say what is wrong with a configuration, with line and column",
		Long: "Reads a configuration (" + defaultConfig + ` if none is named) as btns up would, and says what is wrong with it: exit code 2. What
has a meaning that an operator should know of is a warning, and no error: rules that others hide, rules that are open to
anybody, traffic that may go in clear.`,
		Args: atMost(1),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path := defaultConfig
		if len(args) == 1 {
			path = args[0]
		}
		c, err := config.Load(path)
		if err != nil {
			return &inputError{err}
		}
		w := cmd.OutOrStdout()
		warnings := slices.Concat(c.Warnings, c.Lint())
		if *asJSON {
			return printJSON(w, checked{path, true, warnings})
		}
		for _, warning := range warnings {
			fmt.Fprintf(w, "warning: %s\n", warning)
		}
		fmt.Fprintf(w, "%s is right\n", path)
		return nil
	}
	return cmd
}

// checked is a configuration that loads.
type checked struct {
	File     string   `json:"file"`
	Right    bool     `json:"right"`
	Warnings []string `json:"warnings,omitempty"`
}

func newConfigShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show [FILE]",
		Short: "What a configuration means: policy entries, who may be a peer, configured peers",
		Long: `Prints, in the order in which they are searched, the entries of the policy (SPD) and of the peers that are authorized (PAD),
and the configured peers, defaults included. Without a file it is what btns does without a configuration.`,
		Args: atMost(1),
	}
	path := cmd.Flags().String("config", "", "the same as FILE")
	cmd.Flags().Bool("effective", true, "with all defaults filled in; there is no other form")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		file := *path
		if len(args) == 1 {
			if file != "" && file != args[0] {
				return &usageError{"two files: " + file + " and " + args[0], cmd.CommandPath()}
			}
			file = args[0]
		}
		f := upFlags{config: file}
		c, err := f.read()
		if err != nil {
			return &inputError{err}
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), effectiveOf(c)...)
		}
		return showConfig(cmd.OutOrStdout(), c)
	}
	return cmd
}

func showConfig(w io.Writer, c *config.Config) error {
	if err := pairs(w,
		[2]string{"plane", string(c.Plane)},
		[2]string{"state", or(c.State, defaultState())},
		[2]string{"socket", or(c.Socket, defaultSocket())},
		[2]string{"listen", or(listText(c.Listen), "all addresses")},
		[2]string{"log", strings.TrimSpace(c.Log.Format + " " + c.Log.Level)},
		[2]string{"probe", probeText(c.Probe)},
		[2]string{"trust", c.Trust.String()},
		[2]string{"recycled", or(listText(c.Recycled), "none")},
		[2]string{"certificate", certificateText(c)},
	); err != nil {
		return err
	}
	fmt.Fprintln(w, "\npolicy, the first that fits counts:")
	for i := range c.Policy.SPD() {
		fmt.Fprintf(w, "  %d. %s\n", i+1, entryText(&c.Policy.SPD()[i]))
	}
	fmt.Fprintln(w, "\nwho may be a peer, the first that fits counts:")
	for i := range c.Policy.PAD() {
		fmt.Fprintf(w, "  %d. %s\n", i+1, padText(&c.Policy.PAD()[i]))
	}
	for i := range c.Peers {
		fmt.Fprintf(w, "\n%s\n", peerText(&c.Peers[i]))
	}
	for _, warning := range slices.Concat(c.Warnings, c.Lint()) {
		fmt.Fprintf(w, "\nwarning: %s\n", warning)
	}
	return nil
}

func or(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}
