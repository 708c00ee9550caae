// Command mongod is a stand-in for MongoDB's server on machines that cannot pull
// the real image: a small persistent server of Muelle's own that speaks enough of
// MongoDB's wire protocol (OP_MSG, the legacy hello over OP_QUERY, SCRAM-SHA-256)
// for the official drivers to log in, insert, query, update, count and list. A
// command that it does not know is answered with CommandNotFound, never with
// success. It is not MongoDB, has no indexes, replication or transactions, and is
// for examples and tests only.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv); err != nil {
		log.Fatal(err)
	}
}

// run serves until ctx ends. The environment variables of the official image make
// the first user: MONGO_INITDB_ROOT_USERNAME with MONGO_INITDB_ROOT_PASSWORD or
// MONGO_INITDB_ROOT_PASSWORD_FILE.
func run(ctx context.Context, args []string, getenv func(string) string) error {
	flags := flag.NewFlagSet("mongod", flag.ContinueOnError)
	path := flags.String("dbpath", "/data/db", "folder of the data")
	bind := flags.String("bind_ip", "0.0.0.0", "address to listen on")
	port := flags.Int("port", 27017, "port to listen on")
	flags.Bool("auth", false, "accepted: authentication is on wherever a user exists")
	flags.Bool("bind_ip_all", true, "accepted: the default")
	if err := flags.Parse(args); err != nil {
		return err
	}
	user, password := getenv("MONGO_INITDB_ROOT_USERNAME"), getenv("MONGO_INITDB_ROOT_PASSWORD")
	if file := getenv("MONGO_INITDB_ROOT_PASSWORD_FILE"); password == "" && file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read MONGO_INITDB_ROOT_PASSWORD_FILE: %w", err)
		}
		password = strings.TrimRight(string(text), "\n")
	}
	if (user == "") != (password == "") {
		return errors.New("MONGO_INITDB_ROOT_USERNAME and MONGO_INITDB_ROOT_PASSWORD must be given together")
	}
	st, err := openStore(*path, user, password)
	if err != nil {
		return err
	}
	defer st.close()
	l, err := net.Listen("tcp", net.JoinHostPort(*bind, fmt.Sprint(*port)))
	if err != nil {
		return err
	}
	log.Printf("Waiting for connections on %s, access control %v (a stand-in, not MongoDB)", l.Addr(), st.auth)
	return newServer(st).serve(ctx, l)
}
