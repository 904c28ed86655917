package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/btns-ipsec/btns/config"
	"github.com/btns-ipsec/btns/policy"
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
		Long:  "Reads a configuration (" + defaultConfig + " if none is named) as btns up would, and says what is wrong with it.",
		Args:  atMost(1),
	}
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
		for _, warning := range c.Warnings {
			fmt.Fprintf(w, "warning: %s\n", warning)
		}
		fmt.Fprintf(w, "%s is right\n", path)
		return nil
	}
	return cmd
}

func newConfigShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "What a configuration means: policy entries, who may be a peer, configured peers",
		Long: `Prints, in the order in which they are searched, the entries of the policy (SPD) and of the peers that are authorized (PAD),
and the configured peers, defaults included. Without --config it is what btns does without a configuration.`,
		Args: exactly(),
	}
	path := cmd.Flags().String("config", "", "the configuration (TOML)")
	cmd.Flags().Bool("effective", true, "with all defaults filled in; there is no other form")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := config.Default()
		if *path != "" {
			c, err = config.Load(*path)
		}
		if err != nil {
			return &inputError{err}
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
		[2]string{"log", strings.TrimSpace(c.Log.Format + " " + c.Log.Level)},
		[2]string{"trust", c.Trust.String()},
	); err != nil {
		return err
	}
	fmt.Fprintln(w, "\npolicy, the first that fits counts:")
	for i := range c.Policy.SPD() {
		e := &c.Policy.SPD()[i]
		fmt.Fprintf(w, "  %d. %s\n", i+1, entryText(e))
	}
	fmt.Fprintln(w, "\nwho may be a peer, the first that fits counts:")
	for i := range c.Policy.PAD() {
		fmt.Fprintf(w, "  %d. %s\n", i+1, &c.Policy.PAD()[i])
	}
	for _, p := range c.Peers {
		fmt.Fprintf(w, "\npeer %s at %v, %v mode\n", p.Name, p.Remote, p.Mode)
	}
	for _, warning := range c.Warnings {
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

// entryText is an entry of the SPD in words.
func entryText(e *policy.Entry) string {
	text := fmt.Sprintf("%s: %v", e.Name, e.Action)
	if e.Action == policy.Protect {
		text += fmt.Sprintf(", %v; fallback %v, waiting packets %v; btns_ok %v, null_ok %v", e.Mode, e.Fallback, e.Waiting, e.BtnsOK, e.NullOK)
	}
	text += fmt.Sprintf("\n       %v <-> %v", e.Local, e.Remote)
	if e.Source != "" {
		text += " (" + e.Source + ")"
	}
	return text
}
