package kube

import (
	"strings"
	"testing"
)

func TestReadyMeansThatTheLatestGenerationSaysSo(t *testing.T) {
	const isvc = "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {name: x, generation: 2}\n"
	const deploy = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x, generation: 2}\nspec: {replicas: 1}\n"
	const job = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: x}\n"
	const train = "apiVersion: trainer.kubeflow.org/v1alpha1\nkind: TrainJob\nmetadata: {name: x}\n"
	for _, test := range []struct {
		name, object  string
		ready, failed bool
		says          string
	}{
		{"an InferenceService without status", isvc, false, false, "has not looked at it"},
		{"one whose status is of before", isvc + `status: {observedGeneration: 1, conditions: [{type: Ready, status: "True"}]}`, false, false, "generation 1, not yet 2"},
		{"one that does not say of when its status is", isvc + `status: {conditions: [{type: Ready, status: "True"}]}`, false, false, "which generation"},
		{"one without conditions", isvc + `status: {observedGeneration: 2}`, false, false, "no condition Ready"},
		{"one that is not ready says why", isvc + `status: {observedGeneration: 2, conditions: [{type: Ready, status: "False", reason: PredictorNotReady, message: wait}]}`, false, false, "PredictorNotReady: wait"},
		{"one that is ready", isvc + `status: {observedGeneration: 2, conditions: [{type: Ready, status: "True"}]}`, true, false, ""},
		{"a Deployment whose status is of before", deploy + `status: {observedGeneration: 1, replicas: 1, readyReplicas: 1, availableReplicas: 1, updatedReplicas: 1}`, false, false, ""},
		{"a Deployment with too few pods", deploy + `status: {observedGeneration: 2, replicas: 1, updatedReplicas: 1}`, false, false, "vailable: 0/1"},
		{"a Deployment that is ready", deploy + `status: {observedGeneration: 2, replicas: 1, readyReplicas: 1, availableReplicas: 1, updatedReplicas: 1, conditions: [{type: Available, status: "True"}]}`, true, false, ""},
		{"a Job that runs", job + `status: {active: 1, startTime: "2026-11-01T10:00:00Z"}`, false, false, "1 pods run"},
		{"a Job that completed", job + `status: {succeeded: 1, conditions: [{type: Complete, status: "True"}]}`, true, false, ""},
		{"a Job that failed", job + `status: {conditions: [{type: Failed, status: "True", reason: BackoffLimitExceeded, message: too often}]}`, false, true, "BackoffLimitExceeded: too often"},
		{"a TrainJob that completed", train + `status: {conditions: [{type: Complete, status: "True"}]}`, true, false, ""},
		{"a TrainJob that failed", train + `status: {conditions: [{type: Failed, status: "True", message: jobset failed}]}`, false, true, "jobset failed"},
		{"what is being deleted", "{apiVersion: v1, kind: ConfigMap, metadata: {name: x, deletionTimestamp: \"2026-11-01T10:00:00Z\"}}", false, false, "being deleted"},
		{"a ConfigMap", "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}", true, false, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := Ready(object(t, test.object))
			if r.Ready != test.ready || r.Failed != test.failed || !strings.Contains(r.Message, test.says) {
				t.Errorf("%+v", r)
			}
		})
	}
}
