package certes

import (
	"bufio"
	"crypto/rand"
	"sync"

	"github.com/google/uuid"
)

// idSource makes UUIDv7s, which are the cheapest ids for the broker. The zero value is ready, and safe for concurrent use.
type idSource struct {
	mu sync.Mutex
	// Chance is read ahead, since asking the system for it costs more than the rest of an id.
	chance *bufio.Reader
}

func (s *idSource) next() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.chance == nil {
		s.chance = bufio.NewReader(rand.Reader)
	}
	return uuid.Must(uuid.NewV7FromReader(s.chance)).String()
}
