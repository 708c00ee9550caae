package netnstest

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// whole are the flags with which all is to be one process: what they ask for is no
// matter of single tests.
var whole = []string{"test.bench", "test.fuzz", "test.list", "test.coverprofile", "test.cpuprofile", "test.memprofile", "test.blockprofile", "test.mutexprofile", "test.trace"}

// wanted are the tests that are asked for; none where they are to run in one process.
func wanted() ([]string, error) {
	flag.Parse()
	pattern := flag.Lookup("test.run").Value.String()
	if strings.Contains(pattern, "/") || slices.ContainsFunc(whole, func(name string) bool { f := flag.Lookup(name); return f != nil && f.Value.String() != "" }) {
		return nil, nil
	}
	want, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	cmd, err := again("-test.list", "^Test")
	if err != nil {
		return nil, err
	}
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list tests: %w", err)
	}
	return slices.DeleteFunc(strings.Fields(string(out)), func(name string) bool { return !want.MatchString(name) }), nil
}

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
		stop := worst != 0 && flag.Lookup("test.failfast").Value.String() == "true"
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
	// The log of what was read is one process's: without it the result is not cached.
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(a string) bool { return strings.HasPrefix(a, "-test.testlogfile=") })
	cmd, err := again(append(args, "-test.run", "^"+name+"$")...)
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
