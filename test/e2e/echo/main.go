// Command echo answers what it is sent, over TCP and UDP on the same port: the
// end-to-end tests run it in containers, because busybox has no UDP server.
package main

import (
	"io"
	"log"
	"net"
	"os"
)

func main() {
	addr := ":" + os.Args[1]
	pc, err := net.ListenPacket("udp", addr)
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				log.Fatal(err)
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			log.Fatal(err)
		}
		pc.WriteTo(buf[:n], from)
	}
}
