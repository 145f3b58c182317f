package main

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/rogpeppe/go-internal/testscript"
)

// cmdRegistry starts a container registry on loopback, whose address is in REGISTRY from then on; "registry remove REPO REF" takes
// a tag or an image out of it behind ml's back.
func cmdRegistry(ts *testscript.TestScript, neg bool, args []string) {
	switch {
	case neg || len(args) != 0 && (len(args) != 3 || args[0] != "remove"):
		ts.Fatalf("usage: registry [remove REPO REF]")
	case len(args) == 0:
		s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
		ts.Defer(s.Close)
		ts.Setenv("REGISTRY", strings.TrimPrefix(s.URL, "http://"))
	default:
		req, err := http.NewRequest(http.MethodDelete, "http://"+ts.Getenv("REGISTRY")+"/v2/"+args[1]+"/manifests/"+args[2], nil)
		ts.Check(err)
		resp, err := http.DefaultClient.Do(req)
		ts.Check(err)
		ts.Check(resp.Body.Close())
		if resp.StatusCode >= http.StatusMultipleChoices {
			ts.Fatalf("remove %s from %s: %s", args[2], args[1], resp.Status)
		}
	}
}
