package main

import (
	"log"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// sctp answers associations at a port, of both families, message by message: "who" with
// the host's name and who asks, everything else with itself.
func sctp(args []string) error {
	port, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet6{Port: port}); err != nil {
		return err
	}
	if err := unix.Listen(fd, 64); err != nil {
		return err
	}
	// Package net takes one-to-one sockets for those of TCP.
	f := os.NewFile(uintptr(fd), "sctp")
	l, err := net.FileListener(f)
	f.Close()
	if err != nil {
		return err
	}
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			buf := make([]byte, 64<<10)
			for {
				n, err := c.Read(buf)
				if err != nil {
					return
				}
				answer := buf[:n]
				if string(answer) == "who" {
					who, _, _ := net.SplitHostPort(c.RemoteAddr().String())
					answer = []byte(name + " " + who)
				}
				if _, err := c.Write(answer); err != nil {
					log.Print(err)
					return
				}
			}
		}()
	}
}
