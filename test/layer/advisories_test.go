package layer_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// advisories are those that the project has promised a test for.
var advisories = []string{
	"CVE-2024-21626", "CVE-2016-9962", "CVE-2019-5736", "CVE-2021-30465", "CVE-2019-19921", "CVE-2023-27561", "CVE-2025-31133",
	"CVE-2025-52565", "CVE-2025-52881", "CVE-2022-29162", "CVE-2022-0492", "CVE-2018-15664", "CVE-2019-14271", "CVE-2024-23651",
	"CVE-2024-23652", "CVE-2024-23653", "CVE-2021-41091", "CVE-2020-8558", "CVE-2020-13401", "CVE-2020-15257",
}

// TestEveryAdvisoryHasItsTest: each stands in docs/security.md, and each file that is
// named there for it tries it.
func TestEveryAdvisoryHasItsTest(t *testing.T) {
	data, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	number, file := regexp.MustCompile(`CVE-\d+-\d+`), regexp.MustCompile("`([a-z0-9_/]+\\.go)`")
	seen := map[string]bool{}
	for line := range strings.SplitSeq(string(data), "\n") {
		if !strings.HasPrefix(line, "| CVE-") {
			continue
		}
		files := file.FindAllStringSubmatch(line, -1)
		for _, cve := range number.FindAllString(line, -1) {
			seen[cve] = len(files) > 0
			for _, f := range files {
				text := source(t, f[1])
				if !strings.Contains(text, cve) && !strings.Contains(text, strings.ReplaceAll(cve, "-", "")) {
					t.Errorf("%s does not try %s", f[1], cve)
				}
			}
		}
	}
	for _, cve := range advisories {
		if !seen[cve] {
			t.Errorf("no test is named for %s", cve)
		}
	}
}

// source finds a file by the end of its path.
func source(t *testing.T, name string) string {
	t.Helper()
	var found []string
	for _, pattern := range []string{name, "internal/" + name, "internal/runtime/" + name} {
		matches, err := filepath.Glob("../../" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, matches...)
	}
	found = slices.Compact(found)
	if len(found) != 1 {
		t.Fatalf("%s is %q", name, found)
	}
	data, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
