package tun

import "encoding/binary"

var (
	be          = binary.BigEndian
	nativeOrder = binary.NativeEndian
)

// IP protocol numbers that the plane treats in a way of their own.
const (
	protoTCP = 6
	protoUDP = 17
)

// struct virtio_net_hdr: one flag and the kinds of segmentation.
const (
	needsSum = 1

	gsoNone = 0
	gsoTCP4 = 1
	gsoUDP  = 5 // UDP_L4: equal datagrams, each with its header
	gsoTCP6 = 4
	gsoECN  = 0x80
)

// vnet is the header of a frame of the device.
type vnet struct {
	flags, gso       byte
	head, size       int // length of all headers, payload of a segment
	sumStart, sumOff int
}

func readVnet(b []byte) vnet {
	le := binary.NativeEndian
	return vnet{
		flags: b[0], gso: b[1] &^ gsoECN, head: int(le.Uint16(b[2:])), size: int(le.Uint16(b[4:])),
		sumStart: int(le.Uint16(b[6:])), sumOff: int(le.Uint16(b[8:])),
	}
}

func (v vnet) put(b []byte) {
	le := binary.NativeEndian
	b[0], b[1] = v.flags, v.gso
	le.PutUint16(b[2:], uint16(v.head))
	le.PutUint16(b[4:], uint16(v.size))
	le.PutUint16(b[6:], uint16(v.sumStart))
	le.PutUint16(b[8:], uint16(v.sumOff))
}
