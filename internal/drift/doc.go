// Package drift says whether two samples of one column come from the same
// population, and whether a data set as a whole has moved.
//
// Compare takes a reference and a current [Sample] and returns a [Result]: the
// statistic, its p-value where the method is a test, the threshold and the
// verdict. Dataset folds results into a [Report]; Correct accounts for many
// tests at once.
//
// Definitions and defaults follow Evidently 0.7 and SciPy, so that numbers can
// be checked against them; where we depart, the method's comment says so.
// Everything here is a pure function: no files, no clock, no random numbers,
// and samples are never modified. Equal input gives equal output, whatever the
// order of the rows.
package drift
