package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// RFC 5386 §4: without further evidence the first contact may be with a man in the middle, and users are told.
func TestUsersAreToldOfTheFirstContact(t *testing.T) {
	t.Run("BTNS-CORE-60 the help says that the first contact is a leap of faith, and how to close it", func(t *testing.T) {
		root := newRoot()
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetArgs([]string{"--help"})
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"The first contact with a host is a leap of faith", `compare "btns id" there with "btns peers" here`} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("no %q in\n%s", want, out.String())
			}
		}
	})
	t.Run("BTNS-CORE-60 the page on security says who is not kept out", func(t *testing.T) {
		page, err := os.ReadFile("../../SECURITY.md")
		if err != nil {
			t.Fatal(err)
		}
		want := "**on the path at the first contact** and impersonates both ends: *not* protected"
		if !strings.Contains(strings.Join(strings.Fields(string(page)), " "), want) {
			t.Errorf("no %q", want)
		}
	})
}
