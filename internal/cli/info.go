package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/system"
	"github.com/spf13/cobra"

	"muelle/client"
	"muelle/internal/console"
)

type clientInfo struct {
	Debug bool
	clientVersion
	Plugins  []string
	Warnings []string
}

type engineInfo struct {
	*system.Info `json:",omitempty"`
	ServerErrors []string `json:",omitempty"`
	UserName     string   `json:"-"`
	ClientInfo   *clientInfo
	ClientErrors []string `json:",omitempty"`
}

func (a *app) info() *cobra.Command {
	var format string
	c := a.command("info [OPTIONS]", "Display system-wide information", noArgs, func(ctx context.Context, _ []string) error {
		v := engineInfo{ClientInfo: &clientInfo{clientVersion: a.clientVersion(a.contextName()), Plugins: []string{}}}
		s, connErr := a.serverInfo(ctx)
		if connErr == nil {
			v.Info = s
		} else {
			connErr = console.Explain(a.where, connErr)
			if ce := new(client.Error); errors.As(connErr, &ce) {
				v.ServerErrors = []string{connErr.Error()}
				connErr = nil
			}
		}
		if format == "" {
			return errors.Join(a.printInfo(v), connErr)
		}
		if v.Info == nil {
			v.Info = &system.Info{}
		}
		if format == "json" {
			format = "{{json .}}"
		}
		t, err := console.Template(format)
		if err != nil {
			return statusError{64, err.Error()}
		}
		var b strings.Builder
		if err := t.Execute(&b, v); err != nil {
			return errors.Join(connErr, err)
		}
		_, _ = fmt.Fprintln(a.Out, b.String())
		return connErr
	})
	c.Flags().StringVarP(&format, "format", "f", "", inspectFormatHelp)
	return a.also(c, "system info", "info")
}

func (a *app) serverInfo(ctx context.Context) (*system.Info, error) {
	c, err := a.api(ctx)
	if err != nil {
		return nil, err
	}
	s, err := c.System.Info(ctx)
	if err != nil {
		return nil, err
	}
	return &s, nil
}

func (a *app) printInfo(v engineInfo) error {
	w := a.Out
	_, _ = fmt.Fprintln(w, "Client:")
	line(w, " Version:   ", v.ClientInfo.Version)
	_, _ = fmt.Fprintln(w, " Context:   ", v.ClientInfo.Context)
	_, _ = fmt.Fprintln(w, " Debug Mode:", v.ClientInfo.Debug)
	_, _ = fmt.Fprintln(w, "\nServer:")
	if v.Info != nil {
		printEngine(w, v.Info)
		for _, x := range v.Warnings {
			_, _ = fmt.Fprintln(a.Err, x)
		}
	}
	for _, e := range v.ServerErrors {
		_, _ = fmt.Fprintln(a.Err, "ERROR:", e)
	}
	if len(v.ServerErrors) > 0 {
		return errors.New("errors pretty printing info")
	}
	return nil
}

// line prints a label and a value unless that is empty.
func line(w io.Writer, label, value string) {
	if value != "" {
		_, _ = fmt.Fprintln(w, label, value)
	}
}

func printEngine(w io.Writer, i *system.Info) {
	p := func(args ...any) { _, _ = fmt.Fprintln(w, args...) }
	p(" Containers:", i.Containers)
	p("  Running:", i.ContainersRunning)
	p("  Paused:", i.ContainersPaused)
	p("  Stopped:", i.ContainersStopped)
	p(" Images:", i.Images)
	line(w, " Server Version:", i.ServerVersion)
	line(w, " Storage Driver:", i.Driver)
	for _, s := range i.DriverStatus {
		p("  " + s[0] + ": " + s[1])
	}
	line(w, " Logging Driver:", i.LoggingDriver)
	line(w, " Cgroup Driver:", i.CgroupDriver)
	line(w, " Cgroup Version:", i.CgroupVersion)
	p(" Plugins:")
	p("  Volume:", strings.Join(i.Plugins.Volume, " "))
	p("  Network:", strings.Join(i.Plugins.Network, " "))
	if len(i.Plugins.Authorization) > 0 {
		p("  Authorization:", strings.Join(i.Plugins.Authorization, " "))
	}
	p("  Log:", strings.Join(i.Plugins.Log, " "))
	if len(i.CDISpecDirs) > 0 {
		p(" CDI spec directories:")
		for _, d := range i.CDISpecDirs {
			p("  " + d)
		}
	}
	p(" Swarm:", i.Swarm.LocalNodeState)
	if len(i.Runtimes) > 0 {
		p(" Runtimes:", strings.Join(sortedKeys(i.Runtimes), " "))
		p(" Default Runtime:", i.DefaultRuntime)
	}
	p(" Init Binary:", i.InitBinary)
	p(" containerd version:", i.ContainerdCommit.ID)
	p(" runc version:", i.RuncCommit.ID)
	p(" init version:", i.InitCommit.ID)
	printSecurity(w, i.SecurityOptions)
	line(w, " Kernel Version:", i.KernelVersion)
	line(w, " Operating System:", i.OperatingSystem)
	line(w, " OSType:", i.OSType)
	line(w, " Architecture:", i.Architecture)
	p(" CPUs:", i.NCPU)
	p(" Total Memory:", units.BytesSize(float64(i.MemTotal)))
	line(w, " Name:", i.Name)
	line(w, " ID:", i.ID)
	p(" Docker Root Dir:", i.DockerRootDir)
	p(" Debug Mode:", i.Debug)
	printEngineRest(w, i, p)
}

func printEngineRest(w io.Writer, i *system.Info, p func(...any)) {
	if i.Debug {
		p("  File Descriptors:", i.NFd)
		p("  Goroutines:", i.NGoroutines)
		p("  System Time:", i.SystemTime)
		p("  EventsListeners:", i.NEventsListener)
	}
	line(w, " HTTP Proxy:", i.HTTPProxy)
	line(w, " HTTPS Proxy:", i.HTTPSProxy)
	line(w, " No Proxy:", i.NoProxy)
	if len(i.Labels) > 0 {
		p(" Labels:")
		for _, l := range i.Labels {
			p("  " + l)
		}
	}
	p(" Experimental:", i.ExperimentalBuild)
	if rc := i.RegistryConfig; rc != nil {
		if len(rc.InsecureRegistryCIDRs) > 0 || len(rc.IndexConfigs) > 0 {
			p(" Insecure Registries:")
			for _, k := range sortedKeys(rc.IndexConfigs) {
				if !rc.IndexConfigs[k].Secure {
					p("  " + rc.IndexConfigs[k].Name)
				}
			}
			for _, c := range rc.InsecureRegistryCIDRs {
				p("  " + c.String())
			}
		}
		if len(rc.Mirrors) > 0 {
			p(" Registry Mirrors:")
			for _, m := range rc.Mirrors {
				p("  " + m)
			}
		}
	}
	p(" Live Restore Enabled:", i.LiveRestoreEnabled)
	line(w, " Product License:", i.ProductLicense)
	if len(i.DefaultAddressPools) > 0 {
		p(" Default Address Pools:")
		for _, x := range i.DefaultAddressPools {
			p(fmt.Sprintf("   Base: %s, Size: %d", x.Base, x.Size))
		}
	}
	p()
}

// printSecurity prints "name=seccomp,profile=builtin" as two lines.
func printSecurity(w io.Writer, opts []string) {
	if len(opts) == 0 {
		return
	}
	_, _ = fmt.Fprintln(w, " Security Options:")
	for _, o := range opts {
		name := o
		var profile string
		for part := range strings.SplitSeq(o, ",") {
			k, v, ok := strings.Cut(part, "=")
			if ok && k == "name" {
				name = v
			}
			if ok && k == "profile" {
				profile = v
			}
		}
		_, _ = fmt.Fprintln(w, "  "+name)
		if profile != "" {
			_, _ = fmt.Fprintln(w, "   Profile:", profile)
		}
	}
}

// MarshalJSON flattens the engine's part, as Docker's info does.
func (v engineInfo) MarshalJSON() ([]byte, error) {
	type plain engineInfo
	return json.Marshal(plain(v))
}
