package tabular

import "github.com/parquet-go/parquet-go"

// parquetRows is the rows of a batch as the file holds them, from which split files are written.
type parquetRows []parquet.Row
