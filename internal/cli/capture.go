package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"muelle/api"
	"muelle/client"
	"muelle/internal/cli/dissect"
	"muelle/internal/console"
	"muelle/internal/linux/capture/pcap"
)

func (a *app) net() *cobra.Command {
	return a.group("net", "Look into networks", a.netCapture())
}

func (a *app) netCapture() *cobra.Command {
	var device, file string
	var count, snaplen int
	var host, numeric bool
	c := a.command("capture [OPTIONS] CONTAINER [FILTER...]", "Show the packets of a container's interfaces", minArgs(1), func(ctx context.Context, args []string) error {
		if count < 0 || snaplen < 0 {
			return errors.New("--count and --snaplen are numbers of 0 or more")
		}
		text := strings.Join(args[1:], " ")
		// Longer ones would be refused by what is in between, and less clearly.
		if len(text) > api.CaptureFilterMost {
			return fmt.Errorf("filter: it is longer than %d bytes", api.CaptureFilterMost)
		}
		q := url.Values{}
		for k, v := range map[string]string{"interface": device, "filter": text} {
			if v != "" {
				q.Set(k, v)
			}
		}
		for k, n := range map[string]int{"count": count, "snaplen": snaplen} {
			if n > 0 {
				q.Set(k, strconv.Itoa(n))
			}
		}
		if host {
			q.Set("host", "1")
		}
		return a.capture(ctx, args[0], q, file, numeric)
	})
	c.Long = `Show the packets that come to and leave a container's interfaces, a line each, until Ctrl-C or
the container's end. FILTER is in tcpdump's language: host, net, port and portrange with src
and dst, ip, ip6, arp, tcp, udp, sctp, icmp, icmp6, broadcast, multicast, less, greater, and,
or, not, brackets. Names of containers stand for their addresses. The container needs no
program for it; its image stays as it is.`
	f := c.Flags()
	f.StringVarP(&device, "interface", "i", "", "Interface in the container, or a network that it is on (default: all but the loopback)")
	f.StringVarP(&file, "write", "w", "", "Write a pcap file instead of text (\"-\" is STDOUT)")
	f.IntVarP(&count, "count", "c", 0, "End after this many packets")
	f.IntVarP(&snaplen, "snaplen", "s", 0, "Keep this many bytes of each packet (default: all)")
	f.BoolVarP(&numeric, "numeric", "n", false, "Show addresses instead of names")
	f.BoolVar(&host, "host-interfaces", false, "Of a container on the host's network: capture the host's interfaces")
	return c
}

func (a *app) capture(ctx context.Context, ref string, q url.Values, file string, numeric bool) (err error) {
	api, err := a.api(ctx)
	if err != nil {
		return err
	}
	// Ctrl-C ends the capture, not the connection: the summary is still to come.
	cp, err := api.Containers.Capture(context.WithoutCancel(ctx), ref, q)
	if err != nil {
		return err
	}
	defer func() { _ = cp.Packets.Close() }()
	defer context.AfterFunc(ctx, cp.Stop)()
	var out io.Writer = a.Out
	if file != "" && file != "-" {
		f, e := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if e != nil {
			return e
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		out = f
	}
	if file == "" {
		err = printPackets(out, cp, numeric)
	} else {
		_, err = io.Copy(out, cp.Packets)
	}
	if err != nil {
		return err
	}
	sum, err := cp.Summary()
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(a.Err, "%d packets captured, %d dropped by the kernel\n", sum.Packets, sum.Dropped)
	return nil
}

func printPackets(out io.Writer, cp *client.Capture, numeric bool) error {
	names := func(a netip.Addr) string { return console.OneLine(cp.Names[a.String()]) }
	if numeric {
		names = func(netip.Addr) string { return "" }
	}
	r, err := pcap.NewReader(cp.Packets)
	if err != nil {
		return fmt.Errorf("read packets: %w", err)
	}
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read packets: %w", err)
		}
		if _, err := fmt.Fprintf(out, "%s  %s\n", p.At.Local().Format("15:04:05.000000"), dissect.Line(p.Data, p.Length, names)); err != nil {
			return err
		}
	}
}
