"""Writes the payloads of the demo and the benchmark: full-size, in the shape that GitHub documents, all names our own.

Run as `python -m scripts.demo_payloads.generate`. Every number and hash is derived from a name, so that running it again
changes nothing. The files are as compact as what GitHub sends: their bytes are the body of a request.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from scripts.demo_payloads.shapes import (
    API,
    SITE,
    START,
    Change,
    Payload,
    Person,
    Project,
    account,
    commit,
    digest,
    label,
    node,
    number,
    organization,
    repository,
    stamp,
)

FOLDER = Path(__file__).resolve().parent

NOOR = Person("noor-haddad", "Noor Haddad", "noor@meetly.com")
TOMAS = Person("tvarga", "Tomas Varga", "tomas@meetly.com")
INES = Person("ines-okafor", "Ines Okafor", "ines@meetly.com")
WREN = Person("wrenhollis", "Wren Hollis", "wren@harborlight.org")

MEETLY = Project("meetly", "meetly", "Finds the hour that suits everybody", "Go", ("calendar", "scheduling"))
APP = Project("meetly", "app", "Meetly in the pocket", "TypeScript", ("calendar", "mobile"))
TIDES = Project("harborlight", "tides", "Tide tables for small harbours", "Rust", ("sailing", "tides"))


def payloads() -> dict[str, Payload]:
    """Returns every payload by the name of its file; the part before the first `-` is the event."""
    return {
        "push-meetly-meetly": push(MEETLY, NOOR, "refs/heads/main", SLOTS),
        "push-meetly-meetly-branch": push(MEETLY, INES, "refs/heads/holidays", HOLIDAYS),
        "push-meetly-app": push(APP, TOMAS, "refs/heads/main", DARK_MODE),
        "push-harborlight-tides": push(TIDES, WREN, "refs/heads/main", SPRING_TIDES),
        "issues-opened-meetly-meetly": issue_opened(MEETLY, INES, 118, *DAYLIGHT_SAVING),
        "issues-opened-meetly-app": issue_opened(APP, NOOR, 64, *LOST_INVITATION),
        "membership-added": membership_added("meetly", INES, NOOR),
    }


SLOTS = (
    Change(
        NOOR,
        "Offer only hours in which everybody is awake\n\nA participant in Auckland was offered four in the morning.",
        added=("internal/slots/waking.go", "internal/slots/waking_test.go"),
        modified=("internal/slots/search.go",),
    ),
    Change(TOMAS, "Say why a slot was left out", modified=("internal/slots/search.go", "web/templates/slot.html")),
    Change(
        NOOR, "Drop the half-hour grid", modified=("internal/slots/search.go",), removed=("internal/slots/grid.go",)
    ),
)
HOLIDAYS = (
    Change(INES, "Read public holidays from iCalendar files", added=("internal/holidays/ical.go",)),
    Change(
        INES,
        "Ask once a day for changed holidays\n\nThe files change a few times a year; asking every hour was rude.",
        modified=("internal/holidays/refresh.go", "deploy/cron.yaml"),
    ),
)
DARK_MODE = (
    Change(TOMAS, "Follow the system's colour scheme", modified=("src/theme/index.ts", "src/theme/colours.ts")),
    Change(TOMAS, "Keep the week readable in the dark", modified=("src/week/WeekView.tsx",)),
    Change(
        NOOR,
        "Let a long title wrap instead of pushing the buttons away",
        added=("src/week/__tests__/long-title.test.tsx",),
        modified=("src/week/Entry.tsx",),
    ),
)
SPRING_TIDES = (
    Change(WREN, "Mark spring tides in the table", modified=("src/table.rs", "src/moon.rs")),
    Change(WREN, "Add the harbours of the west coast", added=("data/west.csv",), modified=("data/README.md",)),
)
DAYLIGHT_SAVING = (
    "Weekly meetings shift by an hour when the clocks change",
    (
        "A meeting set up in winter for ten o'clock is shown at eleven from the last Sunday of March on.\n\n"
        "1. Set the clock to February and make a weekly meeting.\n2. Look at April.\n\n"
        "It should stay at ten o'clock where the organizer is."
    ),
    ("bug", "d73a4a", "Something does not do what it should"),
)
LOST_INVITATION = (
    "An invitation that was declined on one phone comes back on the other",
    "Declining is remembered on the phone and not told to the server until the next start.",
    ("sync", "0e8a16", "What is told from one device to another"),
)


def push(project: Project, pusher: Person, ref: str, changes: Sequence[Change]) -> Payload:
    """Makes a push of changes to a branch."""
    before = digest(f"{project.full_name} {ref} before")
    commits = [commit(project, change, START + timedelta(minutes=7 * n)) for n, change in enumerate(changes)]
    after = commits[-1]["id"]
    pushed = repository(project) | {
        "created_at": int(datetime(2024, 5, 6, 8, 30, tzinfo=UTC).timestamp()),
        "pushed_at": int((START + timedelta(hours=1)).timestamp()),
        "url": f"{SITE}/{project.full_name}",
        "stargazers": 42,
        "master_branch": "main",
        "organization": project.organization,
    }
    owner = pushed["owner"]
    pushed["owner"] = {"name": owner["login"], "email": f"hello@{owner['login']}.com"} | owner
    return {
        "ref": ref,
        "before": before,
        "after": after,
        "repository": pushed,
        "pusher": {"name": pusher.login, "email": pusher.email},
        "organization": organization(project.organization),
        "sender": account(pusher.login),
        "created": False,
        "deleted": False,
        "forced": False,
        "base_ref": None,
        "compare": f"{SITE}/{project.full_name}/compare/{before[:12]}...{after[:12]}",
        "commits": commits,
        "head_commit": commits[-1],
    }


def issue_opened(
    project: Project, author: Person, issue_number: int, title: str, body: str, mark: Sequence[str]
) -> Payload:
    """Makes the opening of an issue that bears one label."""
    url = f"{API}/repos/{project.full_name}"
    place = f"{url}/issues/{issue_number}"
    opened_at = stamp(START + timedelta(hours=2))
    issue = {
        "url": place,
        "repository_url": url,
        "labels_url": f"{place}/labels{{/name}}",
        "comments_url": f"{place}/comments",
        "events_url": f"{place}/events",
        "html_url": f"{SITE}/{project.full_name}/issues/{issue_number}",
        "id": number(place, billions=3),
        "node_id": node("I", place),
        "number": issue_number,
        "title": title,
        "user": account(author.login),
        "labels": [label(project, *mark)],
        "state": "open",
        "locked": False,
        "assignee": account(TOMAS.login),
        "assignees": [account(TOMAS.login)],
        "milestone": None,
        "comments": 0,
        "created_at": opened_at,
        "updated_at": opened_at,
        "closed_at": None,
        "author_association": "MEMBER",
        "active_lock_reason": None,
        "body": body,
        "reactions": {"url": f"{place}/reactions", "total_count": 0}
        | dict.fromkeys(("+1", "-1", "laugh", "hooray", "confused", "heart", "rocket", "eyes"), 0),
        "timeline_url": f"{place}/timeline",
        "performed_via_github_app": None,
        "state_reason": None,
    }
    return {
        "action": "opened",
        "issue": issue,
        "repository": repository(project),
        "organization": organization(project.organization),
        "sender": account(author.login),
    }


def membership_added(organization_login: str, member: Person, sender: Person) -> Payload:
    """Makes the addition of somebody to a team."""
    slug = "calendar-keepers"
    team_number = number(slug)
    url = f"{API}/organizations/{number(organization_login)}/team/{team_number}"
    team = {
        "name": "Calendar keepers",
        "id": team_number,
        "node_id": node("T", slug),
        "slug": slug,
        "description": "Those who look after calendars and time zones",
        "privacy": "closed",
        "notification_setting": "notifications_enabled",
        "url": url,
        "html_url": f"{SITE}/orgs/{organization_login}/teams/{slug}",
        "members_url": f"{url}/members{{/member}}",
        "repositories_url": f"{url}/repos",
        "permission": "push",
        "parent": None,
    }
    return {
        "action": "added",
        "scope": "team",
        "member": account(member.login),
        "sender": account(sender.login),
        "team": team,
        "organization": organization(organization_login),
    }


def text_of(payload: Payload) -> str:
    """Writes a payload as its file has it."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")) + "\n"


def main() -> None:
    """Writes the files beside this one."""
    for name, payload in payloads().items():
        text = text_of(payload)
        (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
        print(f"{name}.json  {len(text.encode()):>6} bytes")


if __name__ == "__main__":
    main()
