//go:build unix

package remote

import (
	"fmt"
	"io/fs"
	"syscall"
)

// inode tells a file from its copies.
func inode(info fs.FileInfo) string {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprintf("%d.%d", st.Dev, st.Ino)
	}
	return ""
}
