package trust

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// The text of known peers has one peer a line, as OpenSSH's known_hosts:
//
//	SELECTOR[,SELECTOR...] KEY [ATTRIBUTE...] [# comment]
//
// A selector is an address, a name, a name with a port ("host.example:22", "[host.example]:22"), the hash of one of
// these, or * for the key wherever it comes from; without selectors, as in a list of allowed keys, it is *. A key is its
// name, "SHA256:...", or what OpenSSH writes, "ssh-ed25519 AAAA...", after which the line is a comment. "@revoked" before
// the selectors withdraws the key. Attributes are those that Export writes; a line without "level" is the operator's word
// that the key is right.

// TextError says where a text of known peers is wrong, and what was expected.
type TextError struct {
	Line, Column int // from 1; columns count characters
	Want         string
}

func (e *TextError) Error() string {
	return fmt.Sprintf("line %d, column %d: expected %s", e.Line, e.Column, e.Want)
}

const (
	maxText = 64 << 20
	maxLine = 1 << 16
)

// word is a part of a line and where it begins, in octets from 0.
type word struct {
	text string
	at   int
}

// line is a line that is being read.
type line struct {
	text   string
	number int
	words  []word
	rest   int // where the words that were not taken begin
}

func (l *line) fail(at int, format string, args ...any) *TextError {
	return &TextError{l.number, utf8.RuneCountInString(l.text[:min(at, len(l.text))]) + 1, fmt.Sprintf(format, args...)}
}

// take removes and returns the next word; its text is empty at the end of the line.
func (l *line) take() word {
	if len(l.words) == 0 {
		return word{"", len(l.text)}
	}
	w := l.words[0]
	l.words = l.words[1:]
	l.rest = w.at + len(w.text)
	return w
}

// split cuts a line into words at blanks. Quotes hold a word together, and # begins a comment.
func (l *line) split() *TextError {
	if len(l.text) > maxLine {
		return l.fail(maxLine, "at most %d octets in a line", maxLine)
	}
	start, quoted, escaped := -1, -1, false
	for i, r := range l.text {
		switch {
		case r == utf8.RuneError:
			return l.fail(i, "UTF-8")
		case r < ' ' && r != '\t' || r == 0x7f:
			return l.fail(i, "no control characters")
		case quoted >= 0:
			if r == '"' && !escaped {
				quoted = -1
			}
			escaped = r == '\\' && !escaped
		case r == ' ' || r == '\t':
			if start >= 0 {
				l.words = append(l.words, word{l.text[start:i], start})
			}
			start = -1
		case r == '#' && start < 0:
			return nil
		default:
			if start < 0 {
				start = i
			}
			if r == '"' {
				quoted = i
			}
		}
	}
	if quoted >= 0 {
		return l.fail(quoted, "a closing quote")
	}
	if start >= 0 {
		l.words = append(l.words, word{l.text[start:], start})
	}
	return nil
}

// ParseKnown reads a text of known peers. The first thing that is wrong ends it: half a list is worse than none.
func ParseKnown(text []byte) ([]Entry, error) {
	if len(text) > maxText {
		return nil, &TextError{1, 1, fmt.Sprintf("at most %d octets", maxText)}
	}
	var out []Entry
	number := 0
	for s := range strings.Lines(string(text)) {
		number++
		l := &line{text: strings.TrimSuffix(strings.TrimSuffix(s, "\n"), "\r"), number: number}
		if err := l.split(); err != nil {
			return nil, err
		}
		if len(l.words) == 0 {
			continue
		}
		entries, err := l.parse()
		if err != nil {
			return nil, err
		}
		out = append(out, entries...)
	}
	return out, nil
}
