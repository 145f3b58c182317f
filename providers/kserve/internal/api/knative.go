package api

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/kube"
)

// TagAnnotation has KServe give the newest revision an address of its own.
const TagAnnotation = "serving.kserve.io/enable-tag-routing"

// latestTag is the tag that TagAnnotation has KServe set.
const latestTag = "latest"

// Shares tells the traffic of a service as a line for people, by the key "traffic"; nil where nothing is shared out.
func (s Status) Shares() map[string]string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(s.Traffic)) {
		if n := s.Traffic[name]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s: %d %%", name, n))
		}
	}
	if parts == nil {
		return nil
	}
	return map[string]string{"traffic": strings.Join(parts, ", ")}
}

// Route is what a Route of Knative's says of itself.
type Route struct {
	Ready   bool // it has observed what is asked of it, and its ingress does it
	Message string
	// Traffic is the share in percent of each revision, by name.
	Traffic map[string]int64
	// Asked is the share in percent that is asked of it for the newest revision. Traffic may still be of what was asked before.
	Asked int64
	// URL is where it answers.
	URL string
	// Latest is the revision that has the address LatestURL to itself; "" when KServe was not told to give it one.
	Latest, LatestURL string
}

// RouteOf decodes a Route (serving.knative.dev/v1).
func RouteOf(u *unstructured.Unstructured) (Route, error) {
	state := kube.Ready(u)
	out := Route{Ready: state.Ready, Message: state.Message, Traffic: map[string]int64{}}
	var s struct {
		URL     string `json:"url"`
		Traffic []struct {
			Revision string `json:"revisionName"`
			Percent  *int64 `json:"percent"`
			Tag      string `json:"tag"`
			URL      string `json:"url"`
		} `json:"traffic"`
	}
	raw, _, err := unstructured.NestedMap(u.Object, "status")
	if err == nil {
		err = convert(raw, &s)
	}
	if err != nil {
		return out, fmt.Errorf("read the status of %s: %w", kube.RefOf(u), err)
	}
	if out.Asked, err = askedOf(u); err != nil {
		return out, fmt.Errorf("read what is asked of %s: %w", kube.RefOf(u), err)
	}
	out.URL = s.URL
	for _, t := range s.Traffic {
		if t.Percent != nil {
			out.Traffic[t.Revision] += *t.Percent
		}
		if t.Tag == latestTag {
			out.Latest, out.LatestURL = t.Revision, t.URL
		}
	}
	return out, nil
}

// askedOf is the share that a Route is asked to give the newest revision: all, when nothing else is said.
func askedOf(u *unstructured.Unstructured) (int64, error) {
	var s struct {
		Traffic []struct {
			Latest  *bool  `json:"latestRevision"`
			Percent *int64 `json:"percent"`
		} `json:"traffic"`
	}
	raw, _, err := unstructured.NestedMap(u.Object, "spec")
	if err == nil {
		err = convert(raw, &s)
	}
	if len(s.Traffic) == 0 || err != nil {
		return 100, err
	}
	var sum int64
	for _, t := range s.Traffic {
		if t.Latest != nil && *t.Latest && t.Percent != nil {
			sum += *t.Percent
		}
	}
	return sum, nil
}
