package runtimetest

import "testing"

func testStreams(t *testing.T, s *suite)   {}
func testIsolation(t *testing.T, s *suite) {}
func testErrors(t *testing.T, s *suite)    {}
func testExec(t *testing.T, s *suite)      {}
func testResources(t *testing.T, s *suite) {}
func testRestart(t *testing.T, s *suite)   {}
func testEscapes(t *testing.T, s *suite)   {}
