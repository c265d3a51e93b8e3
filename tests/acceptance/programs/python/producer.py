from pb.v1 import push_pb2 as pbv1  # locally generated protobuf code
from pb.v2 import push_pb2 as pbv2  # locally generated protobuf code

from certes_sdk import blocking as certes

certes.init("events://events.github.com")  # GitHub's event gateway, local or hosted by 3rd party

meetly_gh_id = "org_123"

# Something in our code triggers a "push" event for Meetly
certes.send_outgoing_event(
    meetly_gh_id,
    pbv1.PushEvent(
        ref="refs/tags/simple-tag",
        before="6113728f27ae82c7b1a177c8d03f9e96e0adf246",
        # ... data here related to "push"
    ),
)

certes.send_outgoing_event(
    meetly_gh_id,
    pbv2.PushEvent(
        ref="refs/tags/simple-tag",
        before_commit_sha="6113728f27ae82c7b1a177c8d03f9e96e0adf246",  # versioning example of field name changing
        # ... data here related to "push"
    ),
)
