package certes

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// wireCodec lets the two streams handle bytes themselves: requests are put together of events that were encoded by their callers, and
// batches are taken apart without a message for each part. All else is as usual.
type wireCodec struct{ encoding.CodecV2 }

// outgoingWire is a request in its wire form. It is handed over to gRPC.
type outgoingWire struct{ buffer mem.Buffer }

// incomingWire is an answer in its wire form, with memory of its own.
type incomingWire struct{ bytes []byte }

func newWireCodec() wireCodec { return wireCodec{encoding.GetCodecV2(proto.Name)} }

// Marshal returns the wire form of a message.
func (c wireCodec) Marshal(message any) (mem.BufferSlice, error) {
	if wire, ok := message.(outgoingWire); ok {
		return mem.BufferSlice{wire.buffer}, nil
	}
	return c.CodecV2.Marshal(message)
}

// Unmarshal reads a message from its wire form.
func (c wireCodec) Unmarshal(data mem.BufferSlice, message any) error {
	if wire, ok := message.(*incomingWire); ok {
		// Not pooled: events are parts of it, for as long as their handlers keep them.
		wire.bytes = data.Materialize()
		return nil
	}
	return c.CodecV2.Unmarshal(data, message)
}
