package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/btns-ipsec/btns/control"
	"github.com/btns-ipsec/btns/identity"
)

func newTrustVerify(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify HOST|SHA256:... [--fingerprint SHA256:... | --words WORDS]",
		Short: "Say that a key was compared and is right",
		Long: `Marks a key as verified. Read what "btns id" prints on that host over another way than this network, by telephone for
example, and give here what you were told: the fingerprint or the twelve words. With neither, the key that is recorded is
printed, so that you can compare it, and nothing is marked.`,
		Args: exactly("HOST"),
	}
	asJSON := jsonFlag(cmd)
	fingerprint := cmd.Flags().String("fingerprint", "", "the key, as SHA256:...")
	words := cmd.Flags().String("words", "", "its twelve words, in quotes")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *fingerprint != "" && *words != "" {
			return &usageError{"--fingerprint and --words exclude each other", cmd.CommandPath()}
		}
		addr, name, err := hostOrKey(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		compared, err := comparedKey(cmd, g, args[0], name, *fingerprint, *words)
		if err != nil {
			return err
		}
		done, err := control.NewClient(g.socket).For(named(args[0])).Verify(cmd.Context(), addr, compared)
		return printDone(cmd, *asJSON, done, err)
	}
	return cmd
}

// comparedKey is the key that the operator names; an error when he names none, or one that does not agree with target.
func comparedKey(cmd *cobra.Command, g *globals, target, name, fingerprint, words string) (string, error) {
	switch {
	case fingerprint != "":
		if err := checkName(fingerprint); err != nil {
			return "", err
		}
		if name != "" && fingerprint != name {
			return "", fmt.Errorf("the two keys differ: %s, %s", name, fingerprint)
		}
		return fingerprint, nil
	case words == "" && name != "":
		return name, nil
	case name != "":
		f, err := identity.ParseFingerprint(name)
		if err != nil {
			return "", err
		}
		return withWords([]control.Pin{{Name: name, Words: f.Words()}}, target, words)
	}
	pins, err := pinsOf(cmd.Context(), g, target)
	if err != nil {
		return "", err
	}
	if words != "" {
		return withWords(pins, target, words)
	}
	for _, p := range pins {
		if err := pairs(cmd.OutOrStdout(), [2]string{"fingerprint", p.Name}, [2]string{"words", p.Words}); err != nil {
			return "", err
		}
		printArt(cmd.OutOrStdout(), p.Name, "")
	}
	return "", hint(errors.New("nothing is marked as verified yet"),
		"compare with `btns id` on that host, and then: btns trust verify %s --fingerprint %s", target, pins[0].Name)
}

func withWords(pins []control.Pin, target, words string) (string, error) {
	words = strings.ToUpper(strings.Join(strings.Fields(words), " "))
	for _, p := range pins {
		if p.Words == words {
			return p.Name, nil
		}
	}
	return "", hint(fmt.Errorf("no key of %s has these words", target),
		"if you have read them right, it is not the host that you mean, or somebody is in between; see: btns trust show %s", target)
}

func newTrustRevoke(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke SHA256:... | --statement FILE",
		Short: "Withdraw a key: it is refused from now on",
		Long: `Withdraws a key that was stolen or lost. Its sessions end at once, and it is refused whatever else speaks for it. Its
addresses stay closed to other keys until you accept one. What ends that is "btns trust forget" of the key.

With --statement the key is withdrawn by its own holder: the file has the line "btns-revocation ..." that "btns id revoke" printed
on that host, and - is the standard input. That is final.`,
	}
	asJSON := jsonFlag(cmd)
	statement := cmd.Flags().String("statement", "", "a file with the statement by which the key ends itself")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if *statement != "" {
			return exactly()(cmd, args)
		}
		return exactly("SHA256:...")(cmd, args)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *statement != "" {
			text, err := readStatement(cmd, *statement)
			if err != nil {
				return err
			}
			done, err := control.NewClient(g.socket).RevokeBy(cmd.Context(), text)
			return printDone(cmd, *asJSON, done, err)
		}
		if err := checkName(args[0]); err != nil {
			return err
		}
		done, err := control.NewClient(g.socket).Revoke(cmd.Context(), args[0])
		return printDone(cmd, *asJSON, done, err)
	}
	return cmd
}

// maxStatement is more than any statement has.
const maxStatement = 1 << 16

func readStatement(cmd *cobra.Command, name string) (string, error) {
	in := cmd.InOrStdin()
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", &inputError{err}
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxStatement))
	if err != nil {
		return "", &inputError{err}
	}
	return strings.TrimSpace(string(text)), nil
}
