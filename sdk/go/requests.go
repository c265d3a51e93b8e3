package certes

import (
	"sync"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
	"github.com/hookactions/certes-sdk/go/internal/coalescing"
)

// request is events that go together, from the first try to the last.
type request struct {
	id     string
	order  uint64 // of the first try
	events []*event
	tries  int       // so far
	due    time.Time // when it may be sent again
}

// accept gives each event of a request its receipt.
func (r *request) accept(accepted *certesv1.PublishStreamResponse_Accepted) {
	if results := accepted.GetResults(); len(results) == len(r.events) {
		for i, e := range r.events {
			if e.named {
				e.result.Duplicate, e.result.Name = results[i].GetDuplicate(), results[i].GetName()
			}
		}
	}
}

// encodeRequest puts a request together.
func encodeRequest(r *request) outgoingWire {
	size := protowire.SizeTag(requestID) + protowire.SizeBytes(len(r.id)) + 2
	results := false
	for _, e := range r.events {
		size += len(e.wire)
		results = results || e.named
	}
	buffer := requestBuffers.Get(size)
	wire := appendText((*buffer)[:0], requestID, r.id)
	for _, e := range r.events {
		wire = append(wire, e.wire...)
	}
	if results {
		wire = protowire.AppendVarint(protowire.AppendTag(wire, requestReturnResults, protowire.VarintType), 1)
	}
	*buffer = wire
	return outgoingWire{mem.NewBuffer(buffer, requestBuffers)}
}

// requestBuffers are used again once gRPC has written them. Its own pool zeroes what it gives out, which here is written over anyway.
var requestBuffers = &bufferPool{}

type bufferPool struct{ pool sync.Pool }

// Get returns a buffer with room for so many bytes, and none in it.
func (p *bufferPool) Get(size int) *[]byte {
	if buffer, ok := p.pool.Get().(*[]byte); ok && cap(*buffer) >= size {
		return buffer
	}
	buffer := make([]byte, 0, size)
	return &buffer
}

// Put takes a buffer back.
func (p *bufferPool) Put(buffer *[]byte) {
	if cap(*buffer) <= 2*coalescing.RequestBytes {
		*buffer = (*buffer)[:0]
		p.pool.Put(buffer)
	}
}
