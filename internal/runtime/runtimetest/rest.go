package runtimetest

import "testing"

func testRestart(t *testing.T, s *suite)   {}
func testEscapes(t *testing.T, s *suite)   {}
