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
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
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

// wholeFlags are those with which all is to be one process.
var wholeFlags = []string{"test.bench", "test.fuzz", "test.list", "test.coverprofile", "test.cpuprofile", "test.memprofile", "test.blockprofile", "test.mutexprofile", "test.trace"}

// toDeal are the tests that are asked for; none where they are to run in one world.
func toDeal() []string {
	flag.Parse()
	pattern := flag.Lookup("test.run").Value.String()
	want, err := regexp.Compile(pattern)
	if err != nil || strings.Contains(pattern, "/") || os.Getenv(echoEnv) != "" || slices.ContainsFunc(wholeFlags, func(name string) bool { return flag.Lookup(name).Value.String() != "" }) {
		return nil
	}
	cmd := exec.Command("/proc/self/exe", "-test.list", "^Test")
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	out, err := cmd.Output()
	if err != nil {
		log.Printf("list tests: %v", err)
		return nil
	}
	names := slices.DeleteFunc(strings.Fields(string(out)), func(name string) bool { return !want.MatchString(name) })
	if len(names) < fewTests {
		return nil
	}
	return names
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
		// The log of what was read is one process's: without it the result is not cached.
		args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(a string) bool { return strings.HasPrefix(a, "-test.testlogfile=") })
		cmd := exec.Command("/proc/self/exe", args...)
		cmd.Env = append(os.Environ(), partEnv+"="+shared)
		cmd.ExtraFiles = []*os.File{queue}
		cmd.Stdout, cmd.Stderr = w, w
		err = start(cmd)
		w.Close()
		if err != nil {
			log.Print(err)
			worst = 1
			break
		}
		wg.Go(func() {
			pass(r, os.Stdout, &mu)
			r.Close()
		})
		defer func() {
			cmd.Process.Kill()
		}()
		wg.Go(func() {
			if cmd.Wait() != nil {
				mu.Lock()
				worst = 1
				mu.Unlock()
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
		if worst != 0 && flag.Lookup("test.failfast").Value.String() == "true" {
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
