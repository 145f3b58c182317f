package rollout

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	quantities "k8s.io/apimachinery/pkg/api/resource"

	"github.com/continuo-ml/continuo/resource"
)

const maxLabel = 63

var labelLike = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$`)

// LabelValue is text as a label can hold it: as it is, or a digest of it.
func LabelValue(text string) string {
	if text == "" || len(text) <= maxLabel && labelLike.MatchString(text) {
		return text
	}
	return short(text)
}

func short(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])[:20]
}

// ObjectName names a deployment's objects: its address without the kind, as a DNS label of at most longest characters.
func ObjectName(a resource.Address, longest int) string {
	slug := strings.ReplaceAll("."+a.Slug(), ".deployment.", ".")
	name := strings.NewReplacer(".", "-", "_", "-", "~", "-").Replace(strings.Trim(slug, "."))
	if name == "" || name[0] < 'a' || name[0] > 'z' {
		name = "ml-" + name
	}
	if len(name) > longest {
		name = strings.TrimRight(name[:longest-9], "-") + "-" + short(a.String())[:8]
	}
	return name
}

// Quantity reads an amount that must be above 0.
func Quantity(what, text string) (quantities.Quantity, error) {
	q, err := quantities.ParseQuantity(text)
	if err == nil && q.Sign() <= 0 {
		err = fmt.Errorf("it is not above 0")
	}
	if err != nil {
		return q, fmt.Errorf("%s = %q: %w; write it like \"2\", \"500m\" or \"4Gi\"", what, text, err)
	}
	return q, nil
}

// Seconds rounds up.
func Seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// PullSecrets names secrets as pods do.
func PullSecrets(names []string) []corev1.LocalObjectReference {
	var out []corev1.LocalObjectReference
	for _, n := range names {
		out = append(out, corev1.LocalObjectReference{Name: n})
	}
	return out
}

// PullAllowance is what fetching images and models may take, besides the server's own start.
const PullAllowance = 5 * time.Minute
