package console

import "strings"

// Printable takes the power over the terminal off what strangers said: control
// characters, and those that turn the direction of writing, become U+FFFD. Ends of lines
// and tabs stay.
func Printable(s string) string { return visible(s, true) }

// OneLine does the same for what has one line: a name with an end of line in it must not
// look like two answers.
func OneLine(s string) string { return visible(s, false) }

func visible(s string, lines bool) string {
	return strings.Map(func(r rune) rune {
		switch {
		case lines && (r == '\n' || r == '\t'):
			return r
		case r < ' ', r >= 0x7f && r < 0xa0, r == 0x200e, r == 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0xfeff, r == 0xfffe, r == 0xffff:
			return '\uFFFD'
		}
		return r
	}, s)
}
