"""Which object of a payload is which message, where messages live, and what events can be selected by.

These are decisions, kept as tables: GitHub's own nouns, told apart by where they stand and what they hold. One thing of
GitHub's is one message, however much or little of it a payload tells.
"""

from __future__ import annotations

import re
from typing import Final

from scripts.derive_github_evidence import Evidence

ANY: Final = "google.protobuf.Value"
FREE: Final = "google.protobuf.Struct"
STRINGS: Final = "map<string, string>"

TYPES: Final = {
    # What an app may do grows by a key with every product of GitHub's.
    "App.permissions": STRINGS,
    "Installation.permissions": STRINGS,
    # Whatever the one who triggers the event likes to send.
    "Deployment.payload": ANY,
    "RepositoryDispatchEvent.client_payload": FREE,
    "WorkflowDispatchEvent.inputs": FREE,
    # What organizations define for their repositories.
    "Repository.custom_properties": FREE,
    # A text, or the seconds since 1970.
    "Installation.created_at": ANY,
    "Installation.updated_at": ANY,
    "Project.created_at": ANY,
    "Project.updated_at": ANY,
    "ProjectCard.created_at": ANY,
    "ProjectCard.updated_at": ANY,
    "ProjectColumn.created_at": ANY,
    "ProjectColumn.updated_at": ANY,
    "Repository.created_at": ANY,
    "Repository.pushed_at": ANY,
    # The words of other package managers, which change as those do.
    "PackageVersion.body": ANY,
    "PackageVersion.container_metadata": FREE,
    "PackageVersion.docker_metadata": f"repeated {ANY}",
    "PackageVersion.metadata": f"repeated {ANY}",
    "PackageVersion.npm_metadata": FREE,
    "PackageVersion.nuget_metadata": f"repeated {ANY}",
    "PackageVersion.rubygems_metadata": f"repeated {ANY}",
    # What a field of a project is set to depends on the kind of field.
    "ProjectsV2FieldValueChange.from": ANY,
    "ProjectsV2FieldValueChange.to": ANY,
    # What a rule of a ruleset is set to depends on the rule.
    "RulesetRule.parameters": FREE,
    # A handle, or the object of the REST API.
    "Repository.organization": ANY,
    # A form of the REST API, which no webhook sends.
    "Issue.labels": "repeated Label",
    # Only ever seen null, but said by the documentation.
    "CodeScanningAlert.fixed_at": "string",
    "InstallationTargetAccount.description": "string",
    "InstallationTargetAccount.website_url": "string",
    # A text or a number, as whoever set the webhook up wrote it.
    "HookConfig.insecure_ssl": ANY,
}
"""The types that are not what was seen, by `<message>.<key>`."""

RENAMED: Final = {"+1": "plus_one", "-1": "minus_one", "from": "previous"}
"""The keys that are no names in a proto, or keywords in too many languages."""

PLACES: Final = {
    "BranchProtectionRuleChanges.authorized_dismissal_actors_only": "FlagChange",
    "BranchProtectionRuleEvent.rule": "BranchProtectionRule",
    "CheckRunEvent.requested_action": "RequestedAction",
    "CodeScanningAlert.rule": "CodeScanningRule",
    "CodeScanningAlert.tool": "CodeScanningTool",
    "CodeScanningAlertEvent.alert": "CodeScanningAlert",
    "CodeScanningAlertInstance.location": "CodeScanningLocation",
    "CodeScanningAlertInstance.message": "CodeScanningMessage",
    "CommitCommentEvent.comment": "CommitComment",
    "DependabotAlertDependency.package": "VulnerablePackage",
    "DependabotAlertEvent.alert": "DependabotAlert",
    "DeployKeyEvent.key": "DeployKey",
    "DeploymentReviewEvent.reviewers": "DeploymentReviewer",
    "DeploymentReviewer.reviewer": "RequestedReviewer",
    "Discussion.category": "DiscussionCategory",
    "DiscussionCategoryChange.from": "DiscussionCategory",
    "DiscussionCommentEvent.comment": "DiscussionComment",
    "ExemptionRequest.metadata": "ExemptionRequestMetadata",
    "ExemptionRequestData.data": "ExemptionRequestItem",
    "ExemptionRequestItem.locations": "ExemptionRequestLocation",
    "GollumEvent.pages": "WikiPage",
    "InstallationTargetEvent.account": "InstallationTargetAccount",
    "Issue.pull_request": "IssuePullRequest",
    "Issue.type": "IssueType",
    "IssueCommentEvent.comment": "IssueComment",
    "IssueFieldValue.single_select_option": "IssueFieldOption",
    "IssuesEvent.changes": "IssueChanges",
    "IssuesEvent.type": "IssueType",
    "MarketplacePurchase.account": "MarketplaceAccount",
    "MarketplacePurchase.plan": "MarketplacePlan",
    "MarketplacePurchaseEvent.previous_marketplace_purchase": "MarketplacePurchase",
    "OrganizationEvent.invitation": "OrganizationInvitation",
    "OrganizationEvent.membership": "OrganizationMembership",
    "PackageEvent.package": "Package",
    "PackageVersion.package_files": "PackageFile",
    "PageBuildEvent.build": "PageBuild",
    "ProjectV2.latest_status_update": "ProjectV2StatusUpdate",
    "ProjectsV2ItemChanges.field_value": "ProjectsV2FieldValueChange",
    "PullRequest.requested_reviewers": "RequestedReviewer",
    "PullRequestChanges.base": "PullRequestBaseChange",
    "PullRequestReviewCommentEvent.comment": "PullRequestReviewComment",
    "PullRequestReviewThread.comments": "PullRequestReviewComment",
    "Repository.code_search_index_status": "CodeSearchIndexStatus",
    "Repository.parent": "Repository",
    "Repository.source": "Repository",
    "RepositoryAdvisory.collaborating_teams": "Team",
    "RepositoryAdvisory.credits_detailed": "RepositoryAdvisoryDetailedCredit",
    "RepositoryAdvisory.private_fork": "Repository",
    "RepositoryChanges.repository": "RepositoryRename",
    "RepositoryOwnerChange.from": "RepositoryOwner",
    "RepositoryRuleset._links": "RulesetLinks",
    "RepositoryRuleset.bypass_actors": "RulesetBypassActor",
    "RepositoryRulesetChanges.conditions": "RulesetConditionsChanges",
    "RepositoryRulesetChanges.rules": "RulesetRulesChanges",
    "RepositoryVulnerabilityAlertEvent.alert": "RepositoryVulnerabilityAlert",
    "RulesetConditionChange.changes": "RulesetConditionChanges",
    "RulesetConditions.ref_name": "RulesetNames",
    "RulesetConditions.repository_id": "RulesetRepositoryIds",
    "RulesetConditions.repository_name": "RulesetNames",
    "RulesetConditions.repository_property": "RulesetProperties",
    "RulesetConditionsChanges.added": "RulesetConditions",
    "RulesetConditionsChanges.deleted": "RulesetConditions",
    "RulesetConditionsChanges.updated": "RulesetConditionChange",
    "RulesetProperties.exclude": "RulesetProperty",
    "RulesetProperties.include": "RulesetProperty",
    "RulesetRuleChange.changes": "RulesetRuleChanges",
    "RulesetRuleChange.rule": "RulesetRule",
    "RulesetRulesChanges.added": "RulesetRule",
    "RulesetRulesChanges.deleted": "RulesetRule",
    "RulesetRulesChanges.updated": "RulesetRuleChange",
    "SecretScanningAlertEvent.alert": "SecretScanningAlert",
    "SecretScanningAlertLocationEvent.alert": "SecretScanningAlert",
    "SecretScanningAlertLocationEvent.location": "SecretScanningLocation",
    "SecurityAndAnalysisChange.from": "SecurityAndAnalysisHolder",
    "SecurityAndAnalysisEvent.changes": "SecurityAndAnalysisChange",
    "SponsorshipTierChange.from": "SponsorshipTier",
    "StatusBranch.commit": "StatusBranchCommit",
    "StatusCommit.commit": "GitCommit",
    "StatusCommit.parents": "StatusCommitParent",
    "StatusEvent.branches": "StatusBranch",
    "StatusEvent.commit": "StatusCommit",
    "TeamChanges.repository": "TeamRepositoryChange",
    "TeamPermissionsChange.from": "RepositoryPermissions",
    "TeamRepositoryChange.permissions": "TeamPermissionsChange",
    "Vulnerability.package": "VulnerablePackage",
    "WorkflowRun.referenced_workflows": "ReferencedWorkflow",
}
"""The objects that are known by where they stand: `<message>.<key>`."""

KEYS: Final = {
    "Commit": "commits head_commit",
    "Cvss": "cvss cvss_v3 cvss_v4",
    "DiscussionComment": "answer old_answer",
    "Discussion": "discussion new_discussion",
    "App": "app performed_via_github_app",
    "Issue": "issue old_issue new_issue parent_issue sub_issue blocked_issue blocking_issue",
    "Label": "label labels",
    "Package": "registry_package",
    "ProjectV2": "projects_v2",
    "ProjectV2Item": "projects_v2_item",
    "ProjectV2StatusUpdate": "projects_v2_status_update",
    "PullRequest": "pull_request pull_requests",
    "PullRequestBranch": "base head",
    "Repository": "repository repo forkee head_repository template_repository old_repository new_repository repositories"
    " repositories_added repositories_removed parent_issue_repo sub_issue_repo blocked_issue_repo blocking_issue_repo",
    "RulesetConditions": "conditions condition",
    "RulesetRule": "rules",
    "Team": "team requested_team requested_teams parent",
    "Vulnerability": "vulnerabilities security_vulnerability",
    "WorkflowJobRun": "workflow_job_run workflow_job_runs",
    "PersonalAccessTokenPermissions": "permissions_added permissions_upgraded permissions_result",
    "CodeScanningAlertInstance": "instances most_recent_instance",
    "AdvisoryIdentifier": "identifiers",
    "AdvisoryReference": "references",
    "Cwe": "cwes",
    "CustomPropertyDefinition": "definition",
    "CustomPropertyValue": "new_property_values old_property_values",
    "ExemptionResponse": "exemption_response responses",
    "PatchedVersion": "first_patched_version",
    "HookConfig": "config",
    "HookResponse": "last_response",
    "PullRequestReview": "review",
    "PullRequestReviewThread": "thread",
    "ReleaseAsset": "assets",
    "RequestedReviewer": "reviewer",
    "SponsorshipTier": "tier",
    "RepositoryPermissions": "permissions",
    "CommitVerification": "verification",
    "GitTree": "tree",
}
"""The objects that are the same thing wherever they stand: each message with the keys it stands under."""

_NOUNS: Final = (
    "auto_merge check_run check_suite code_of_conduct cvss_severities deployment deployment_status enterprise epss"
    " exemption_request exemption_request_data hook installation issue_dependencies_summary issue_field_values license"
    " marketplace_purchase merge_group milestone organization package_version personal_access_token_request project"
    " project_card project_column reactions release repository_advisory repository_ruleset security_advisory"
    " security_and_analysis sponsorship sub_issues_summary workflow workflow_job workflow_run"
)
"""The keys that are themselves the names of messages."""

FILES: Final = {
    "change": "TextChange FlagChange NumberChange ListChange",
    "check": "CheckRun CheckSuite",
    "commit": "Commit GitUser",
    "custom_property": "CustomPropertyDefinition CustomPropertyValue",
    "deployment": "Deployment",
    "discussion": "Discussion DiscussionCategory DiscussionComment",
    "enterprise": "Enterprise",
    "exemption_request": "ExemptionRequest ExemptionResponse",
    "hook": "Hook",
    "issue": "Issue IssueComment IssueType Label Milestone Reactions",
    "package": "Package",
    "pull_request": "PullRequest Link RequestedReviewer PullRequestReviewComment",
    "release": "Release",
    "secret_scanning": "SecretScanningAlert SecretScanningLocation",
    "security_advisory": "SecurityAdvisory VulnerablePackage Vulnerability Cvss CvssSeverities Cwe AdvisoryIdentifier",
    "user": "User Organization",
    "repository": "Repository RepositoryPermissions SecurityAndAnalysis",
    "team": "Team",
    "workflow": "Workflow WorkflowRun",
}
"""The files of messages that several events share. What only these contain lives beside them."""

OPTIONS: Final = (
    ("repo", "repository.full_name"),
    ("org", "organization.login"),
    ("action", "action"),
    ("sender", "sender.login"),
)
"""The options of every event that has the field, in this order."""

OWN_OPTIONS: Final = {
    "check_run": (("conclusion", "check_run.conclusion"),),
    "check_suite": (("conclusion", "check_suite.conclusion"),),
    "create": (("ref", "ref"), ("ref_type", "ref_type")),
    "delete": (("ref", "ref"), ("ref_type", "ref_type")),
    "deployment": (("environment", "deployment.environment"),),
    "deployment_protection_rule": (("environment", "environment"),),
    "deployment_review": (("environment", "environment"),),
    "deployment_status": (("environment", "deployment.environment"), ("state", "deployment_status.state")),
    "installation": (("account", "installation.account.login"),),
    "installation_repositories": (("account", "installation.account.login"),),
    "installation_target": (("account", "account.login"),),
    "issues": (("label", "label.name"),),
    "membership": (("team", "team.slug"),),
    "pull_request": (("base", "pull_request.base.ref"), ("label", "label.name")),
    "push": (("ref", "ref"),),
    "status": (("context", "context"), ("state", "state")),
    "team": (("team", "team.slug"),),
    "workflow_dispatch": (("workflow", "workflow"),),
    "workflow_job": (("conclusion", "workflow_job.conclusion"),),
    "workflow_run": (("conclusion", "workflow_run.conclusion"), ("workflow", "workflow_run.name")),
}
"""The further options of some events."""


def field_name(key: str) -> str:
    """Returns the name of the field that holds what a payload has under a key: `links` for `_links`."""
    return RENAMED.get(key) or re.sub(r"[^a-z0-9]+", "_", key.lower()).strip("_")


def event_message(event: str) -> str:
    """Returns the name of an event's message: `PushEvent` of `push`."""
    return f"{camel(event)}Event"


def message_name(owner: str, key: str, told: Evidence, *, in_list: bool) -> str:
    """Returns the message that an object is, which a message has under a key."""
    keys = told.fields.keys()
    placed = PLACES.get(f"{owner}.{key}")
    if placed is not None:
        return placed
    if {"login", "id"} <= keys and key != "organization" and not keys & {"hooks_url", "organization_billing_email"}:
        return "User"
    if keys == {"href"}:
        return "Link"
    if {"name", "email"} <= keys <= {"name", "email", "date", "username"}:
        return "GitUser"
    if keys <= {"from", "to"}:
        return _change(told) or owner.removesuffix("Changes") + camel(key) + "Change"
    if keys == {"status"} and owner == "SecurityAndAnalysis":
        return "SecurityFeature"
    if key in _BY_THEMSELVES:
        return camel(singular(key) if in_list else key)
    return _BY_KEY.get(key) or owner.removesuffix("Event") + camel(singular(key) if in_list else key)


def camel(key: str) -> str:
    """Returns a key in CamelCase."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^a-zA-Z0-9]+", key))


def singular(word: str) -> str:
    """Returns the singular of a key that names a list."""
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us")) else word


_BY_KEY: Final = {key: message for message, keys in KEYS.items() for key in keys.split()}
_BY_THEMSELVES: Final = frozenset(_NOUNS.split())
_CHANGES: Final = {"string": "TextChange", "boolean": "FlagChange", "integer": "NumberChange", "array": "ListChange"}


def _change(told: Evidence) -> str | None:
    """Returns the message of a value before and after, where that is no object."""
    values = [value for key in ("from", "to") for value in told.fields.get(key, ())]
    kinds = {kind for value in values for kind in value.kinds} - {"null"}
    return _CHANGES.get(kinds.pop()) if len(kinds) == 1 else None
