package config

import (
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// Notifier is where alerts go.
type Notifier struct {
	Type   string `ml:"type,required" enum:"webhook|log" doc:"webhook POSTs signed JSON, whose header ML-Delivery names the turn, so that one sent twice is known; log appends a line to a file in the state folder."`
	URL    string `ml:"url,sensitive" doc:"Where a webhook posts to."`
	Secret string `ml:"secret,sensitive" doc:"Key of the HMAC-SHA256 in the header ML-Signature."`
}

// NotifierOutputs is what other blocks may use of a notifier.
type NotifierOutputs struct {
	Address string `ml:"address" doc:"Address of the notifier."`
	Type    string `ml:"type" doc:"webhook or log."`
}

func notifierKind() Kind {
	return Kind{
		Name: "notifier", Class: resource.Object,
		Doc:  "Where alerts go: a webhook, signed with HMAC-SHA256, or a log file.",
		Spec: Notifier{}, Outputs: NotifierOutputs{},
		Plan: func(spec cty.Value, _ map[string]string, _ cty.Value) map[string]cty.Value {
			return map[string]cty.Value{"type": spec.GetAttr("type")}
		},
		Check: func(v cty.Value) []Problem {
			if t, ok := known(v, "type"); ok && t.AsString() == "webhook" && !set(v, "url") {
				return []Problem{{"type", "A webhook needs a url", "Add url = \"https://…\"."}}
			}
			return nil
		},
	}
}
