package trust

import (
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const textHeader = "# known peers of btns, version 1: SELECTOR KEY ATTRIBUTE...\n"

// Export writes records as a text of known peers, which [ParseKnown] reads back to the same records.
func Export(records []Record) string {
	var b strings.Builder
	b.WriteString(textHeader)
	for _, r := range records {
		writeRecord(&b, r.place().String(), r)
	}
	return b.String()
}

// ExportHashed is Export with each name and address hashed under a salt of its own.
func ExportHashed(records []Record, rand io.Reader) (string, error) {
	var b strings.Builder
	b.WriteString(textHeader)
	for _, r := range records {
		selector := r.place().String()
		if !r.place().IsZero() {
			var salt [32]byte
			if _, err := io.ReadFull(rand, salt[:]); err != nil {
				return "", fmt.Errorf("trust: entropy: %w", err)
			}
			selector = HashSelector(salt, selector)
		}
		writeRecord(&b, selector, r)
	}
	return b.String(), nil
}

func writeRecord(b *strings.Builder, selector string, r Record) {
	b.WriteString(selector + " " + r.Key.String() + " level=" + r.Assurance.String())
	attr := func(name, value string, write bool) {
		if write {
			b.WriteString(" " + name)
			if value != "" {
				b.WriteString("=" + value)
			}
		}
	}
	attr("spki", base64.StdEncoding.EncodeToString(r.Public.SPKI()), !r.Public.IsZero())
	attr("network", strconv.Quote(r.Network), r.Network != "")
	attr("first", formatTime(r.FirstSeen), !r.FirstSeen.IsZero())
	attr("last", formatTime(r.LastSeen), !r.LastSeen.IsZero())
	attr("sessions", strconv.FormatUint(uint64(r.Sessions), 10), r.Sessions > 0)
	attr("inbound", "", r.Inbound)
	attr("sticky", "", r.Sticky)
	attr("suspended", "", r.Suspended)
	attr("evidence", evidenceText(r.Evidence), len(r.Evidence) > 0)
	attr("revoked", formatTime(r.Revoked), !r.Revoked.IsZero())
	attr("next", nextText(r.Next), len(r.Next) > 0)
	attr("heir", r.Heir.String(), !r.Heir.IsZero())
	attr("retire", formatTime(r.Retire), !r.Retire.IsZero())
	b.WriteString("\n")
}

func evidenceText(es []Evidence) string {
	parts := make([]string, len(es))
	for i, e := range es {
		parts[i] = string(e.Kind) + "@" + formatTime(e.At)
	}
	return strings.Join(parts, ",")
}

func nextText(next []Successor) string {
	parts := make([]string, len(next))
	for i, n := range next {
		parts[i] = base64.StdEncoding.EncodeToString(n.Key.SPKI()) + "@" + formatTime(n.From) + "@" + formatTime(n.Told)
	}
	return strings.Join(parts, ",")
}
