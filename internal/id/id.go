// Package id makes and checks the identifiers of containers, networks and execs
// (64 hexadecimal digits, shown as the first 12), and the random names that users
// see when they give none.
package id

import (
	"crypto/rand"
	"encoding/hex"
	"math/big"
	"regexp"
	"strconv"
)

const shortLen = 12

// New returns 64 random hexadecimal digits. The first 12 never consist of decimal
// digits only: a short id is used as a host name, and all-digit ones are not valid
// everywhere.
func New() string {
	for {
		var b [32]byte
		rand.Read(b[:]) // never fails: crypto/rand aborts the program instead
		s := hex.EncodeToString(b[:])
		if _, err := strconv.ParseInt(s[:shortLen], 10, 64); err != nil {
			return s
		}
	}
}

// Short returns the 12 digits that listings show; shorter strings as they are.
func Short(s string) string {
	if len(s) > shortLen {
		return s[:shortLen]
	}
	return s
}

var (
	validID   = regexp.MustCompile(`^[a-f0-9]{64}$`)
	validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)
)

// Valid tells whether s is a full id.
func Valid(s string) bool { return validID.MatchString(s) }

// ValidName tells whether s may name a container, volume or network: two or more
// of [a-zA-Z0-9_.-], the first a letter or digit, as Docker requires.
func ValidName(s string) bool { return validName.MatchString(s) }

// RandomName returns an adjective and a word of the quayside joined by an
// underscore; from the first retry on a digit is appended.
func RandomName(retry int) string {
	name := pick(adjectives[:]) + "_" + pick(nouns[:])
	if retry > 0 {
		n, _ := rand.Int(rand.Reader, big.NewInt(int64(10*min(retry, 1000))))
		name += n.String()
	}
	return name
}

func pick(words []string) string {
	n, _ := rand.Int(rand.Reader, big.NewInt(int64(len(words))))
	return words[n.Int64()]
}
