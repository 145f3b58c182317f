// Package tabular reads CSV, JSON Lines and Parquet files (plain, .gz or .zst) as one table of column batches.
//
// [Open] streams batches, [Load] holds a whole table (sampled above a cap), and [Scan] makes one pass that profiles every column,
// judges expectations and writes the split files. Everything streams: memory is bounded by [Limits], never by the size of a file.
//
// The package never writes to its inputs, never guesses past a value it cannot read, and never trusts a length that a file claims:
// a hostile or damaged file ends in one [*Error] that names the file, the row and the column.
//
// Main types: [Schema], [Batch], [Column], [Table], [Expectation], [Finding], [Profile], [Split].
package tabular
