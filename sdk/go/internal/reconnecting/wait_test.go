package reconnecting_test

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/hookactions/certes-sdk/go/internal/reconnecting"
)

func TestWaitsAreThoseOfTheVectors(t *testing.T) {
	content, err := os.ReadFile("../../../../tests/vectors/reconnecting.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Waits []struct {
			Try          int
			Chance, Wait float64
		}
	}
	if err := json.Unmarshal(content, &vectors); err != nil || len(vectors.Waits) == 0 {
		t.Fatal("no vectors", err)
	}
	for _, v := range vectors.Waits {
		if got := reconnecting.Wait(v.Try, v.Chance).Seconds(); math.Abs(got-v.Wait) > 1e-6 {
			t.Errorf("before try %d at chance %v it waits %v s; wanted %v", v.Try, v.Chance, got, v.Wait)
		}
	}
}
