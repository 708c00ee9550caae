package server

import (
	"expvar"
	"net/http"
	"net/http/pprof"
)

// debugRoutes are Go's own profiles, served with --debug only.
func debugRoutes() []route {
	serve := func(f http.HandlerFunc) handler {
		return func(w *reply, r *request) error {
			f(w, r.Request)
			return nil
		}
	}
	return []route{
		{get, "/debug/vars", serve(expvar.Handler().ServeHTTP)},
		{get, "/debug/pprof/", serve(pprof.Index)},
		{get, "/debug/pprof/cmdline", serve(pprof.Cmdline)},
		{get, "/debug/pprof/profile", serve(pprof.Profile)},
		{get, "/debug/pprof/symbol", serve(pprof.Symbol)},
		{get, "/debug/pprof/trace", serve(pprof.Trace)},
		{get, "/debug/pprof/{name}", func(w *reply, r *request) error {
			pprof.Handler(r.name).ServeHTTP(w, r.Request)
			return nil
		}},
	}
}
