package main

import (
	"strings"
	"testing"
)

func TestTCPNeedsMutualTLS(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct {
		name string
		args []string
		want string
	}{
		{"nothing", nil, "refused, because whoever reaches a TCP port without TLS is root"},
		{"TLS alone", []string{"--tls", "--tlsverify=false"}, "refused, because without --tlsverify whoever reaches the port is root"},
		{"TLS verifies unless told otherwise", []string{"--tls", "--tlscert", dir + "/c", "--tlskey", dir + "/k"}, "could not load X509 key pair"},
		{"no certificate", []string{"--tlsverify", "--tlscert", dir + "/c", "--tlskey", dir + "/k"}, "could not load X509 key pair"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := parse(append(tc.args, "-H", "tcp://127.0.0.1:0", "--config-file", configFile(t, "{}")), nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = listen(c, &places{exec: dir}, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %s", err, tc.want)
			}
		})
	}
}
