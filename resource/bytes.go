package resource

import (
	"fmt"
	"strconv"
	"strings"
)

// Bytes renders a size in powers of 1000: "512 B", "12 KB", "1.3 MB".
func Bytes(n int64) string {
	if n < 0 {
		return "-" + Bytes(-n)
	}
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v := float64(n)
	for _, unit := range []string{"KB", "MB", "GB", "TB", "PB", "EB"} {
		if v /= 1000; v < 9.95 {
			return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0") + " " + unit
		}
		if v < 999.5 || unit == "EB" {
			return strconv.FormatFloat(v, 'f', 0, 64) + " " + unit
		}
	}
	return ""
}
