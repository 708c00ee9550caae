//go:build root

package e2e

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"muelle/internal/linux/netns/netnstest"
)

const (
	// parts is how many worlds the tests are dealt to, each with its namespaces, its
	// daemon and its registry: tests wait far more than they compute.
	parts = 2
	// partEnv holds the folder that the parts share.
	partEnv = "MUELLE_E2E_PART"
	// fewTests are not worth a second world.
	fewTests = 12
	// record is the room for a test's name in the pipe from which the parts take them.
	record = 128
)

// toDeal are the tests that are asked for; none where they are to run in one world.
func toDeal() ([]string, error) {
	list := exec.Command("/proc/self/exe")
	list.Env = append(os.Environ(), insideEnv+"=1")
	names, err := netnstest.Names(list)
	if emulated() || len(names) < fewTests {
		return nil, err
	}
	return names, err
}

// dealt gives a pipe with the names, each in a record: a reader gets a whole one.
func dealt(names []string) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, w.Fd(), syscall.F_SETPIPE_SZ, uintptr(len(names)*record)); errno != 0 {
		return nil, fmt.Errorf("make room for %d names: %w", len(names), errno)
	}
	for _, name := range names {
		if len(name) > record {
			return nil, fmt.Errorf("the name %s is too long", name)
		}
		if _, err := w.Write(append([]byte(name), make([]byte, record-len(name))...)); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// deal starts the parts and prints what they print, test by test.
func deal(names []string, start func(*exec.Cmd) error) int {
	shared, err := os.MkdirTemp("/var/tmp", "muelle-e2e-parts-")
	if err != nil {
		log.Print(err)
		return 1
	}
	defer os.RemoveAll(shared)
	queue, err := dealt(names)
	if err != nil {
		log.Print(err)
		return 1
	}
	defer queue.Close()
	var mu sync.Mutex
	var wg sync.WaitGroup
	worst := 0
	for range parts {
		r, w, err := os.Pipe()
		if err != nil {
			log.Print(err)
			return 1
		}
		cmd := exec.Command("/proc/self/exe", netnstest.Flags()...)
		cmd.Env = append(os.Environ(), partEnv+"="+shared)
		cmd.ExtraFiles = []*os.File{queue}
		cmd.Stdout, cmd.Stderr = w, w
		err = start(cmd)
		w.Close()
		wg.Go(func() {
			defer r.Close()
			pass(r, os.Stdout, &mu)
			if err == nil {
				err = cmd.Wait()
			}
			if _, failed := err.(*exec.ExitError); err != nil && !failed {
				log.Print(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				worst = 1
			}
		})
	}
	wg.Wait()
	fmt.Println(map[bool]string{true: "PASS", false: "FAIL"}[worst == 0])
	return worst
}

// pass copies a part's output in pieces that end with the verdict about a run, which is
// left out.
func pass(from io.Reader, to io.Writer, mu *sync.Mutex) {
	in := bufio.NewReader(from)
	var piece []byte
	for {
		line, err := in.ReadBytes('\n')
		verdict := string(bytes.Trim(line, "\x16\n"))
		over := verdict == "PASS" || verdict == "FAIL"
		if !over {
			piece = append(piece, line...)
		}
		if over || err != nil {
			mu.Lock()
			to.Write(piece)
			mu.Unlock()
			piece = piece[:0]
		}
		if err != nil {
			return
		}
	}
}

// play runs the tests that this part takes, one after the other.
func play(m *testing.M) (worst int) {
	queue := os.NewFile(3, "tests")
	name := make([]byte, record)
	for {
		if _, err := io.ReadFull(queue, name); err != nil {
			return worst
		}
		flag.Set("test.run", "^"+string(bytes.TrimRight(name, "\x00"))+"$")
		worst = max(worst, m.Run())
		if worst != 0 && netnstest.FailFast() {
			return worst
		}
	}
}

// alone lets f run in one part at a time: who comes second finds what the first has made.
func alone(f func() error) error {
	lock, err := os.OpenFile(filepath.Join(os.Getenv(partEnv), "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	return f()
}
