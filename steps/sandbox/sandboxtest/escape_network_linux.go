//go:build amd64 || arm64

package sandboxtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// networkAttempts reach for others over the network.
var networkAttempts = []attempt{
	{"the metadata service", sandbox.Full, func(outside) error { return dial("tcp", "169.254.169.254:80") }},
	{"the internet", sandbox.Full, func(outside) error {
		// 192.0.2.0/24 and 2001:db8::/32 are for documentation: nobody answers there,
		// but a network that has a way out tries.
		for _, a := range []string{"192.0.2.1:80", "[2001:db8::1]:80"} {
			if err := dial("tcp", a); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				return nil
			}
		}
		c, err := net.Dial("udp", "192.0.2.1:53")
		if err == nil {
			_, err = c.Write([]byte("x"))
			c.Close()
		}
		return err
	}},
	{"servers of the host", sandbox.Full, func(w outside) error {
		addresses := slices.Concat(w.Addresses, []string{"127.0.0.1", "::1"})
		// The first address of one's own network is the host's, on a bridge.
		own, err := net.InterfaceAddrs()
		for _, a := range own {
			if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && !ip.IP.IsLoopback() {
				first := ip.IP.Mask(ip.Mask).To4()
				first[3]++
				addresses = append(addresses, first.String())
			}
		}
		errs := []error{err}
		for _, a := range addresses {
			if err := dial("tcp", net.JoinHostPort(a, w.Listener)); err == nil {
				return nil
			} else if len(errs) < 3 {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}},
	{"abstract sockets of the host", sandbox.Full, func(w outside) error { return dial("unix", w.Abstract) }},
	{"raw sockets", sandbox.Full, func(outside) error {
		for _, s := range [][3]int{{syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_ICMP}, {syscall.AF_INET6, syscall.SOCK_RAW, syscall.IPPROTO_ICMPV6}, {syscall.AF_PACKET, syscall.SOCK_RAW, 0}} {
			if err := socket(s[0], s[1], s[2]); err == nil {
				return nil
			}
		}
		return socket(syscall.AF_PACKET, syscall.SOCK_DGRAM, 0)
	}},
	{"sockets of the hypervisor", sandbox.Full, func(outside) error { return socket(40, syscall.SOCK_STREAM, 0) }},
	{"sockets of the kernel's crypto", sandbox.Full, func(outside) error { return socket(38, syscall.SOCK_SEQPACKET, 0) }},
	{"netlink beyond routes", sandbox.Full, func(outside) error {
		for _, protocol := range []int{2, 4, 6, 9, 11, 12, 15, 16, 18, 21} {
			if err := socket(syscall.AF_NETLINK, syscall.SOCK_RAW, protocol); err == nil {
				return nil
			}
		}
		return socket(syscall.AF_NETLINK, syscall.SOCK_RAW, syscall.NETLINK_KOBJECT_UEVENT)
	}},
	{"change the network", sandbox.Full, func(outside) error {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		request := [40]byte{'l', 'o'} // with no flags: down
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request)))
		return refusal("ioctl", errno)
	}},
}

func dial(network, address string) error {
	c, err := net.DialTimeout(network, address, 2*time.Second)
	if err == nil {
		c.Close()
	}
	return err
}

func socket(family, kind, protocol int) error {
	fd, err := syscall.Socket(family, kind, protocol)
	if err == nil {
		syscall.Close(fd)
		return nil
	}
	return fmt.Errorf("socket family %d: %w", family, err)
}
