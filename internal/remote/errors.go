package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
)

// Explain words a registry's refusal of ref as Docker does, with the class that its
// status has; other errors it returns with what was attempted.
func Explain(ref reference.Named, action string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	name := reference.FamiliarName(ref)
	denied := fmt.Sprintf("%s access denied for %s, repository does not exist or may require 'docker login'", action, name)
	status, body := refusal(err)
	var unreached unreachedError
	switch {
	case errors.As(err, &unreached):
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("manifest for %s %v", reference.FamiliarString(ref), unreached))
	case status == http.StatusUnauthorized && strings.Contains(body, "incorrect username or password"),
		strings.Contains(err.Error(), "incorrect username or password"):
		return errdefs.ErrUnauthenticated.WithMessage("unauthorized: incorrect username or password")
	case status == http.StatusUnauthorized, status == http.StatusForbidden, errors.Is(err, docker.ErrInvalidAuthorization),
		strings.Contains(err.Error(), "no basic auth credentials"):
		if body != "" {
			denied += ": " + body
		}
		if action == "push" {
			return errdefs.ErrPermissionDenied.WithMessage(denied)
		}
		return errdefs.ErrNotFound.WithMessage(denied)
	case status == http.StatusTooManyRequests:
		if body == "" {
			body = "toomanyrequests: the registry limits how often it is asked; try again later"
		}
		return errdefs.ErrResourceExhausted.WithMessage(body)
	case status == http.StatusNotFound || status == 0 && errdefs.IsNotFound(err):
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("manifest for %s not found: manifest unknown: manifest unknown",
			reference.FamiliarString(ref)))
	case status != 0 && body != "":
		return fmt.Errorf("%s %s: %s", action, name, body)
	}
	return classify(fmt.Errorf("%s %s: %w", action, name, err))
}

// refusal finds the status that a registry answered, and its own words, decoded.
func refusal(err error) (int, string) {
	var status remoteerrors.ErrUnexpectedStatus
	if !errors.As(err, &status) {
		return 0, ""
	}
	var document struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal(status.Body, &document) != nil || len(document.Errors) == 0 {
		return status.StatusCode, ""
	}
	first := document.Errors[0]
	code := strings.ToLower(strings.ReplaceAll(first.Code, "_", " "))
	return status.StatusCode, code + ": " + first.Message
}

// classify makes what kept the registry from being reached Unavailable, and shows it
// without the resolver's own words around it.
func classify(err error) error {
	var transportErr *url.Error
	if !errors.As(err, &transportErr) {
		return err
	}
	if errdefs.IsFailedPrecondition(err) {
		return errdefs.ErrFailedPrecondition.WithMessage(transportErr.Error())
	}
	return errdefs.ErrUnavailable.WithMessage(transportErr.Error())
}
