package tabular

import "time"

// MinMax bounds a value; nil means no bound on that side.
type MinMax struct {
	Min, Max *float64
}

// Expectation is a named set of rules about a table. Every rule that is set is judged; a rule about a column that the table lacks fails.
type Expectation struct {
	Name     string
	Severity string // as configured; empty means "error"

	NotNull []string            // these columns have no null; "*" means all
	Unique  []string            // these columns together are a key; rows with a null among them are not compared; "*" is the whole row
	InSet   map[string][]string // by column: the allowed values, by text, or by number in a numeric column
	Matches map[string]string   // by column: an RE2 expression found in every value (anchor it with ^ and $ to match the whole)
	Range   map[string][2]*float64
	Columns []string // exactly these columns, in any order
	Type    map[string]Type

	RowCount      *MinMax
	Mean          map[string]MinMax
	NullShare     map[string]float64 // by column: the largest share of nulls, 0 to 1
	DistinctCount map[string]MinMax  // as in ColumnProfile.Distinct
	MaxDuplicates *int               // rows that repeat an earlier row
	NoOverlap     []string           // these columns together never occur on two splits; "*" is the whole row
	Freshness     *Freshness
}

// Freshness asks that the newest value of a timestamp column is at most Max before ScanOptions.Now.
type Freshness struct {
	Column string
	Max    time.Duration
}

// ColumnRule is what a dataset declares of one column. The column must exist.
type ColumnRule struct {
	Name     string
	Type     Type // empty: inferred
	Range    [2]*float64
	Nullable *bool    // false: no nulls
	Values   []string // when not nil: the allowed values
	Unique   bool
	Severity string // empty means "error"
}

// Finding is one rule that does not hold.
type Finding struct {
	Expectation string      `json:"expectation"` // its name, or "column.NAME" for a declared column
	Rule        string      `json:"rule"`
	Column      string      `json:"column,omitempty"` // columns of a composite key are joined with ", "
	Severity    string      `json:"severity"`
	Count       int64       `json:"count"` // offending rows; 1 where the table as a whole offends
	Samples     []SampleRow `json:"samples,omitempty"`
	Message     string      `json:"message"`
}

// SampleRow is one offending row.
type SampleRow struct {
	Row   int64  `json:"row"` // 1-based data row of File
	File  string `json:"file"`
	Value string `json:"value"`
}

const maxSamples = 5
