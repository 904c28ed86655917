package identity

import (
	"fmt"
	"strings"
)

const (
	artWidth  = 17
	artHeight = 9
	artSteps  = " .o+=*BOX@%&#/^" // by how often a field was visited; more often looks like the last
)

// Randomart is the fingerprint as a picture, drawn as OpenSSH draws it: a bishop walks from the middle, two bits a step,
// lowest first, and leaves a mark where it has been; S is where it began, E where it ended. title stands in the frame.
func (f Fingerprint) Randomart(title string) string {
	var visits [artHeight][artWidth]int
	x, y := artWidth/2, artHeight/2
	for _, octet := range f {
		for range 4 {
			x = clamp(x+step(octet&1 != 0), artWidth)
			y = clamp(y+step(octet&2 != 0), artHeight)
			visits[y][x]++
			octet >>= 2
		}
	}
	var b strings.Builder
	b.WriteString(artFrame(title))
	for row := range visits {
		b.WriteString("\n|")
		for column, n := range visits[row] {
			b.WriteByte(artMark(n, column == x && row == y, column == artWidth/2 && row == artHeight/2))
		}
		b.WriteString("|")
	}
	b.WriteString("\n" + artFrame("SHA256"))
	return b.String()
}

func step(positive bool) int {
	if positive {
		return 1
	}
	return -1
}

func clamp(v, size int) int { return min(max(v, 0), size-1) }

func artMark(visits int, end, start bool) byte {
	switch {
	case end:
		return 'E'
	case start:
		return 'S'
	}
	return artSteps[min(visits, len(artSteps)-1)]
}

// artFrame is an edge of the picture with a text in its middle.
func artFrame(text string) string {
	if text != "" {
		text = fmt.Sprintf("[%.*s]", artWidth-2, text)
	}
	left := (artWidth - len(text)) / 2
	return "+" + strings.Repeat("-", left) + text + strings.Repeat("-", artWidth-left-len(text)) + "+"
}
