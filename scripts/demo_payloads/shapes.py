"""The shapes in which GitHub documents what its payloads are made of: accounts, organizations, repositories, commits."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha1
from typing import Any

API = "https://api.github.com"
SITE = "https://github.com"
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
"""When the first commit of the demo was made."""

Payload = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an account."""

    login: str
    name: str
    email: str


@dataclass(frozen=True, slots=True)
class Project:
    """A repository of an organization, and what sets it apart from the others."""

    organization: str
    name: str
    description: str
    language: str
    topics: tuple[str, ...]

    @property
    def full_name(self) -> str:
        """The repository as GitHub names it."""
        return f"{self.organization}/{self.name}"


@dataclass(frozen=True, slots=True)
class Change:
    """A commit that was pushed."""

    author: Person
    message: str
    added: tuple[str, ...] = ()
    modified: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def commit(project: Project, change: Change, when: datetime) -> Payload:
    """Makes a commit as a push tells it."""
    author = {"name": change.author.name, "email": change.author.email, "username": change.author.login}
    commit_id = digest(f"{project.full_name} {change.message}")
    return {
        "id": commit_id,
        "tree_id": digest(f"tree of {commit_id}"),
        "distinct": True,
        "message": change.message,
        "timestamp": when.isoformat(),
        "url": f"{SITE}/{project.full_name}/commit/{commit_id}",
        "author": author,
        "committer": author,
        "added": list(change.added),
        "removed": list(change.removed),
        "modified": list(change.modified),
    }


def label(project: Project, name: str, color: str, description: str) -> Payload:
    """Makes a label of a repository."""
    url = f"{API}/repos/{project.full_name}/labels/{name}"
    return {
        "id": number(url, billions=6),
        "node_id": node("LA", url),
        "url": url,
        "name": name,
        "color": color,
        "default": name == "bug",
        "description": description,
    }


def account(login: str, kind: str = "User") -> Payload:
    """Makes an account as GitHub shows it everywhere."""
    url = f"{API}/users/{login}"
    return {
        "login": login,
        "id": number(login),
        "node_id": node("U" if kind == "User" else "O", login),
        "avatar_url": f"https://avatars.githubusercontent.com/u/{number(login)}?v=4",
        "gravatar_id": "",
        "url": url,
        "html_url": f"{SITE}/{login}",
        "followers_url": f"{url}/followers",
        "following_url": f"{url}/following{{/other_user}}",
        "gists_url": f"{url}/gists{{/gist_id}}",
        "starred_url": f"{url}/starred{{/owner}}{{/repo}}",
        "subscriptions_url": f"{url}/subscriptions",
        "organizations_url": f"{url}/orgs",
        "repos_url": f"{url}/repos",
        "events_url": f"{url}/events{{/privacy}}",
        "received_events_url": f"{url}/received_events",
        "type": kind,
        "site_admin": False,
    }


def organization(login: str) -> Payload:
    """Makes an organization as events that happen in it show it."""
    url = f"{API}/orgs/{login}"
    return {
        "login": login,
        "id": number(login),
        "node_id": node("O", login),
        "url": url,
        "repos_url": f"{url}/repos",
        "events_url": f"{url}/events",
        "hooks_url": f"{url}/hooks",
        "issues_url": f"{url}/issues",
        "members_url": f"{url}/members{{/member}}",
        "public_members_url": f"{url}/public_members{{/member}}",
        "avatar_url": f"https://avatars.githubusercontent.com/u/{number(login)}?v=4",
        "description": None,
    }


def repository(project: Project) -> Payload:
    """Makes a repository as all events but pushes show it."""
    name = project.full_name
    url = f"{API}/repos/{name}"
    links = {f"{link}_url": f"{url}/{path}" for link, path in LINKS.items()}
    return {
        "id": number(name, billions=1),
        "node_id": node("R", name),
        "name": project.name,
        "full_name": name,
        "private": False,
        "owner": account(project.organization, "Organization"),
        "html_url": f"{SITE}/{name}",
        "description": project.description,
        "fork": False,
        "url": url,
        **links,
        "created_at": "2024-05-06T08:30:00Z",
        "updated_at": stamp(START - timedelta(days=3)),
        "pushed_at": stamp(START + timedelta(hours=1)),
        "git_url": f"git://github.com/{name}.git",
        "ssh_url": f"git@github.com:{name}.git",
        "clone_url": f"{SITE}/{name}.git",
        "svn_url": f"{SITE}/{name}",
        "homepage": None,
        "size": 2817,
        "stargazers_count": 42,
        "watchers_count": 42,
        "language": project.language,
        "has_issues": True,
        "has_projects": False,
        "has_downloads": True,
        "has_wiki": False,
        "has_pages": False,
        "has_discussions": True,
        "forks_count": 5,
        "mirror_url": None,
        "archived": False,
        "disabled": False,
        "open_issues_count": 17,
        "license": {
            "key": "apache-2.0",
            "name": "Apache License 2.0",
            "spdx_id": "Apache-2.0",
            "url": f"{API}/licenses/apache-2.0",
            "node_id": "MDc6TGljZW5zZTI=",
        },
        "allow_forking": True,
        "is_template": False,
        "web_commit_signoff_required": False,
        "topics": list(project.topics),
        "visibility": "public",
        "forks": 5,
        "open_issues": 17,
        "watchers": 42,
        "default_branch": "main",
        "custom_properties": {"team": "calendar-keepers", "tier": ["production", "customer-facing"]},
    }


def digest(text: str) -> str:
    """Makes the SHA of a commit or tree out of what it is about."""
    return sha1(text.encode(), usedforsecurity=False).hexdigest()


def number(name: str, *, billions: int = 0) -> int:
    """Makes the number of a thing out of its name; those that there are most of have the greatest at GitHub."""
    return billions * 10**9 + int(digest(name)[:7], 16)


def node(kind: str, name: str) -> str:
    """Makes the id of a thing in the GraphQL API."""
    return f"{kind}_{urlsafe_b64encode(bytes.fromhex(digest(name))[:9]).decode()}"


def stamp(when: datetime) -> str:
    """Writes a time as GitHub's API does."""
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


LINKS = {
    "forks": "forks",
    "keys": "keys{/key_id}",
    "collaborators": "collaborators{/collaborator}",
    "teams": "teams",
    "hooks": "hooks",
    "issue_events": "issues/events{/number}",
    "events": "events",
    "assignees": "assignees{/user}",
    "branches": "branches{/branch}",
    "tags": "tags",
    "blobs": "git/blobs{/sha}",
    "git_tags": "git/tags{/sha}",
    "git_refs": "git/refs{/sha}",
    "trees": "git/trees{/sha}",
    "statuses": "statuses/{sha}",
    "languages": "languages",
    "stargazers": "stargazers",
    "contributors": "contributors",
    "subscribers": "subscribers",
    "subscription": "subscription",
    "commits": "commits{/sha}",
    "git_commits": "git/commits{/sha}",
    "comments": "comments{/number}",
    "issue_comment": "issues/comments{/number}",
    "contents": "contents/{+path}",
    "compare": "compare/{base}...{head}",
    "merges": "merges",
    "archive": "{archive_format}{/ref}",
    "downloads": "downloads",
    "issues": "issues{/number}",
    "pulls": "pulls{/number}",
    "milestones": "milestones{/number}",
    "notifications": "notifications{?since,all,participating}",
    "labels": "labels{/name}",
    "releases": "releases{/id}",
    "deployments": "deployments",
}
"""The places in the REST API that a repository names, below its own: `forks_url` and so on."""
