package certes

import (
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Deliveries are read from the wire form by hand. A generated message would be made only to be copied into a RawEvent and thrown away, at
// three times the cost, with 29 allocations instead of 7 (BenchmarkReadDelivery). What is read is what proto/certes/v1 says of Delivery
// and Event; fields that are not known are passed over, as protobuf wants. A test holds it to the generated code.

// Field numbers of certes.v1.Delivery, Event, Any, RawContent and Timestamp.
const (
	deliveryName, deliveryAttempt, deliveryAcceptTime, deliveryCorrelationIDs, deliveryEvent = 1, 2, 3, 4, 5

	eventID, eventType, eventSource, eventSubject, eventTime, eventData, eventRaw = 1, 2, 3, 4, 5, 6, 7
	eventSubscriber, eventEveryone, eventOrderingKey, eventAttributes             = 8, 9, 10, 11
	eventTraceparent, eventTracestate                                             = 12, 13

	anyTypeURL, anyValue       = 1, 2
	rawContentType, rawBytes   = 1, 2
	timeSeconds, timeNanos     = 1, 2
	mapEntryKey, mapEntryValue = 1, 2
)

var errMalformedDelivery = errors.New("the broker sent a delivery that does not decode")

// readDelivery reads the wire form of a Delivery. Data shares its memory.
func readDelivery(wire []byte) (*RawEvent, error) {
	raw := &RawEvent{}
	var texts texts
	var event []byte
	err := fields(wire, func(number protowire.Number, value []byte, varint uint64) error {
		switch number {
		case deliveryName:
			return texts.put(&raw.Name, value)
		case deliveryAttempt:
			raw.Attempt = int(int32(varint))
		case deliveryAcceptTime:
			return readTime(&raw.AcceptTime, value)
		case deliveryCorrelationIDs:
			return texts.add(&raw.CorrelationIDs, value)
		case deliveryEvent:
			event = value
		}
		return nil
	})
	if err == nil {
		err = readEvent(raw, &texts, event)
	}
	if err != nil {
		return nil, err
	}
	texts.settle()
	return raw, nil
}

func readEvent(raw *RawEvent, texts *texts, wire []byte) error {
	return fields(wire, func(number protowire.Number, value []byte, varint uint64) error {
		switch number {
		case eventID:
			return texts.put(&raw.ID, value)
		case eventType:
			return texts.put(&raw.Type, value)
		case eventSource:
			return texts.put(&raw.Source, value)
		case eventSubject:
			return texts.put(&raw.Subject, value)
		case eventTime:
			return readTime(&raw.Time, value)
		case eventData:
			raw.ContentType, raw.Untyped = contentProtobuf, false
			return fields(value, func(number protowire.Number, value []byte, _ uint64) error {
				switch number {
				case anyTypeURL:
					return texts.put(&raw.DataType, value[lastSlash(value)+1:])
				case anyValue:
					raw.Data = value
				}
				return nil
			})
		case eventRaw:
			raw.Untyped = true
			return fields(value, func(number protowire.Number, value []byte, _ uint64) error {
				switch number {
				case rawContentType:
					return texts.put(&raw.ContentType, value)
				case rawBytes:
					raw.Data = value
				}
				return nil
			})
		case eventSubscriber:
			return texts.put(&raw.Subscriber, value)
		case eventEveryone:
			raw.Everyone = varint != 0
		case eventOrderingKey:
			return texts.put(&raw.OrderingKey, value)
		case eventAttributes:
			return readAttribute(raw, value)
		case eventTraceparent:
			return texts.put(&raw.Traceparent, value)
		case eventTracestate:
			return texts.put(&raw.Tracestate, value)
		}
		return nil
	})
}

func readAttribute(raw *RawEvent, entry []byte) error {
	var key, value string
	err := fields(entry, func(number protowire.Number, text []byte, _ uint64) error {
		switch number {
		case mapEntryKey:
			key = string(text)
		case mapEntryValue:
			value = string(text)
		}
		return nil
	})
	if raw.Attributes == nil {
		raw.Attributes = map[string]string{}
	}
	raw.Attributes[key] = value
	return err
}

func readTime(into *time.Time, wire []byte) error {
	var seconds, nanos int64
	err := fields(wire, func(number protowire.Number, _ []byte, varint uint64) error {
		switch number {
		case timeSeconds:
			seconds = int64(varint)
		case timeNanos:
			nanos = int64(int32(varint))
		}
		return nil
	})
	*into = time.Unix(seconds, nanos).UTC()
	return err
}

func lastSlash(typeURL []byte) int {
	for i := len(typeURL) - 1; i >= 0; i-- {
		if typeURL[i] == '/' {
			return i
		}
	}
	return -1
}

// fields calls visit for each field of a message that is length-delimited or a varint, and passes others over.
func fields(wire []byte, visit func(number protowire.Number, value []byte, varint uint64) error) error {
	for len(wire) > 0 {
		number, kind, n := protowire.ConsumeTag(wire)
		if n < 0 {
			return errMalformedDelivery
		}
		wire = wire[n:]
		var value []byte
		var varint uint64
		switch kind {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(wire)
		case protowire.VarintType:
			varint, n = protowire.ConsumeVarint(wire)
		default:
			n = protowire.ConsumeFieldValue(number, kind, wire)
		}
		if n < 0 {
			return errMalformedDelivery
		}
		wire = wire[n:]
		if kind != protowire.BytesType && kind != protowire.VarintType {
			continue
		}
		if err := visit(number, value[:len(value):len(value)], varint); err != nil {
			return err
		}
	}
	return nil
}

// texts makes strings of many pieces of a message with one allocation, so that they do not keep a whole batch in memory.
type texts struct {
	pieces [16]struct {
		into *string // nil where it belongs to the list
		text []byte
	}
	count  int
	list   *[]string
	listed int
	size   int
}

// put has a piece become a string.
func (t *texts) put(into *string, text []byte) error {
	if !utf8.Valid(text) || t.count == len(t.pieces) {
		return errMalformedDelivery // no text, or fields that came more than once, which no broker does
	}
	t.pieces[t.count].into, t.pieces[t.count].text = into, text
	t.count++
	t.size += len(text)
	return nil
}

// add has a piece become the next string of a list; there is one list.
func (t *texts) add(into *[]string, text []byte) error {
	// Room is left for all other fields. A way through more gateways than that is rare, and may cost more.
	if t.listed == 4 {
		if !utf8.Valid(text) {
			return errMalformedDelivery
		}
		*into = append(*into, string(text))
		return nil
	}
	t.list = into
	t.listed++
	return t.put(nil, text)
}

func (t *texts) settle() {
	var all strings.Builder
	all.Grow(t.size)
	var list []string
	if t.list != nil {
		list = make([]string, 0, t.listed+len(*t.list))
	}
	for _, piece := range t.pieces[:t.count] {
		begin := all.Len()
		all.Write(piece.text)
		if piece.into == nil {
			list = append(list, all.String()[begin:])
		} else {
			*piece.into = all.String()[begin:]
		}
	}
	if t.list != nil {
		*t.list = append(list, *t.list...)
	}
}
