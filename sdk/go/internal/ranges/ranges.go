// Package ranges says which ordinals were settled in as few numbers as possible.
package ranges

import "slices"

// Range is consecutive ordinals; both ends belong to it.
type Range struct{ First, Last int64 }

// Of returns the fewest ranges that hold the ordinals, ascending. It sorts what it is given.
func Of(ordinals []int64) []Range {
	slices.Sort(ordinals)
	var found []Range
	for _, ordinal := range ordinals {
		if last := len(found) - 1; last >= 0 && ordinal <= found[last].Last+1 {
			found[last].Last = ordinal
		} else {
			found = append(found, Range{ordinal, ordinal})
		}
	}
	return found
}

// Cut returns the first ranges, at most so many, and the ordinals of the rest. It sorts what it is given.
func Cut(ordinals []int64, maximum int) (now []Range, later []int64) {
	now = Of(ordinals)
	if len(now) <= maximum {
		return now, nil
	}
	rest, _ := slices.BinarySearch(ordinals, now[maximum].First)
	return now[:maximum], slices.Compact(ordinals[rest:])
}
