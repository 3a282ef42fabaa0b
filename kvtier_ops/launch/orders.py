"""What a running launcher is told through its control socket: restart, reload."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from kvtier_ops.cache.client import ask
from kvtier_ops.errors import REPORT_URL, BadInput, EngineFailed, Interrupted, KvtierError, Refused
from kvtier_ops.launch.control_socket import Request
from kvtier_ops.launch.keeper import Keeper
from kvtier_ops.launch.record import claims_of
from kvtier_ops.launch.served import Served, change_between, read_again
from kvtier_ops.launch.sizes import changed_sizes, pages_by_tier
from kvtier_ops.paths import abbreviate
from kvtier_ops.profile.diff import differences
from kvtier_ops.units import format_bytes

LOOK_S = 10.0  # that the engine has to say what it has


class _NotResized(Refused):
    """The running engine keeps its size of a tier."""


class Orders:
    """Carries orders out one at a time, in the launcher's main thread."""

    def __init__(self, keeper: Keeper, forced: tuple[str, ...]) -> None:
        self._keeper = keeper
        self._forced = forced
        self._orders: dict[str, Callable[[], str]] = {
            "restart": self._restart,
            "reload": self._reload,
        }

    def obey(self) -> None:
        """The order that waits. What goes wrong with it is its sender's to know, not ours."""
        request = self._keeper.means.control.accept()
        if request is None:
            return
        self._keeper.overhear = request.note
        try:
            self._carry_out(request)
        except KvtierError as error:
            self._keeper.means.log.event("warning", f"cannot {request.what}: {error}")
            request.fail(error)
        except Exception as error:  # a fault of ours, which is no reason to serve no longer
            self._keeper.means.log.event("error", traceback.format_exc())
            what = f"kvtier itself failed: {type(error).__name__}: {error}"
            request.fail(KvtierError(what, f"its log has more; please report it at {REPORT_URL}"))
        finally:
            self._keeper.overhear = None
            request.close()

    def _carry_out(self, request: Request) -> None:
        order = self._orders.get(request.what)
        if order is None:
            names = ", ".join(sorted(self._orders))
            raise BadInput(f"this launcher knows no `{request.what[:40]}`", f"it knows {names}")
        self._keeper.means.log.event("info", f"told to {request.what}")
        answer = order()
        self._keeper.means.log.event("info", answer)
        request.done(answer)

    def _restart(self) -> str:
        self._keeper.replace_engine(self._keeper.served)
        return f"restarted: {self._name} serves at {self._url}/v1"

    def _reload(self) -> str:
        keeper, old = self._keeper, self._keeper.served
        tuning = keeper.means.tuning
        keeper.say(f"reading `{abbreviate(old.file.path)}`")
        new = read_again(old, self._name, self._forced, tuning, keeper.say)
        fields = ", ".join(f"`{each.field}`" for each in differences(old.file, new.file))
        change = change_between(old, new)
        if change.is_none:
            return self._adopt(new, [f"changed without the engine: {fields}"] if fields else [])
        tuning.tune(new.plan, keeper.say)
        if change.sizes is not None and self._is_resized(change.sizes, new):
            return self._adopt(
                new, [f"changed while it serves: {fields or ', '.join(change.fields)}"]
            )
        keeper.say(f"the engine must be started again for {fields or ', '.join(change.fields)}")
        self._replace(old, new)
        return f"changed, with another engine: {fields or ', '.join(change.fields)}"

    def _adopt(self, new: Served, done: list[str]) -> str:
        """Takes over what the running engine serves already, and has it set back sizes that
        `kvtier cache` has changed since its start, as far as it can."""
        self._keeper.adopt_limits(new)
        self._claim(new)
        key = self._key(new)
        back = self._set_back(new, key) if key else []
        if back:
            done = [*done, f"as the profile says again: the size of {', '.join(back)}"]
        return "; ".join(done) or f"nothing has changed: {self._name} serves the profile as it is"

    def _set_back(self, served: Served, key: str) -> list[str]:
        """The tiers that have the profile's size again. One that the engine refuses may have been
        smaller from the start, for want of memory or of its disk: no reason to end it."""
        pages, back = self._pages_now(key), list[str]()
        for tier, size_bytes in changed_sizes(served.plan, pages).items():
            try:
                self._resize(tier, size_bytes, key, is_there=pages[tier] > 0)
                back.append(tier)
            except _NotResized as error:
                self._keeper.say(f"warning: {tier} has not the profile's size: {error}")
        return back

    def _replace(self, old: Served, new: Served) -> None:
        """Goes back to the old profile if the engine does not start with the new one."""
        keeper = self._keeper
        try:
            keeper.replace_engine(new)
        except (EngineFailed, Refused) as error:
            keeper.say(f"the engine does not start with the changed profile: {error}")
            keeper.say("going back to the profile as it was")
            keeper.start_for(old)
            [problem] = error.problems
            raise Refused(
                f"{problem.what}; the profile as it was is served again", problem.hint
            ) from error
        keeper.adopt_limits(replace(new, port=keeper.served.port))
        self._claim(new)

    def _claim(self, served: Served) -> None:
        claims = claims_of(served.plan)
        claims["port"] = self._keeper.means.record.state.port
        self._keeper.means.record.update(**claims)

    def _is_resized(self, sizes: dict[str, int], new: Served) -> bool:
        """Tells the running engine; False if it cannot be told, or says no."""
        key = self._key(new)
        if not key:
            if new.profile.server.admin_key.source is None:
                self._keeper.say(
                    "without `server.admin_key` a running engine cannot be told another size"
                )
            return False
        try:
            for tier, size_bytes in sorted(sizes.items()):
                self._resize(tier, size_bytes, key)
        except _NotResized as error:
            self._keeper.say(str(error))
            return False
        return True

    def _key(self, served: Served) -> str:
        """Of /admin; empty where there is none."""
        source = served.profile.server.admin_key.source
        try:
            return source.read() if source is not None else ""
        except ValueError as error:
            self._keeper.say(f"the engine cannot be told: `server.admin_key`: {error}")
            return ""

    def _pages_now(self, key: str) -> dict[str, int]:
        """What each tier has; empty, with a warning, if the engine does not say."""
        found: dict[str, int] = {}

        def look() -> None:
            found.update(pages_by_tier(ask(self._url, "", key=key, timeout_s=LOOK_S)))

        try:
            self._while_serving(look)
        except Interrupted:
            raise
        except KvtierError as error:
            self._keeper.say(f"warning: the sizes of the tiers are not known: {error}")
        return found

    def _resize(self, tier: str, size_bytes: int, key: str, *, is_there: bool = True) -> None:
        """One that is detached is attached. Raises _NotResized."""
        self._keeper.say(f"resizing {tier} to {format_bytes(size_bytes)}")
        path, body = "/resize" if is_there else "/attach", {"tier": tier, "size_bytes": size_bytes}
        try:
            self._while_serving(partial(ask, self._url, path, body, key=key))
        except Interrupted:
            raise
        except KvtierError as error:
            what = f"the engine does not resize {tier} as it runs: {error}"
            raise _NotResized(what) from error

    def _while_serving(self, call: Callable[[], Any]) -> None:
        """`call` in a thread: it may wait for requests to end, and a signal does not wait for it.

        Raises what it raises, Interrupted if a signal comes, Refused if the engine ends.
        """
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        raised: list[Exception] = []

        def run() -> None:
            try:
                call()
            except Exception as error:
                raised.append(error)
            finally:
                os.close(write_fd)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        means, engine = self._keeper.means, self._keeper.now.engine
        try:
            while thread.is_alive():
                ready = means.signals.wait((read_fd, engine.fd), None)
                if means.signals.count:
                    raise Interrupted("the launcher is being stopped")
                if read_fd in ready:
                    thread.join()
                elif engine.fd in ready:
                    raise Refused("the engine ended meanwhile", "see its log")
        finally:
            os.close(read_fd)
        if raised:
            raise raised[0]

    @property
    def _name(self) -> str:
        return self._keeper.means.record.state.name

    @property
    def _url(self) -> str:
        return self._keeper.means.record.state.url
