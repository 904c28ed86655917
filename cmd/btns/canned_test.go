package main

import (
	"context"
	"strings"
	"time"

	"github.com/btns-ipsec/btns/config"
	"github.com/btns-ipsec/btns/control"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/selector"
)

// What the canned daemon does about configurations: its own file is broken, and what it is given is on trial.

func (canned) Reload(context.Context) (control.Applied, error) {
	_, err := config.Parse("own.toml", []byte("colour = 1\n"), nil)
	return control.Applied{}, wrongFile(err)
}

func (canned) Apply(_ context.Context, d control.Document, revert time.Duration) (control.Applied, error) {
	if strings.Contains(string(d.Text), "plane") {
		return control.Applied{}, &control.Error{Text: "plane cannot change", Hint: "restart btns"}
	}
	a := control.Applied{Text: []string{"peer \"x\" added"}, Warnings: []string{"look here"}}
	for name, b := range d.Files {
		a.Text = append(a.Text, name+": "+string(b[:5]))
	}
	if revert > 0 {
		ends := since.Add(revert)
		a.Reverts = &ends
	}
	return a, nil
}

func (canned) Confirm(context.Context) (control.Applied, error) {
	return control.Applied{Text: []string{"confirmed"}}, nil
}

func (canned) TestPolicy(_ context.Context, f selector.Flow) (host.PolicyTest, error) {
	c, err := config.Default()
	if err != nil {
		return host.PolicyTest{}, err
	}
	t := host.TestPolicy(c.Policy, f)
	t.Notes = []string{"traffic with it is protected now"}
	return t, nil
}
