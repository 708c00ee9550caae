// Command healthd is a server that is as well as it is told to be, over HTTP on port
// 8080 and as grpc.health.v1 on 9090: GET /set/503 makes it answer so from then on.
// The end-to-end tests run it in images that hold nothing else.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

func main() {
	// Who is told by the one that it is well may ask the other.
	web, err := net.Listen("tcp", ":8080")
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", ":9090")
	if err != nil {
		log.Fatal(err)
	}
	s, h := grpc.NewServer(), health.NewServer()
	healthpb.RegisterHealthServer(s, h)
	go func() { log.Fatal(s.Serve(l)) }()
	var status atomic.Int32
	status.Store(200)
	http.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(int(status.Load()))
		fmt.Fprintf(w, "I say %d", status.Load())
	})
	http.HandleFunc("/set/{status}", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.PathValue("status"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		status.Store(int32(n))
		serving := healthpb.HealthCheckResponse_SERVING
		if n >= 400 {
			serving = healthpb.HealthCheckResponse_NOT_SERVING
		}
		h.SetServingStatus("", serving)
	})
	log.Fatal(http.Serve(web, nil))
}
