// Package reconnecting says how long to wait before the broker is tried again.
package reconnecting

import (
	"math"
	"time"
)

const (
	first   = 100 * time.Millisecond
	longest = 10 * time.Second
)

// Wait returns the wait before the n-th try in a row, n from 1, by chance from 0 to 1.
//
// It is min(10 s, 0.1 s · 2^(n−1)) · (1 + chance) / 2: half of it by chance, so that many clients that lost one broker do not all
// come back at once.
func Wait(n int, chance float64) time.Duration {
	whole := math.Min(float64(longest), float64(first)*math.Pow(2, float64(n-1)))
	return time.Duration(whole * (1 + chance) / 2)
}
