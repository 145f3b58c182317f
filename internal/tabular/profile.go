package tabular

// Profile describes a table without its rows: JSON-serialisable, of bounded size, and with sketches that merge, so that whoever has
// the profiles of parts can make that of the whole. Equal rows in equal order give equal bytes.
type Profile struct {
	Rows    int64           `json:"rows"`
	Columns []ColumnProfile `json:"columns"`
}

// Column returns the profile of the column named name, or nil.
func (p *Profile) Column(name string) *ColumnProfile {
	for i := range p.Columns {
		if p.Columns[i].Name == name {
			return &p.Columns[i]
		}
	}
	return nil
}

// ColumnProfile describes one column. Min to Quantiles are of the finite values of a numeric type (bools as 0 and 1, timestamps as Unix
// seconds), and nil for text and for columns without a value.
type ColumnProfile struct {
	Name     string `json:"name"`
	Type     Type   `json:"type"`
	Count    int64  `json:"count"` // non-null values
	Nulls    int64  `json:"nulls"`
	Invalid  int64  `json:"invalid,omitempty"` // values that are not of the declared type; in neither Count nor Nulls
	Infinite int64  `json:"infinite,omitempty"`
	// Distinct counts the spellings of values: exact up to 1,000, then HyperLogLog with 1.6 % standard error.
	Distinct  int64      `json:"distinct"`
	Min       *float64   `json:"min,omitempty"`
	Max       *float64   `json:"max,omitempty"`
	Mean      *float64   `json:"mean,omitempty"`
	Std       *float64   `json:"std,omitempty"` // of a sample (n−1); nil below two values
	Quantiles []Quantile `json:"quantiles,omitempty"`
	// Top is the most frequent values, at most 100, by falling count and then by value. A count may be too low by TopError, and a value that
	// is not listed occurs at most TopError times. Numeric columns of more than 1,000 spellings have none.
	Top      []ValueCount `json:"top,omitempty"`
	TopError int64        `json:"top_error,omitempty"`
	// HLL and TDigest are the sketches in Apache DataSketches' format, which its libraries merge.
	HLL     []byte `json:"hll,omitempty"`
	TDigest []byte `json:"tdigest,omitempty"`
}

// Quantile is the value at rank Q of 0 to 1, right within one percent of rank.
type Quantile struct {
	Q     float64 `json:"q"`
	Value float64 `json:"value"`
}

// ValueCount is how often a value occurs.
type ValueCount struct {
	Value string `json:"value"`
	Count int64  `json:"count"`
}

// profileRanks are the quantiles that a profile lists; the sketch answers any other.
var profileRanks = [...]float64{0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99}

const (
	topKept = 100
	hllLogK = 12
	digestK = 500 // a rank is right within 1 %, measured up to a million values; about 10 KB a column
	// pendingCap is the buffer of a digest of digestK.
	pendingCap = 4 * (2*digestK + 10)
	topCap     = 1000
	topLength  = 256 // bytes of a value that are kept to name it
)
