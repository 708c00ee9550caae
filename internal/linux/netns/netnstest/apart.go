package netnstest

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// whole are the flags with which all is to be one process: what they ask for is no
// matter of single tests.
var whole = []string{"test.bench", "test.fuzz", "test.list", "test.coverprofile", "test.cpuprofile", "test.memprofile", "test.blockprofile", "test.mutexprofile", "test.trace"}

// Names are the tests that this program's flags ask for; none where they are to run in
// one process. list is the program again, which does not pass its tests on.
func Names(list *exec.Cmd) ([]string, error) {
	flag.Parse()
	pattern := flag.Lookup("test.run").Value.String()
	if strings.Contains(pattern, "/") || slices.ContainsFunc(whole, func(name string) bool { return flag.Lookup(name).Value.String() != "" }) {
		return nil, nil
	}
	want, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	list.Args = append(list.Args, "-test.list", "^Test")
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("list tests: %w", err)
	}
	return slices.DeleteFunc(strings.Fields(string(out)), func(name string) bool { return !want.MatchString(name) }), nil
}

// Flags are this program's for one of several processes that share its tests. The log of
// what was read is one process's: without it the result is not cached.
func Flags() []string {
	return slices.DeleteFunc(slices.Clone(os.Args[1:]), func(a string) bool { return strings.HasPrefix(a, "-test.testlogfile=") })
}

// FailFast tells whether no further test is to begin after one has failed.
func FailFast() bool { return flag.Lookup("test.failfast").Value.String() == "true" }

// apart runs each test in a process, n at a time, and prints what each of them has
// printed in one piece. It gives the exit status.
func apart(names []string, n int) int {
	dir, err := os.MkdirTemp("", "netnstest-")
	if err != nil {
		fail(err)
	}
	defer os.RemoveAll(dir)
	next := make(chan string)
	var mu sync.Mutex
	worst := 0
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			for name := range next {
				out, code := alone(name, filepath.Join(dir, fmt.Sprint("lock", i)))
				mu.Lock()
				os.Stdout.Write(out)
				worst = max(worst, code)
				mu.Unlock()
			}
		})
	}
	for _, name := range names {
		mu.Lock()
		stop := worst != 0 && FailFast()
		mu.Unlock()
		if stop {
			break
		}
		next <- name
	}
	close(next)
	wg.Wait()
	fmt.Println(map[bool]string{true: "PASS", false: "FAIL"}[worst == 0])
	return worst
}

// alone runs one test. lock is the file by which it keeps two of its iptables-legacy
// apart; others' are in other namespaces.
func alone(name, lock string) (out []byte, code int) {
	cmd, err := again(append(Flags(), "-test.run", "^"+name+"$")...)
	if err != nil {
		fail(err)
	}
	cmd.Env = append(cmd.Env, "XTABLES_LOCKFILE="+lock)
	var buf bytes.Buffer
	cmd.Stdout, cmd.Stderr = &buf, &buf
	code = status(cmd.Run())
	for _, last := range []string{"PASS\n", "FAIL\n"} {
		if rest, ok := bytes.CutSuffix(buf.Bytes(), []byte(last)); ok {
			return rest, code
		}
	}
	return buf.Bytes(), code
}
