package ranges_test

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/hookactions/certes-sdk/go/internal/ranges"
)

func TestRangesAreThoseOfTheVectors(t *testing.T) {
	content, err := os.ReadFile("../../../../tests/vectors/ranges.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Ranges []struct {
			Ordinals []int64
			Ranges   [][2]int64
		}
		Cut []struct {
			Maximum         int
			Ordinals, Later []int64
			Now             [][2]int64
		}
	}
	if err := json.Unmarshal(content, &vectors); err != nil || len(vectors.Ranges) == 0 || len(vectors.Cut) == 0 {
		t.Fatal("no vectors", err)
	}
	for _, v := range vectors.Ranges {
		if got := ranges.Of(slices.Clone(v.Ordinals)); !slices.EqualFunc(got, v.Ranges, same) {
			t.Errorf("%v are said as %v; wanted %v", v.Ordinals, got, v.Ranges)
		}
	}
	for _, v := range vectors.Cut {
		now, later := ranges.Cut(slices.Clone(v.Ordinals), v.Maximum)
		if !slices.EqualFunc(now, v.Now, same) || !slices.Equal(later, v.Later) {
			t.Errorf("%v are cut into %v and %v; wanted %v and %v", v.Ordinals, now, later, v.Now, v.Later)
		}
	}
}

func same(got ranges.Range, want [2]int64) bool {
	return got == ranges.Range{First: want[0], Last: want[1]}
}
