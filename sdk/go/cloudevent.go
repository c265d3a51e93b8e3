package certes

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	"github.com/hookactions/certes-sdk/go/internal/uris"
)

// readCloudEvent reads a webhook: a CloudEvent 1.0 in JSON, structured or binary. The error is PAYLOAD_MALFORMED.
//
// Sources: JSON Event Format for CloudEvents 1.0.2; HTTP Protocol Binding for CloudEvents 1.0.2, 3.1 and 3.2.
func readCloudEvent(header http.Header, body []byte) (*RawEvent, *Error) {
	contentType := header.Get("Content-Type")
	kind, _, _ := mime.ParseMediaType(contentType)
	var raw *RawEvent
	var err error
	switch {
	case kind == "application/cloudevents+json":
		raw, err = readStructured(body)
	case header.Get("Ce-Specversion") != "":
		raw, err = readBinary(header, contentType, body)
	default:
		err = fmt.Errorf("it is neither application/cloudevents+json, nor has it ce- headers; its content type is %q", contentType)
	}
	if err != nil {
		return nil, newError(codes.InvalidArgument, ReasonPayloadMalformed, "the webhook is no CloudEvent: %v", err)
	}
	return raw, nil
}

func readStructured(body []byte) (*RawEvent, error) {
	if !utf8.Valid(body) {
		return nil, fmt.Errorf("its body is not UTF-8") // which package json would not mind
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return nil, fmt.Errorf("its body is no JSON object: %v", err)
	}
	if members == nil {
		return nil, fmt.Errorf("its body is null")
	}
	raw := &RawEvent{ContentType: contentJSON}
	data, hasData := members["data"]
	encoded, hasEncoded := members["data_base64"]
	delete(members, "data")
	delete(members, "data_base64")
	attributes := map[string]string{}
	for name, value := range members {
		text, present, err := attributeText(name, value)
		if err != nil {
			return nil, err
		}
		if present {
			attributes[name] = text
		}
	}
	if contentType, ok := attributes["datacontenttype"]; ok {
		raw.ContentType = contentType
	}
	switch {
	case hasEncoded:
		var text string
		content, err := []byte(nil), json.Unmarshal(encoded, &text)
		if err == nil {
			content, err = base64.StdEncoding.DecodeString(text)
		}
		if err != nil {
			return nil, fmt.Errorf("its data_base64 is no base64")
		}
		raw.Data = content
	case hasData:
		raw.Data = data
	}
	raw.Untyped = !isJSON(raw.ContentType)
	return raw, readAttributes(raw, attributes)
}

// attributeText returns an attribute as a text; null counts as absent.
func attributeText(name string, value json.RawMessage) (text string, present bool, err error) {
	switch value = bytes.TrimSpace(value); value[0] {
	case '"':
		err = json.Unmarshal(value, &text)
		return text, true, err
	case 'n':
		return "", false, nil
	case '{', '[':
		return "", false, fmt.Errorf("its attribute %s is no text, number or boolean", name)
	}
	if name == "id" || name == "source" || name == "type" || name == "specversion" {
		return "", false, fmt.Errorf("its attribute %s is no text", name)
	}
	return string(value), true, nil
}

func readBinary(header http.Header, contentType string, body []byte) (*RawEvent, error) {
	if isStructured(body) {
		return nil, fmt.Errorf("it has ce- headers, and its body is an event of its own")
	}
	attributes := map[string]string{}
	for name, values := range header {
		attribute, ok := strings.CutPrefix(strings.ToLower(name), "ce-")
		if !ok {
			continue
		}
		if len(values) != 1 {
			return nil, fmt.Errorf("its header %s came more than once", name)
		}
		text, err := url.PathUnescape(values[0])
		if err != nil || !utf8.ValidString(text) {
			return nil, fmt.Errorf("its header %s is not percent-encoded UTF-8", name)
		}
		attributes[attribute] = text
	}
	raw := &RawEvent{ContentType: contentType, Data: body, Untyped: !isJSON(contentType)}
	if !raw.Untyped && !(utf8.Valid(body) && json.Valid(body)) {
		return nil, fmt.Errorf("its body is no JSON")
	}
	return raw, readAttributes(raw, attributes)
}

// isStructured says whether a body is a whole event. The signature does not cover headers: whoever has caught an event could else send it
// again with its body as the data of another.
func isStructured(body []byte) bool {
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil {
		return false
	}
	version := bytes.TrimSpace(members["specversion"])
	return len(version) > 0 && version[0] == '"'
}

// readAttributes puts attributes where they belong. Those that have no place are the event's own.
func readAttributes(raw *RawEvent, attributes map[string]string) error {
	if attributes["specversion"] != "1.0" {
		return fmt.Errorf("its specversion is %q, and not 1.0", attributes["specversion"])
	}
	for name, into := range map[string]*string{
		"id": &raw.ID, "source": &raw.Source, "type": &raw.Type, "subject": &raw.Subject, "subscriber": &raw.Subscriber,
		"orderingkey": &raw.OrderingKey, "traceparent": &raw.Traceparent, "tracestate": &raw.Tracestate,
	} {
		*into = attributes[name]
		delete(attributes, name)
	}
	for name, text := range map[string]string{"id": raw.ID, "source": raw.Source} {
		if text == "" {
			return fmt.Errorf("it has no %s", name)
		}
	}
	parsed, fault := uris.ParseEventType(raw.Type)
	if fault != nil {
		return fmt.Errorf("its type %q is no event URI, %v", raw.Type, fault)
	}
	raw.Type = parsed.String()
	raw.Everyone = attributes["everyone"] == "true"
	if text, ok := attributes["time"]; ok {
		when, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return fmt.Errorf("its time %q is none of RFC 3339", text)
		}
		raw.Time = when.UTC()
	}
	for _, name := range []string{"specversion", "everyone", "time", "datacontenttype", "dataschema"} {
		delete(attributes, name)
	}
	if len(attributes) > 0 {
		raw.Attributes = attributes
	}
	return nil
}
