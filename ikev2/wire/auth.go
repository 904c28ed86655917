package wire

import "slices"

// Auth is the Authentication payload (RFC 7296 §3.8).
type Auth struct {
	Method   AuthMethod
	Reserved [3]byte
	Data     []byte
}

func parseAuth(b []byte) (Auth, error) {
	const fixed = 4
	if len(b) < fixed {
		return Auth{}, &Error{"AUTH", "header", ErrTruncated}
	}
	return Auth{Method: AuthMethod(b[0]), Reserved: [3]byte(b[1:4]), Data: b[fixed:]}, nil
}

func (a Auth) appendTo(dst []byte) []byte {
	dst = append(dst, byte(a.Method), a.Reserved[0], a.Reserved[1], a.Reserved[2])
	return append(dst, a.Data...)
}

func (a Auth) clone() Body { a.Data = slices.Clone(a.Data); return a }
func (Auth) check() error  { return nil }
func (Auth) items() int    { return 0 }
