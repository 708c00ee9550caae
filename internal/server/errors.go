package server

import (
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/common"
)

// errPageNotFound is Docker's answer to a path or method that does not exist.
var errPageNotFound = errdefs.ErrNotFound.WithMessage("page not found")

// statuses is the one table from error classes to HTTP statuses; the first line
// that matches counts. What is not in it is our own fault: 500.
var statuses = []struct {
	is   func(error) bool
	code int
}{
	{errdefs.IsNotModified, http.StatusNotModified},
	{errdefs.IsInvalidArgument, http.StatusBadRequest},
	{errdefs.IsOutOfRange, http.StatusBadRequest},
	{errdefs.IsUnauthorized, http.StatusUnauthorized},
	{errdefs.IsPermissionDenied, http.StatusForbidden},
	{errdefs.IsNotFound, http.StatusNotFound},
	{errdefs.IsConflict, http.StatusConflict},
	{errdefs.IsAlreadyExists, http.StatusConflict},
	{errdefs.IsAborted, http.StatusConflict},
	{errdefs.IsFailedPrecondition, http.StatusConflict},
	{errdefs.IsResourceExhausted, http.StatusTooManyRequests},
	{errdefs.IsNotImplemented, http.StatusNotImplemented},
	{errdefs.IsUnavailable, http.StatusServiceUnavailable},
}

func statusOf(err error) int {
	for _, s := range statuses {
		if s.is(err) {
			return s.code
		}
	}
	return http.StatusInternalServerError
}

func errorBody(err error) common.ErrorResponse {
	return common.ErrorResponse{Message: err.Error()}
}
