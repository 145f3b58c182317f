package pods

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/resource"
)

// The labels on everything that this provider makes. The whole address, which a label cannot hold, is an annotation of that name.
const (
	LabelRun     = "continuo.dev/run"
	LabelAddress = "continuo.dev/address"
	LabelProject = "continuo.dev/project"
	labelStage   = "continuo.dev/stage"
)

const maxLabel = 63

// objectName names the object of a stage: the same one for the same run, whoever asks. The address in front is for people.
func objectName(addr resource.Address, runID string, maxName int) string {
	id := strings.ToLower(runID)
	id = strings.ReplaceAll(id, ".", "-")
	if !nameLike.MatchString(id) || len(id) > maxName-4 {
		id = Short(runID)
	}
	slug := strings.Trim(addr.Slug(), "-")
	room := maxName - 1 - len(id)
	if len(slug) > room {
		slug = strings.TrimRight(slug[:room], "-.")
	}
	if slug = strings.ReplaceAll(slug, ".", "-"); slug == "" || slug[0] < 'a' || slug[0] > 'z' {
		slug = "ml"
	}
	return slug + "-" + id
}

var (
	nameLike  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	labelLike = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$`)
)

// LabelValue is text as a label can hold it: as it is, or with a digest in the place of what does not fit.
func LabelValue(text string) string {
	if text == "" || len(text) <= maxLabel && labelLike.MatchString(text) {
		return text
	}
	return Short(text)
}

// Short is a name for a text that cannot be one: 20 hex digits of its digest.
func Short(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])[:20]
}

func uidOf(r kube.Ref) types.UID { return types.UID(r.UID) }
