package container

import (
	"time"

	"muelle/internal/logdriver/reader"
)

// compressEvery is how often rotated logs of running containers are looked for. The
// shim, which rotates, is kept too small to compress.
const compressEvery = time.Minute

// compressLogs gzips rotated logs until the Service is closed.
func (s *Service) compressLogs() {
	tick := time.NewTicker(compressEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
		for _, c := range s.all() {
			if _, st := c.snapshot(); st.alive() {
				s.compressLog(c)
			}
		}
	}
}

// compressLog gzips the rotated logs of one container.
func (s *Service) compressLog(c *entry) {
	c.compress.Lock()
	defer c.compress.Unlock()
	rec, _ := c.snapshot()
	if !rec.Log.Compress {
		return
	}
	if err := reader.Compress(rec.Log); err != nil {
		s.log.Warn("compress log", "container", c.id, "err", err)
	}
}
