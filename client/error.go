package client

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/containerd/errdefs/pkg/errhttp"
)

// Error is an answer of the daemon with a status of 400 or more. errors.Is and the
// predicates of containerd/errdefs see its class.
type Error struct {
	Status  int
	Message string
	// Header of the answer.
	Header http.Header
}

// Error words it as Docker's clients do.
func (e *Error) Error() string { return "Error response from daemon: " + e.Message }

// Unwrap gives the class.
func (e *Error) Unwrap() error {
	return errhttp.ToNative(e.Status)
}

// UnreachableError says that no daemon could be talked to at Host.
type UnreachableError struct {
	Host string
	Err  error
}

// Error names the address and the cause.
func (e *UnreachableError) Error() string {
	return "cannot connect to " + e.Host + ": " + e.Err.Error()
}

// Unwrap gives the cause (ENOENT, ECONNREFUSED, EACCES …).
func (e *UnreachableError) Unwrap() error { return e.Err }

// responseError reads an error answer and closes it.
func responseError(res *http.Response) *Error {
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	e := &Error{Status: res.StatusCode, Header: res.Header}
	if err != nil {
		e.Message = "read the answer of status " + res.Status + ": " + err.Error()
		return e
	}
	var m struct {
		Message string `json:"message"`
	}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") && json.Unmarshal(body, &m) == nil && m.Message != "" {
		e.Message = strings.TrimSpace(m.Message)
		return e
	}
	e.Message = strings.TrimSpace(string(body))
	if e.Message == "" {
		e.Message = http.StatusText(res.StatusCode)
		// The answer to HEAD has no text.
		if res.Request != nil && res.StatusCode == http.StatusNotImplemented {
			e.Message = res.Request.Method + " " + res.Request.URL.Path + " is not supported by the daemon"
		}
	}
	return e
}
