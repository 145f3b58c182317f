package tabular

import (
	"io"

	"github.com/parquet-go/parquet-go"
)

// A row group is closed at whichever comes first, so that neither many rows nor long ones are held in memory. Both depend only on the data,
// as the bytes of a split file must.
const (
	groupRows  = 100_000
	groupBytes = 64 << 20
)

// parquetWriter writes rows under the schema of the file that they come from.
type parquetWriter struct {
	w     *parquet.Writer
	rows  int
	bytes int
	one   [1]parquet.Row
}

func newParquetWriter(w io.Writer, schema *parquet.Schema) (*parquetWriter, error) {
	p := &parquetWriter{}
	err := guard(func() error {
		// The creator is fixed: the library's own would put its version, and so its every release, into the digest.
		p.w = parquet.NewWriter(w, schema, parquet.Compression(&parquet.Snappy), parquet.CreatedBy("continuo", "1", "0"))
		return nil
	})
	return p, err
}

func (p *parquetWriter) write(row parquet.Row) error {
	p.one[0] = row
	for _, v := range row {
		p.bytes += 8
		if k := v.Kind(); k == parquet.ByteArray || k == parquet.FixedLenByteArray {
			p.bytes += len(v.ByteArray())
		}
	}
	p.rows++
	return guard(func() error {
		if _, err := p.w.WriteRows(p.one[:]); err != nil {
			return err
		}
		if p.rows < groupRows && p.bytes < groupBytes {
			return nil
		}
		p.rows, p.bytes = 0, 0
		return p.w.Flush()
	})
}

func (p *parquetWriter) close() error {
	return guard(p.w.Close)
}
