"""The engine port's text as tests. An engine's test file is a harness and one class that inherits this."""

from __future__ import annotations

from tests.contracts.engine_contract_cursors import CursorsContract, LeasesContract
from tests.contracts.engine_contract_erasure import ErasureContract, SharedErasureContract
from tests.contracts.engine_contract_journal import IdsContract, JournalContract, TailContract
from tests.contracts.engine_contract_members import (
    MembersContract,
    SharedJournalContract,
    SharedLanesContract,
    SharedSettingsContract,
)
from tests.contracts.engine_contract_rejections import RejectionsContract
from tests.contracts.engine_contract_settings import AttemptsContract, SettingsContract
from tests.contracts.post_contract import PostContract


class EngineContract(
    JournalContract,
    IdsContract,
    TailContract,
    CursorsContract,
    LeasesContract,
    AttemptsContract,
    RejectionsContract,
    SettingsContract,
    ErasureContract,
):
    """All that every engine promises."""


class SharedEngineContract(
    SharedJournalContract,
    SharedLanesContract,
    SharedSettingsContract,
    SharedErasureContract,
    MembersContract,
    PostContract,
):
    """All that every engine promises that several brokers share."""
