package drift

import (
	"math"
	"slices"
)

const (
	radixBits    = 11
	radixBuckets = 1 << radixBits
	radixPasses  = (64 + radixBits - 1) / radixBits
	// Below this size clearing the counters costs more than comparing.
	radixMinimum = 2048
)

// sortedCopy returns the numbers in ascending order and leaves its argument
// alone. Numbers must not be NaN. Large samples take a least-significant-digit
// radix sort: sorting dominates ks and wasserstein, and at a million rows it is
// several times faster than comparing.
func sortedCopy(numbers []float64) []float64 {
	if len(numbers) < radixMinimum {
		out := slices.Clone(numbers)
		slices.Sort(out)
		return out
	}
	keys := make([]uint64, len(numbers))
	var counts [radixPasses][radixBuckets]int
	for i, v := range numbers {
		k := orderedBits(v)
		keys[i] = k
		for pass := range radixPasses {
			counts[pass][k>>(pass*radixBits)&(radixBuckets-1)]++
		}
	}
	keys = radixSort(keys, &counts)
	out := make([]float64, len(keys))
	for i, k := range keys {
		out[i] = fromOrderedBits(k)
	}
	return out
}

// radixSort distributes the keys once per digit, lowest digit first. Digits
// that are the same in every key, usual in the exponent, are passed over.
func radixSort(keys []uint64, counts *[radixPasses][radixBuckets]int) []uint64 {
	other := make([]uint64, len(keys))
	for pass := range radixPasses {
		shift := pass * radixBits
		starts := &counts[pass]
		if starts[keys[0]>>shift&(radixBuckets-1)] == len(keys) {
			continue
		}
		sum := 0
		for i, n := range starts {
			starts[i] = sum
			sum += n
		}
		for _, k := range keys {
			digit := k >> shift & (radixBuckets - 1)
			other[starts[digit]] = k
			starts[digit]++
		}
		keys, other = other, keys
	}
	return keys
}

// orderedBits maps numbers to integers of the same order (IEEE 754: flip the
// sign bit of positive numbers and every bit of negative ones). That puts -0
// before 0, which are equal to every reader.
func orderedBits(v float64) uint64 {
	bits := math.Float64bits(v)
	if bits>>63 != 0 {
		return ^bits
	}
	return bits | 1<<63
}

// fromOrderedBits undoes orderedBits.
func fromOrderedBits(k uint64) float64 {
	if k>>63 != 0 {
		return math.Float64frombits(k &^ (1 << 63))
	}
	return math.Float64frombits(^k)
}
