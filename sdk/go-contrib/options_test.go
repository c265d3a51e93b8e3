package contrib_test

import (
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/hookactions/certes-contrib/calendly"
	"github.com/hookactions/certes-contrib/github"
	"github.com/hookactions/certes-contrib/slack"
	"github.com/hookactions/certes-contrib/stripe"
	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// options is what the SDK asks of a provider's options.
type options interface {
	EventOptions() map[string]string
}

var providers = map[string]options{
	"calendly": &calendly.Opts{},
	"github":   &github.Opts{},
	"slack":    &slack.Opts{},
	"stripe":   &stripe.Opts{},
}

func TestOptionsThatAreGivenAreNamedAsInTheCatalogue(t *testing.T) {
	tests := []struct {
		about string
		given options
		want  map[string]string
	}{
		{"one", &github.Opts{Repo: "meetly/app"}, map[string]string{"repo": "meetly/app"}},
		{"another", &github.Opts{Org: "meetly"}, map[string]string{"org": "meetly"}},
		{
			"two",
			&github.Opts{Repo: "meetly/app", RefType: "tag"},
			map[string]string{"repo": "meetly/app", "ref_type": "tag"},
		},
		{
			"an initialism",
			&stripe.Opts{ClientReferenceID: "order-7"},
			map[string]string{"client_reference_id": "order-7"},
		},
		{"two words", &slack.Opts{ChannelType: "im"}, map[string]string{"channel_type": "im"}},
		{"any text", &calendly.Opts{CreatedBy: " ü\n"}, map[string]string{"created_by": " ü\n"}},
		{"none", &github.Opts{}, nil},
		{"an empty one", &github.Opts{Repo: ""}, nil},
		{"nothing at all", (*github.Opts)(nil), nil},
	}
	for _, test := range tests {
		t.Run(test.about, func(t *testing.T) {
			if got := test.given.EventOptions(); !maps.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestWhatIsHandedOutIsTheCallersOwn(t *testing.T) {
	opts := &github.Opts{Repo: "meetly/app"}
	opts.EventOptions()["repo"] = "meetly/other"
	if got := opts.EventOptions()["repo"]; got != "meetly/app" {
		t.Errorf("got %q after somebody changed what they had got", got)
	}
}

// Each field is given in turn, so two that shared a name, or one that is never handed on, would show.
func TestEachFieldIsOneOptionOfTheCatalogueAndAllAre(t *testing.T) {
	catalogue := providersOf()
	for name, opts := range providers {
		t.Run(name, func(t *testing.T) {
			got := map[string]bool{}
			fields := reflect.TypeOf(opts).Elem()
			for i := range fields.NumField() {
				one := reflect.New(fields)
				one.Elem().Field(i).SetString("given")
				given := one.Interface().(options).EventOptions()
				if len(given) != 1 {
					t.Errorf("%s is handed on as %q", fields.Field(i).Name, given)
				}
				for option := range given {
					got[option] = true
				}
			}
			if !maps.Equal(got, catalogue[name]) {
				t.Errorf("has the options %v, the catalogue %v", got, catalogue[name])
			}
		})
	}
}

// providersOf returns the options of the event types of each provider, as their descriptors say them.
func providersOf() map[string]map[string]bool {
	found := map[string]map[string]bool{}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		provider, ours := strings.CutPrefix(string(file.Package()), "certes.community.")
		if !ours {
			return true
		}
		provider = strings.TrimSuffix(provider, ".v1")
		if found[provider] == nil {
			found[provider] = map[string]bool{}
		}
		for i := range file.Messages().Len() {
			event := proto.GetExtension(file.Messages().Get(i).Options(), certesv1.E_Event).(*certesv1.EventBinding)
			for _, option := range event.GetOptions() {
				found[provider][option.GetName()] = true
			}
		}
		return true
	})
	return found
}
