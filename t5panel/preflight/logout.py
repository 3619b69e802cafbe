"""Whether a detached run outlives the user's logout: what systemd-logind does with the processes left behind."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from t5panel.plan.planning import Finding

HOMES = ("etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd")
"""Where configuration lies, the strongest first."""
_LINE = re.compile(r"^(#?)\s*(KillUserProcesses|KillOnlyUsers|KillExcludeUsers)\s*=\s*(.*?)\s*$")
_YES = ("1", "yes", "y", "true", "t", "on")


class LogoutFacts(msgspec.Struct, frozen=True):
    """Where this process stands in systemd's order, and what logind does at the end of it."""

    kills: bool
    """logind ends this user's processes at logout."""
    place: str
    """`session` (ends with the login), `user` (under the user's manager), or `` for neither."""
    lingers: bool
    """The user's manager stays after the last logout."""


def read_logout(root: Path = Path("/"), *, user: str | None = None) -> LogoutFacts:
    """What logind would do to this process; nothing where it does not run."""
    name = user or pwd.getpwuid(os.getuid()).pw_name
    lingers = (root / "var/lib/systemd/linger" / name).exists()
    if not (root / "run/systemd/system").is_dir():
        return LogoutFacts(kills=False, place="", lingers=lingers)
    return LogoutFacts(kills=shall_kill(read_settings(root), name), place=_place(root), lingers=lingers)


def shall_kill(settings: dict[str, str], user: str) -> bool:
    """logind's own rule: the switch, then who is spared, then who alone is meant (man logind.conf)."""
    only = settings.get("KillOnlyUsers", "").split()
    spared = settings.get("KillExcludeUsers", "root").split()
    return settings.get("KillUserProcesses", "").lower() in _YES and user not in spared and (not only or user in only)


def read_settings(root: Path) -> dict[str, str]:
    """The three settings as logind merges them: one main file, then every drop-in by name, each name once.

    The main file shows the defaults that a distribution has built in as comments: they count where nothing is set.
    """
    found: dict[str, str] = {}
    for file in _files(root):
        try:
            lines = file.read_text(errors="replace").splitlines()
        except OSError:
            continue
        matches = [match for line in lines if (match := _LINE.match(line))]
        for match in sorted(matches, key=lambda match: not match[1]):  # comments first: what is set stands over them
            if not match[1] or match[2] not in found:
                found[match[2]] = match[3]
    return found


def _files(root: Path) -> Iterator[Path]:
    mains = (root / home / "logind.conf" for home in HOMES)
    yield from [main for main in mains if main.is_file()][:1]
    drop_ins: dict[str, Path] = {}
    for home in reversed(HOMES):
        drop_ins |= {file.name: file for file in (root / home / "logind.conf.d").glob("*.conf")}
    yield from (drop_ins[name] for name in sorted(drop_ins))


def _place(root: Path) -> str:
    try:
        text = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    if re.search(r"/session-[^/]*\.scope", text):
        return "session"
    return "user" if re.search(r"/user@\d+\.service", text) else ""


def logout_findings(facts: LogoutFacts) -> tuple[Finding, ...]:
    """What a logout would do to a detached run.

    A session's scope is killed whether the user lingers or not; a lingering user's manager keeps what runs under it.
    """
    if facts.place == "session" and facts.kills:
        message = "this login's processes are killed at logout (logind: KillUserProcesses=yes), a detached run too"
        once = "" if facts.lingers else "`loginctl enable-linger` once, then "
        hint = f"{once}start it with `systemd-run --user --scope t5panel …`"
        return (Finding("warning", "logout.kills", message, hint),)
    if facts.place == "user" and not facts.lingers:
        message = "this shell runs under systemd's user manager, which ends with your last logout, and runs with it"
        return (Finding("warning", "logout.linger", message, "`loginctl enable-linger` keeps it"),)
    return ()


def logout_text(facts: LogoutFacts) -> str:
    """What becomes of a detached run."""
    return "detached runs end with the login" if logout_findings(facts) else "detached runs stay"
