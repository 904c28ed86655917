// Package sideways has names without a comment.
package sideways

import (
	"errors"

	"example.org/netlink/nlenc" // want example.org/netlink is for long only
)

const Name = "x" // a comment at the end counts

var ( // want-next Bare has no doc comment
	Bare = nlenc.X
)

var ErrSelfEvident = errors.New("sideways: its text says it")

// Document mirrors a file, and may be wide.
type Document struct {
	A          int `toml:"a"`
	B, C, D, E int
}

type Exported struct{} // described

func (Exported) Method() {} // want Method has no doc comment

func (hidden) Method() {}

type hidden struct{}

func Visible() {} // want Visible has no doc comment
