package certes

import (
	"log/slog"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
)

// messageType makes a message with one field, string note = 1, as a user's own .proto would.
func messageType(t testing.TB, pkg, name string, schema *certesv1.SchemaBinding, event *certesv1.EventBinding) protoreflect.MessageType {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{
		Name:   proto.String("test/" + pkg + "/" + name + ".proto"),
		Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{
			Name: proto.String(name),
			Field: []*descriptorpb.FieldDescriptorProto{{
				Name:     proto.String("note"),
				JsonName: proto.String("note"),
				Number:   proto.Int32(1),
				Type:     descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
				Label:    descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			}},
		}},
	}
	if pkg != "" {
		file.Package = proto.String(pkg)
	}
	if schema != nil {
		file.Options = &descriptorpb.FileOptions{}
		proto.SetExtension(file.Options, certesv1.E_Schema, schema)
	}
	if event != nil {
		file.MessageType[0].Options = &descriptorpb.MessageOptions{}
		proto.SetExtension(file.MessageType[0].Options, certesv1.E_Event, event)
	}
	made, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return dynamicpb.NewMessageType(made.Messages().Get(0))
}

const (
	doneType    = "d.example/test/1/done"
	doneMessage = "test.v1.Done"
)

// done is a message of the event type d.example/test/1/done.
func done(t testing.TB, note string) proto.Message {
	t.Helper()
	return withNote(messageType(t, "test.v1", "Done",
		&certesv1.SchemaBinding{Domain: proto.String("d.example"), Namespace: proto.String("test")}, &certesv1.EventBinding{}), note)
}

func withNote(kind protoreflect.MessageType, note string) proto.Message {
	message := kind.New()
	message.Set(kind.Descriptor().Fields().ByName("note"), protoreflect.ValueOfString(note))
	return message.Interface()
}

func noteOf(message proto.Message) string {
	m := message.ProtoReflect()
	return m.Get(m.Descriptor().Fields().ByName("note")).String()
}

// discard is a log that nobody reads.
var discard = slog.New(slog.DiscardHandler)
