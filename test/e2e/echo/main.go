// Command echo answers what it is sent, over TCP and UDP on the same port: the
// end-to-end tests run it in containers, because busybox has no UDP server. The datagram
// "who" is answered with the host's name. With the name of an attack for a port it is
// the attacker of those tests.
package main

import (
	"io"
	"log"
	"net"
	"os"
)

func main() {
	if attack := attacks[os.Args[1]]; attack != nil {
		if err := attack(os.Args[2:]); err != nil {
			log.Fatal(err)
		}
		return
	}
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
		answer := buf[:n]
		if string(answer) == "who" {
			name, _ := os.Hostname()
			answer = []byte(name)
		}
		pc.WriteTo(answer, from)
	}
}
