package kube

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// The codes of a [Cause].
const (
	CauseImage         = "image_pull"
	CauseCrash         = "crash_loop"
	CauseExit          = "exited"
	CauseMemory        = "out_of_memory"
	CauseUnschedulable = "unschedulable"
	CauseQuota         = "quota"
	CauseConfig        = "missing_config"
	CauseAccount       = "missing_service_account"
	CauseForbidden     = "forbidden"
	CauseTerminating   = "terminating_namespace"
	CauseVolume        = "volume"
	CauseEvicted       = "evicted"
	CauseProbe         = "not_ready"
	CauseFailed        = "failed"
)

// Cause is why an object's pods cannot work, in one line.
type Cause struct {
	Code    string
	On      string // "pod x", "replicaset y"
	Message string // in the words of who knows: the registry, the scheduler, the program's last line
	// Patience is how long the cause may last before it is believed: a scheduler may find a node, a crash may not come again.
	Patience time.Duration

	container string // whose log says more; previous: of the instance before
	previous  bool
	pod       string
}

// String is the whole line.
func (c Cause) String() string { return c.On + ": " + c.Message }

// evidence is all that a diagnosis rests on.
type evidence struct {
	object *unstructured.Unstructured
	pods   []corev1.Pod
	events []corev1.Event
	owners map[types.UID]bool // what stands between the object and its pods; nil = not known
	now    time.Time
}

// staleEvent is the age from which an event says nothing of the present.
const staleEvent = 5 * time.Minute

// diagnose finds the most telling cause. It is pure.
func diagnose(e evidence) (Cause, bool) {
	for _, look := range []func(evidence) (Cause, bool){containers, unscheduled, podEvents, creation, objectConditions, probes} {
		if c, ok := look(e); ok {
			c.Message = firstLine(c.Message, c.Code)
			return c, true
		}
	}
	return Cause{}, false
}

// containers looks at what the kubelet says of each container.
func containers(e evidence) (Cause, bool) {
	var found []Cause
	for _, pod := range e.pods {
		if pod.DeletionTimestamp != nil {
			continue
		}
		if c, ok := podReason(pod); ok {
			found = append(found, c)
			continue
		}
		for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			if c, ok := ofContainer(e, pod, s); ok {
				c.On, c.pod, c.container = "pod "+pod.Name, pod.Name, s.Name
				found = append(found, c)
			}
		}
	}
	return first(found)
}

// first is the cause that is believed soonest; among equals the first in the order of the pods.
func first(found []Cause) (Cause, bool) {
	if len(found) == 0 {
		return Cause{}, false
	}
	return slices.MinFunc(found, func(a, b Cause) int { return int(a.Patience/time.Second) - int(b.Patience/time.Second) }), true
}

// podReason is what befell a pod as a whole.
func podReason(pod corev1.Pod) (Cause, bool) {
	if pod.Status.Phase != corev1.PodFailed || pod.Status.Reason == "" {
		return Cause{}, false
	}
	return Cause{Code: CauseEvicted, On: "pod " + pod.Name, Message: strings.TrimSpace(pod.Status.Reason + ": " + pod.Status.Message), Patience: time.Minute}, true
}

func ofContainer(e evidence, pod corev1.Pod, s corev1.ContainerStatus) (Cause, bool) {
	if t := s.State.Terminated; t != nil && t.ExitCode != 0 {
		c := ended(s, t)
		if pod.Spec.RestartPolicy != corev1.RestartPolicyNever && c.Code == CauseExit {
			c.Code = CauseCrash
			if s.RestartCount < 2 {
				c.Patience = time.Minute
			}
		}
		return c, true
	}
	w := s.State.Waiting
	if w == nil {
		return Cause{}, false
	}
	switch w.Reason {
	case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable", "ImageInspectError":
		message := pullMessage(e, pod, s, w)
		c := Cause{Code: CauseImage, Message: fmt.Sprintf("image %s: %s", longDigest.ReplaceAllString(s.Image, "$1…"), message), Patience: 30 * time.Second}
		if hopeless.MatchString(message) {
			c.Patience = 0
		}
		if refused.MatchString(message) {
			c.Message += "; name a Secret with credentials for the registry in image_pull_secrets"
		}
		return c, true
	case "CrashLoopBackOff":
		t := s.LastTerminationState.Terminated
		if t == nil {
			return Cause{Code: CauseCrash, Message: fmt.Sprintf("container %s: %s", s.Name, w.Message), Patience: time.Minute}, true
		}
		c := ended(s, t)
		c.previous = true
		if c.Code == CauseExit {
			c.Code = CauseCrash
		}
		if s.RestartCount < 2 && c.Code == CauseCrash {
			c.Patience = time.Minute
		}
		return c, true
	case "CreateContainerConfigError":
		return Cause{Code: CauseConfig, Message: fmt.Sprintf("container %s: %s", s.Name, w.Message), Patience: 20 * time.Second}, true
	case "CreateContainerError", "RunContainerError":
		return Cause{Code: CauseCrash, Message: fmt.Sprintf("container %s cannot start: %s", s.Name, w.Message), Patience: 20 * time.Second}, true
	}
	return Cause{}, false
}

// hopeless are a registry's answers that no waiting mends.
var hopeless = regexp.MustCompile(`(?i)not found|manifest unknown|name unknown|unauthorized|denied|forbidden|invalid reference|couldn't parse|no match for platform`)

// refused are those that credentials may mend.
var refused = regexp.MustCompile(`(?i)\b40[13]\b|unauthorized|denied|forbidden`)

// longDigest is a digest of which a person needs only the beginning.
var longDigest = regexp.MustCompile(`(sha256:[0-9a-f]{7})[0-9a-f]{57}`)

// around is what a container runtime says around the registry's answer.
var around = regexp.MustCompile(`^pulling from host \S+ failed with status code \[[^\]]*\]: `)

// pullMessage is the registry's own message: newer kubelets keep it in the state, older ones only in an event.
func pullMessage(e evidence, pod corev1.Pod, s corev1.ContainerStatus, w *corev1.ContainerStateWaiting) string {
	message := w.Message
	if !strings.Contains(message, "rpc error") && !strings.Contains(message, "failed to") {
		for _, ev := range e.events {
			if ev.InvolvedObject.UID == pod.UID && ev.Reason == "Failed" && strings.Contains(ev.Message, s.Image) && strings.Contains(ev.Message, "ailed to pull") {
				message = ev.Message
			}
		}
	}
	// "rpc error: code = NotFound desc = failed to pull and unpack image …: REAL": who reads wants the end of it.
	if _, desc, ok := strings.Cut(message, " desc = "); ok {
		message = desc
	}
	message = strings.TrimPrefix(strings.TrimSpace(message), fmt.Sprintf("failed to pull and unpack image %q: ", s.Image))
	message = strings.TrimPrefix(message, fmt.Sprintf("failed to resolve reference %q: ", s.Image))
	message = longDigest.ReplaceAllString(around.ReplaceAllString(message, ""), "$1…")
	return firstLine(message, w.Reason)
}

func ended(s corev1.ContainerStatus, t *corev1.ContainerStateTerminated) Cause {
	if t.Reason == "OOMKilled" {
		return Cause{Code: CauseMemory, Message: fmt.Sprintf("container %s was killed for want of memory (exit code %d): raise resources.memory", s.Name, t.ExitCode)}
	}
	message := fmt.Sprintf("container %s exited with %d", s.Name, t.ExitCode)
	if t.Signal != 0 {
		message = fmt.Sprintf("container %s was ended by signal %d", s.Name, t.Signal)
	}
	if last := firstLine(t.Message, ""); last != "" {
		message += ": " + last
	}
	return Cause{Code: CauseExit, Message: message}
}

// unscheduled passes on what the scheduler says.
func unscheduled(e evidence) (Cause, bool) {
	for _, pod := range e.pods {
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
				return Cause{Code: CauseUnschedulable, On: "pod " + pod.Name, Message: "no node takes it: " + c.Message, Patience: time.Minute}, true
			}
		}
	}
	return Cause{}, false
}

// podEvents looks at pods that wait for a volume or a sandbox: their status does not say so.
func podEvents(e evidence) (Cause, bool) {
	for _, pod := range e.pods {
		if pod.Status.Phase != corev1.PodPending {
			continue
		}
		for _, ev := range e.events {
			if ev.InvolvedObject.UID != pod.UID || old(ev, e.now) {
				continue
			}
			c := Cause{Code: CauseVolume, On: "pod " + pod.Name, Message: ev.Message, Patience: 30 * time.Second}
			switch ev.Reason {
			case "FailedMount", "FailedAttachVolume":
				if missingConfig.MatchString(ev.Message) {
					c.Code, c.Patience = CauseConfig, 20*time.Second
				}
				return c, true
			case "FailedCreatePodSandBox":
				c.Code, c.Patience = CauseFailed, time.Minute
				return c, true
			}
		}
	}
	return Cause{}, false
}

var missingConfig = regexp.MustCompile(`(?i)(secret|configmap) "[^"]*" not found|references non-existent (secret|config) key`)

// trainerFailed is Kubeflow Trainer's event of a TrainJob whose JobSet is refused.
const trainerFailed = "TrainJobResourcesCreationFailed"

// creation looks at why a controller could not make pods.
func creation(e evidence) (Cause, bool) {
	for _, ev := range e.events {
		// What Trainer could not make does not say that it was made since; pods do.
		if ev.Reason != "FailedCreate" && (ev.Reason != trainerFailed || len(e.pods) > 0) || old(ev, e.now) || !e.concerns(ev) {
			continue
		}
		return refusal(strings.ToLower(ev.InvolvedObject.Kind)+" "+ev.InvolvedObject.Name, ev.Message), true
	}
	for _, c := range conditions(e.object) {
		if c.kind == "ReplicaFailure" && c.status == "True" {
			return refusal(strings.ToLower(e.object.GetKind())+" "+e.object.GetName(), c.message), true
		}
	}
	return Cause{}, false
}

// refusal sorts the API server's reasons for not taking a pod.
func refusal(on, message string) Cause {
	message = strings.TrimPrefix(strings.TrimPrefix(message, "(combined from similar events): "), "Error creating: ")
	message = strings.TrimPrefix(message, "TrainJob resources reconciliation failed: ")
	c := Cause{Code: CauseForbidden, On: on, Message: message, Patience: 20 * time.Second}
	switch {
	case strings.Contains(message, "being terminated"):
		c.Code, c.Patience = CauseTerminating, 0
	case strings.Contains(message, "quota"):
		c.Code = CauseQuota
	case strings.Contains(message, "error looking up service account"), strings.Contains(message, "serviceaccount"):
		c.Code = CauseAccount
	}
	return c
}

// concerns reports whether an event is about the object or what it owns.
func (e evidence) concerns(ev corev1.Event) bool {
	uid := ev.InvolvedObject.UID
	if uid == e.object.GetUID() || e.owners[uid] {
		return true
	}
	return e.owners == nil && strings.HasPrefix(ev.InvolvedObject.Name, e.object.GetName()+"-")
}

// objectConditions is the object's own word, when there is no better one.
func objectConditions(e evidence) (Cause, bool) {
	r := Ready(e.object)
	if !r.Failed {
		return Cause{}, false
	}
	return Cause{Code: CauseFailed, On: strings.ToLower(e.object.GetKind()) + " " + e.object.GetName(), Message: r.Message}, true
}

// probes tells what a running container that does not become ready answers to its probe. It may still become ready.
func probes(e evidence) (Cause, bool) {
	for _, pod := range e.pods {
		for _, ev := range e.events {
			if ev.InvolvedObject.UID == pod.UID && ev.Reason == "Unhealthy" && !old(ev, e.now) {
				return Cause{Code: CauseProbe, On: "pod " + pod.Name, Message: ev.Message, Patience: time.Hour}, true
			}
		}
	}
	return Cause{}, false
}

func old(ev corev1.Event, now time.Time) bool {
	at := ev.LastTimestamp.Time
	if ev.Series != nil && ev.Series.LastObservedTime.After(at) {
		at = ev.Series.LastObservedTime.Time
	}
	if at.IsZero() {
		at = ev.EventTime.Time
	}
	return now.Sub(at) > staleEvent
}
