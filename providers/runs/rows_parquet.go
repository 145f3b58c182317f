package runs

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/parquet-go/parquet-go"
)

// guard turns a panic of the Parquet library on a damaged file into an error.
func guard(path string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("read %s: damaged Parquet: %v", path, p)
		}
	}()
	return f()
}

func (r *tableReader) openParquet(f *os.File) error {
	return guard(r.path, func() error {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		file, err := parquet.OpenFile(f, info.Size())
		if err != nil {
			return err
		}
		r.schema = file.Schema()
		r.rows = parquet.NewReader(file, r.schema)
		r.closes = append(r.closes, r.rows.Close)
		return nil
	})
}

func (r *tableReader) copyParquet(w *tableWriter, n int64) (copied int64, err error) {
	err = guard(r.path, func() error {
		buf := make([]parquet.Row, 256)
		for n < 0 || copied < n {
			want := int64(len(buf))
			if n >= 0 {
				want = min(want, n-copied)
			}
			got, err := r.rows.ReadRows(buf[:want])
			if got > 0 {
				if _, err := w.parquet.WriteRows(buf[:got]); err != nil {
					return err
				}
				copied += int64(got)
			}
			if errors.Is(err, io.EOF) || err == nil && got == 0 {
				return nil
			}
			if err != nil {
				return fmt.Errorf("read %s: %w", r.path, err)
			}
		}
		return nil
	})
	return copied, err
}
