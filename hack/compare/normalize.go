package main

import (
	"regexp"
	"strings"
)

// alike is what differs between two runs of anything.
var alike = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`sha256:[0-9a-f]{12,64}`), "sha256:<digest>"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "<id>"},
	{regexp.MustCompile(`\b[0-9a-f]{12}\b`), "<id>"},
	{regexp.MustCompile(`(?i)\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?(Z|[+-]\d\d:?\d\d))?( UTC)?`), "<time>"},
	{regexp.MustCompile(`(Less than a|About a|\d+) (second|minute|hour)s?( ago)?`), "<a while>"},
	{regexp.MustCompile(`\b\d{10}\b`), "<seconds>"},
	{regexp.MustCompile(`\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b`), "<mac>"},
	{regexp.MustCompile(`\b(172|192|10)\.\d+\.\d+\.\d+\b`), "<address>"},
	{regexp.MustCompile(`:(3[2-9]|4\d|5\d|60)\d{3}\b`), ":<port>"},
	{regexp.MustCompile(`\b[a-z]+_[a-z]+\b(\s*\n|$)`), "<name>\n"},
	// What newer versions of Docker, and of runc, put before an error.
	{regexp.MustCompile(`failed to create task for container: |runc create failed: |failed to set up container networking: |error while creating mount source path '[^']*': `), ""},
	{regexp.MustCompile(`(?i)\b(get|head) "(https://[^/"]*)[^"]*"`), "request \"$2\""},
	// Docker sums sizes of files; Muelle says what the disk gets back.
	{regexp.MustCompile(`(?i)(total reclaimed space: ).*`), "$1<size>"},
	{regexp.MustCompile(`[ \t]+`), " "},
	{regexp.MustCompile(` +\n`), "\n"},
}

// normalize makes what two sides print comparable: ids, times, addresses, widths of
// columns, the folder of the side, the name of the program in its messages.
func normalize(s, dir, program string) string {
	s = strings.ReplaceAll(s, dir, "<folder>")
	if program == "muelle" {
		s = strings.ReplaceAll(s, "muelle", "docker")
		s = strings.ReplaceAll(s, "Muelle", "Docker")
	}
	for _, a := range alike {
		s = a.pattern.ReplaceAllString(s, a.name)
	}
	return s
}
