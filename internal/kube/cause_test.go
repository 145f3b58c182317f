package kube

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

var diagnosed = time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)

func pod(t *testing.T, text string) corev1.Pod {
	t.Helper()
	p := corev1.Pod{}
	p.Name, p.UID = "x-1", "pod-uid"
	if err := yaml.UnmarshalStrict([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

func event(reason, kind, name, uid, message string, age time.Duration) corev1.Event {
	e := corev1.Event{Reason: reason, Message: message, Type: "Warning"}
	e.InvolvedObject.Kind, e.InvolvedObject.Name, e.InvolvedObject.UID = kind, name, types.UID(uid)
	e.LastTimestamp.Time = diagnosed.Add(-age)
	return e
}

// The states and messages are those of real clusters (kubelet 1.30 to 1.35), cut to what matters.
func TestACauseIsToldInOneLine(t *testing.T) {
	const running = `status: {phase: Running, containerStatuses: [{name: main, ready: false, state: {running: {}}}]}`
	for _, test := range []struct {
		name   string
		pods   []string
		events []corev1.Event
		object string
		code   string
		want   []string
		now    bool // believed at once
	}{
		{name: "an image that the registry lacks", code: CauseImage, want: []string{"pod x-1: image r/a:1", "r/a:1: not found"}, now: true, pods: []string{
			`status: {phase: Pending, containerStatuses: [{name: main, image: "r/a:1", state: {waiting: {reason: ErrImagePull, message: 'rpc error: code = NotFound desc = failed to pull and unpack image "r/a:1": failed to resolve reference "r/a:1": r/a:1: not found'}}}]}`}},
		{name: "an image in back-off, with the message in an event", code: CauseImage, want: []string{"401 Unauthorized", "image_pull_secrets"}, now: true, pods: []string{
			`status: {phase: Pending, containerStatuses: [{name: main, image: "r/a:1", state: {waiting: {reason: ImagePullBackOff, message: 'Back-off pulling image "r/a:1"'}}}]}`},
			events: []corev1.Event{event("Failed", "Pod", "x-1", "pod-uid", `Failed to pull image "r/a:1": rpc error: code = Unknown desc = failed to authorize: 401 Unauthorized`, time.Second)}},
		{name: "an image that wants credentials, as containerd says it", code: CauseImage, want: []string{
			"pod x-1: image r:1/a@sha256:2951523…: 401 Unauthorized; name a Secret with credentials for the registry in image_pull_secrets"}, now: true, pods: []string{
			strings.ReplaceAll(`status: {phase: Pending, initContainerStatuses: [{name: init, image: "IMAGE", state: {waiting: {reason: ErrImagePull, message: 'rpc error: code = Unknown desc = failed to pull and unpack image "IMAGE": failed to resolve reference "IMAGE": pulling from host r:1 failed with status code [manifests sha256:2951523aaea398fb5094c0c412e61e9efc8dfdb6325e98c386d389ebede26102]: 401 Unauthorized'}}}]}`,
				"IMAGE", "r:1/a@sha256:2951523aaea398fb5094c0c412e61e9efc8dfdb6325e98c386d389ebede26102")}},
		{name: "a registry that is away for now", code: CauseImage, want: []string{"connection refused"}, pods: []string{
			`status: {phase: Pending, initContainerStatuses: [{name: init, image: "r/a:1", state: {waiting: {reason: ErrImagePull, message: 'rpc error: code = Unknown desc = failed to do request: dial tcp 10.0.0.1:443: connect: connection refused'}}}]}`}},
		{name: "a crash loop", code: CauseCrash, want: []string{"container main exited with 3"}, now: true, pods: []string{
			`status: {phase: Running, containerStatuses: [{name: main, restartCount: 4, state: {waiting: {reason: CrashLoopBackOff, message: back-off 40s}}, lastState: {terminated: {exitCode: 3, reason: Error}}}]}`}},
		{name: "a first crash", code: CauseCrash, want: []string{"exited with 3"}, pods: []string{
			`status: {phase: Running, containerStatuses: [{name: main, restartCount: 1, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 3, reason: Error}}}]}`}},
		{name: "a kill for want of memory in a loop", code: CauseMemory, want: []string{"want of memory (exit code 137)", "resources.memory"}, now: true, pods: []string{
			`status: {phase: Running, containerStatuses: [{name: main, restartCount: 1, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 137, reason: OOMKilled}}}]}`}},
		{name: "a kill for want of memory of a pod that is not restarted", code: CauseMemory, want: []string{"memory"}, now: true, pods: []string{
			`{spec: {restartPolicy: Never}, status: {phase: Failed, containerStatuses: [{name: main, state: {terminated: {exitCode: 137, reason: OOMKilled}}}]}}`}},
		{name: "a failed pod's termination message", code: CauseExit, want: []string{"exited with 1: no such column"}, now: true, pods: []string{
			`{spec: {restartPolicy: Never}, status: {phase: Failed, containerStatuses: [{name: main, state: {terminated: {exitCode: 1, message: "no such column\nat line 3"}}}]}}`}},
		{name: "an eviction", code: CauseEvicted, want: []string{"Evicted: The node was low on resource: memory"}, pods: []string{
			`status: {phase: Failed, reason: Evicted, message: "The node was low on resource: memory."}`}},
		{name: "no node", code: CauseUnschedulable, want: []string{"0/1 nodes are available: 1 Insufficient nvidia.com/gpu"}, pods: []string{
			`status: {phase: Pending, conditions: [{type: PodScheduled, status: "False", reason: Unschedulable, message: "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."}]}`}},
		{name: "a ConfigMap that is not there", code: CauseConfig, want: []string{`configmap "settings" not found`}, pods: []string{
			`status: {phase: Pending, containerStatuses: [{name: main, state: {waiting: {reason: CreateContainerConfigError, message: 'configmap "settings" not found'}}}]}`}},
		{name: "a Secret's volume that is not there", code: CauseConfig, want: []string{`secret "token" not found`}, pods: []string{
			`status: {phase: Pending, containerStatuses: [{name: main, state: {waiting: {reason: ContainerCreating}}}]}`},
			events: []corev1.Event{event("FailedMount", "Pod", "x-1", "pod-uid", `MountVolume.SetUp failed for volume "v" : secret "token" not found`, time.Second)}},
		{name: "a quota", code: CauseQuota, want: []string{"replicaset x-abc", "exceeded quota: small"},
			events: []corev1.Event{event("FailedCreate", "ReplicaSet", "x-abc", "rs", `Error creating: pods "x-abc-1" is forbidden: exceeded quota: small, requested: pods=1, used: pods=1, limited: pods=1`, time.Second)}},
		{name: "a quota that only the object's condition tells", code: CauseQuota, want: []string{"deployment x", "exceeded quota"},
			object: `status: {conditions: [{type: ReplicaFailure, status: "True", reason: FailedCreate, message: 'pods "x" is forbidden: exceeded quota: small'}]}`},
		{name: "a service account that is not there", code: CauseAccount, want: []string{`serviceaccount "runner" not found`},
			events: []corev1.Event{event("FailedCreate", "ReplicaSet", "x-abc", "rs", `Error creating: pods "x-abc-" is forbidden: error looking up service account ns/runner: serviceaccount "runner" not found`, time.Second)}},
		{name: "a namespace that goes", code: CauseTerminating, want: []string{"being terminated"}, now: true,
			events: []corev1.Event{event("FailedCreate", "ReplicaSet", "x-abc", "rs", `Error creating: pods "x-abc-" is forbidden: unable to create new content in namespace ns because it is being terminated`, time.Second)}},
		{name: "a failed probe", code: CauseProbe, want: []string{"Readiness probe failed: 503"}, pods: []string{running},
			events: []corev1.Event{event("Unhealthy", "Pod", "x-1", "pod-uid", "Readiness probe failed: 503", time.Second)}},
		{name: "nothing wrong", pods: []string{running}},
		{name: "what Trainer is refused", code: CauseForbidden, want: []string{"trainjob x: admission webhook \"vjobset.kb.io\" denied the request: JobSet name is too long"},
			events: []corev1.Event{event(trainerFailed, "TrainJob", "x", "u", `TrainJob resources reconciliation failed: admission webhook "vjobset.kb.io" denied the request: JobSet name is too long`, time.Second)}},
		{name: "what Trainer was refused before there were pods", pods: []string{running},
			events: []corev1.Event{event(trainerFailed, "TrainJob", "x", "u", "TrainJob resources reconciliation failed: not in the cache yet", time.Second)}},
		{name: "an old event says nothing", events: []corev1.Event{event("FailedCreate", "ReplicaSet", "x-abc", "rs", "exceeded quota", time.Hour)}},
		{name: "nor does another object's", events: []corev1.Event{event("FailedCreate", "ReplicaSet", "y-abc", "other", "exceeded quota", time.Second)}},
		{name: "nor does a pod that goes", pods: []string{
			`{metadata: {name: x-1, deletionTimestamp: "2026-11-01T10:00:00Z"}, status: {phase: Running, containerStatuses: [{name: main, state: {terminated: {exitCode: 143}}}]}}`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := test.object
			if text == "" {
				text = "status: {}"
			}
			e := evidence{object: object(t, "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x, namespace: ns, uid: u}\n"+text), events: test.events, now: diagnosed,
				owners: map[types.UID]bool{"rs": true}}
			for _, p := range test.pods {
				e.pods = append(e.pods, pod(t, p))
			}
			cause, ok := diagnose(e)
			if cause.Code != test.code || ok != (test.code != "") {
				t.Fatalf("%v %+v", ok, cause)
			}
			for _, w := range test.want {
				if !strings.Contains(cause.String(), w) {
					t.Errorf("the line lacks %q: %s", w, cause)
				}
			}
			if strings.Contains(cause.String(), "\n") {
				t.Errorf("more than one line: %q", cause)
			}
			if (cause.Patience == 0) != (test.now || !ok) {
				t.Errorf("patience %s", cause.Patience)
			}
		})
	}
}

func TestTheCauseThatIsSureComesFirst(t *testing.T) {
	e := evidence{object: object(t, "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}}"), now: diagnosed, pods: []corev1.Pod{
		pod(t, `{metadata: {name: a}, status: {containerStatuses: [{name: main, state: {waiting: {reason: CreateContainerConfigError, message: m}}}]}}`),
		pod(t, `{metadata: {name: b}, status: {containerStatuses: [{name: main, state: {waiting: {reason: InvalidImageName, message: couldn't parse image}}}]}}`)}}
	if c, _ := diagnose(e); c.On != "pod b" {
		t.Errorf("%+v", c)
	}
}
