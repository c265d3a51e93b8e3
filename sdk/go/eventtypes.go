package certes

import (
	"strconv"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
	"github.com/hookactions/certes-sdk/go/internal/uris"
)

// binding is what a message's descriptor says of its event type.
type binding struct {
	domain   string // in lower case; empty stands for the broker's own
	rest     string // namespace/version/name
	fullName string // of the message
	typeURL  string // in an Any

	// The event URIs that it has been, by the domain of the broker; one for almost everybody.
	types sync.Map // string → string
}

// eventType returns the event URI. brokerDomain is what discovery says, empty where it does not.
func (b *binding) eventType(brokerDomain string) (string, error) {
	domain := b.domain
	if domain == "" {
		domain = brokerDomain
	}
	if found, ok := b.types.Load(domain); ok {
		return found.(string), nil
	}
	if domain == "" {
		return "", newError(codes.InvalidArgument, ReasonNotAnEventType,
			"the file of the message %s names no domain, and the gateway does not say the broker's own", b.fullName).
			hinting("Set the domain in option (certes.v1.schema).")
	}
	parsed, fault := uris.ParseEventType(domain + "/" + b.rest)
	if fault != nil {
		return "", newError(codes.InvalidArgument, ReasonNotAnEventType,
			"the message %s is bound to %q, which is no event URI, %v", b.fullName, domain+"/"+b.rest, fault)
	}
	b.types.Store(domain, parsed.String())
	return parsed.String(), nil
}

// bindings remembers what the descriptors of generated code say; they never change. Those that a program makes as it runs are not kept,
// or they would stay for ever.
var bindings sync.Map // protoreflect.MessageDescriptor → *binding

// bindingOf returns what a message's descriptor says of its event type.
func bindingOf(descriptor protoreflect.MessageDescriptor) (*binding, error) {
	if found, ok := bindings.Load(descriptor); ok {
		return found.(*binding), nil
	}
	event, ok := eventOption(descriptor)
	if !ok {
		return nil, newError(codes.InvalidArgument, ReasonNotAnEventType,
			"the message %s is no event type: it has not the option certes.v1.event", descriptor.FullName()).
			hinting("Add `option (certes.v1.event) = {};` to the message, import certes/v1/options.proto, and generate again.")
	}
	schema, _ := proto.GetExtension(descriptor.ParentFile().Options(), certesv1.E_Schema).(*certesv1.SchemaBinding)
	found := newBinding(descriptor.FullName(), descriptor.ParentFile().Package(), schema, event)
	if known, err := protoregistry.GlobalFiles.FindDescriptorByName(descriptor.FullName()); err == nil && known == descriptor {
		bindings.Store(descriptor, found)
	}
	return found, nil
}

func eventOption(descriptor protoreflect.MessageDescriptor) (*certesv1.EventBinding, bool) {
	options := descriptor.Options()
	if options == nil || !proto.HasExtension(options, certesv1.E_Event) {
		return nil, false
	}
	event, ok := proto.GetExtension(options, certesv1.E_Event).(*certesv1.EventBinding)
	return event, ok
}

// newBinding adds what the options leave out.
func newBinding(message, pkg protoreflect.FullName, schema *certesv1.SchemaBinding, event *certesv1.EventBinding) *binding {
	namespace, version, name := "_", versionOf(pkg), snakeCase(string(message.Name()))
	if schema.GetNamespace() != "" {
		namespace = schema.GetNamespace()
	}
	if schema != nil && schema.Version != nil {
		version = strconv.FormatUint(uint64(schema.GetVersion()), 10)
	}
	if event.GetName() != "" {
		name = event.GetName()
	}
	return &binding{
		domain:   strings.ToLower(schema.GetDomain()),
		rest:     namespace + "/" + version + "/" + name,
		fullName: string(message),
		typeURL:  typeURLPrefix + string(message),
	}
}

// typeURLPrefix is what most implementations put before a message's name in an Any.
const typeURLPrefix = "type.googleapis.com/"

// versionOf returns the number in the last part of a package, such as 2 of my.events.v2; 1 where there is none.
func versionOf(pkg protoreflect.FullName) string {
	digits, ok := strings.CutPrefix(string(pkg.Name()), "v")
	if number, err := strconv.ParseUint(digits, 10, 31); ok && err == nil && number > 0 && digits[0] != '0' {
		return digits
	}
	return "1"
}

// snakeCase turns HTTPRequest into http_request: a capital begins a word after a small letter or a digit, and before a small one.
func snakeCase(name string) string {
	var found strings.Builder
	for i := 0; i < len(name); i++ {
		c := name[i]
		if isCapital(c) {
			after := i > 0 && name[i-1] != '_' && !isCapital(name[i-1])
			before := i > 0 && isCapital(name[i-1]) && i+1 < len(name) && 'a' <= name[i+1] && name[i+1] <= 'z'
			if after || before {
				found.WriteByte('_')
			}
			c += 'a' - 'A'
		}
		found.WriteByte(c)
	}
	return found.String()
}

func isCapital(c byte) bool { return 'A' <= c && c <= 'Z' }
