"""Who calls, and how a service learns of it."""

from __future__ import annotations

import asyncio

import pytest

from certes_broker.domain.access import LOCAL_OPERATOR, Bindings, Caller, Needs, Role
from certes_broker.domain.errors import PermissionDenied, Reason, Unauthenticated
from certes_broker.gateway.callers import Credentials, Door, acting_as, current_caller

READER = Caller("reader", frozenset({Role.EVENTS_READ}))


class Names:
    """Takes whoever gives the name of somebody it knows."""

    async def caller(self, credentials: Credentials) -> Caller:
        if credentials.authorization != ("reader",):
            raise Unauthenticated(Reason.CREDENTIALS_MISSING, "Who are you?")
        return READER

    def is_good(self, caller: Caller) -> bool:
        return True


async def test_a_door_that_asks_nobody_lets_everybody_do_everything() -> None:
    door = Door()
    assert not door.asks
    assert await door.admit(Credentials(), Needs(Role.CONFIG_WRITE, unbound=True), "Anything") is LOCAL_OPERATOR


async def test_a_door_that_asks_lets_in_whom_it_knows_for_what_they_may_do() -> None:
    door = Door(Names())
    assert door.asks
    assert await door.admit(Credentials(("reader",)), Needs(Role.EVENTS_READ), "Reading") is READER
    assert await door.admit(Credentials(("reader",)), Needs(None), "Asking") is READER
    with pytest.raises(PermissionDenied, match="Writing needs the role events:write, which reader does not have"):
        await door.admit(Credentials(("reader",)), Needs(Role.EVENTS_WRITE), "Writing")
    with pytest.raises(Unauthenticated):
        await door.admit(Credentials(), Needs(None), "Asking")


async def test_who_is_bound_may_not_call_what_concerns_all() -> None:
    bound = Caller("org_1", frozenset({Role.SOURCES_READ}), Bindings(subscribers=frozenset({"org_1"})))

    class One(Names):
        async def caller(self, credentials: Credentials) -> Caller:
            return bound

    with pytest.raises(PermissionDenied) as raised:
        await Door(One()).admit(Credentials(), Needs(Role.SOURCES_READ, unbound=True), "ListSources")
    assert raised.value.reason is Reason.NOT_BOUND_TO


async def test_a_call_and_the_tasks_it_begins_know_their_caller_and_nobody_else_does() -> None:
    async def asked() -> Caller:
        return current_caller()

    with pytest.raises(LookupError):
        current_caller()
    with acting_as(READER):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(asked())
        assert current_caller() is READER
    assert task.result() is READER
    with pytest.raises(LookupError):
        current_caller()
