//go:build linux

package tun

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// vnetLen is the length of struct virtio_net_hdr, which leads every frame of the device.
const vnetLen = 10

// maxNames bounds the search for a free device name.
const maxNames = 16

// openDevice makes a TUN device that passes whole GSO frames both ways. It lives as long as the descriptor.
func openDevice(want string) (fd int, name string, uso bool, err error) {
	stem := strings.TrimRight(want, "0123456789")
	first, _ := strconv.Atoi(want[len(stem):])
	for i := first; i < first+maxNames; i++ {
		name = want
		if i > first {
			name = stem + strconv.Itoa(i)
		}
		if fd, uso, err = openNamed(name); !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	switch {
	case err == nil:
		return fd, name, uso, nil
	case errors.Is(err, os.ErrPermission):
		return -1, "", false, &OpenError{"make device " + want, ErrPermission, "run as root, or with CAP_NET_ADMIN", err}
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return -1, "", false, &OpenError{"open /dev/net/tun", ErrNoTUN, "load the kernel module tun, or give the container /dev/net/tun", err}
	}
	return -1, "", false, fmt.Errorf("tun: make device %s: %w", want, err)
}

func openNamed(name string) (fd int, uso bool, err error) {
	fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, false, err
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, vnetLen)
	}
	if err == nil {
		uso, err = setOffloads(fd)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, false, err
	}
	return fd, uso, nil
}

// setOffloads asks for frames of up to 64 KiB; USO came with Linux 6.2.
func setOffloads(fd int) (uso bool, err error) {
	const tso = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	if unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tso|unix.TUN_F_USO4|unix.TUN_F_USO6) == nil {
		return true, nil
	}
	return false, unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tso)
}
