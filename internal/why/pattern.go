package why

import (
	"regexp"
	"sync"
)

// pattern is a regular expression that is compiled when it is first asked: all of them
// together take milliseconds and most of a megabyte, and few daemons are asked why.
type pattern struct {
	text string
	once sync.Once
	re   *regexp.Regexp
}

func lazy(text string) *pattern { return &pattern{text: text} }

func (p *pattern) compiled() *regexp.Regexp {
	p.once.Do(func() { p.re = regexp.MustCompile(p.text) })
	return p.re
}

func (p *pattern) MatchString(s string) bool { return p.compiled().MatchString(s) }

func (p *pattern) FindStringSubmatch(s string) []string { return p.compiled().FindStringSubmatch(s) }

func (p *pattern) FindString(s string) string { return p.compiled().FindString(s) }

func (p *pattern) FindAllStringSubmatch(s string, n int) [][]string {
	return p.compiled().FindAllStringSubmatch(s, n)
}
