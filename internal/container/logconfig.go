package container

import (
	"context"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"

	"muelle/internal/container/logopt"
	"muelle/internal/logdriver"
	"muelle/internal/runtime"
)

// logConfig reads the log driver and its options at the container's creation: what is
// wrong is refused now, not at the start.
func logConfig(rec *record, c *entry) (logdriver.Config, error) {
	l := rec.HostConfig.LogConfig
	if err := logopt.Validate(l.Type, l.Config); err != nil {
		return logdriver.Config{}, err
	}
	if err := logopt.Check(l.Type, logInfo(rec)); err != nil {
		return logdriver.Config{}, err
	}
	return logopt.File(l.Type, l.Config, filepath.Join(c.dir, c.id+"-json.log"))
}

// logInfo is what a log may say of its container.
func logInfo(rec *record) *logopt.Info {
	return &logopt.Info{
		Config: rec.HostConfig.LogConfig.Config, ContainerID: rec.ID, ContainerName: "/" + rec.Name,
		ContainerEntrypoint: rec.Path, ContainerArgs: rec.Args, ContainerImageID: rec.Image.ID.String(), ContainerImageName: rec.Config.Image,
		ContainerCreated: rec.Created, ContainerEnv: rec.Config.Env, ContainerLabels: rec.Config.Labels, LogPath: rec.Log.Path,
		DaemonName: "muelle",
	}
}

// resolveLog completes the log's configuration for this run.
func (n *starting) resolveLog(ctx context.Context) (err error) {
	n.rec.Log, err = logopt.Resolve(ctx, n.rec.Log, logInfo(&n.rec), n.s.o.LogHelper)
	return err
}

// logPath is what inspect shows once the container was started: as Docker, only a
// json-file is there to be read by others.
func (r *record) logPath(started bool) string {
	if r.HostConfig.LogConfig.Type != "json-file" || !started {
		return ""
	}
	return r.Log.Path
}

// unreachable words that a log's service does not answer, as Docker does.
func unreachable(r logdriver.Remote, err error) error {
	cause := strings.TrimPrefix(err.Error(), runtime.ErrLog.Error()+": ")
	const failed = "failed to create task for container: failed to initialize logging driver: "
	if len(r.Helper) > 0 {
		return errdefs.ErrUnknown.WithMessage(failed + cause)
	}
	address := r.Path
	if ip, ok := netip.AddrFromSlice(r.Addr); ok {
		address = netip.AddrPortFrom(ip, r.Port).String()
	}
	return errdefs.ErrUnknown.WithMessage(failed + "dial " + r.Network + " " + address + ": connect: " + cause)
}
