"""How a cause is said: one sentence with what was measured, and what to do next."""

from __future__ import annotations

import re
import signal

from t5panel.contract.records import Diagnosis
from t5panel.monitor.clues import Evidence
from t5panel.monitor.gpu_memory import as_flags, gib, read_shortage, smaller
from t5panel.monitor.proc import signal_name
from t5panel.monitor.suspects import Suspect

LONGEST_SENTENCE = 300
DETAIL_LINES = 60
TIGHT_SHARE = 0.95
"""Of the host's memory: above it a kill is put down to memory, as when processes mostly waited for memory."""
TIGHT_PRESSURE = 10.0
"""Percent of ten seconds (PSI, full avg10)."""
_KERNEL_KILL = re.compile(r"Killed process (?P<pid>\d+) \((?P<name>[^)]*)\).*?anon-rss:(?P<kilobytes>\d+)kB")
_KERNEL_OUT_OF_MEMORY = re.compile(r"[Oo]ut of memory|oom-kill:|invoked oom-killer|oom_reaper: reaped")


def explain(evidence: Evidence, suspect: Suspect) -> Diagnosis:
    """A suspect's row of the table as a diagnosis; without a row its exception and its place."""
    error, row = suspect.error, suspect.row
    detail = "\n".join((error.traceback or error.text).splitlines()[-DETAIL_LINES:])
    if row is None:
        place = f" ({error.where})" if error.where else ""
        sentence = f"{_who(evidence, suspect)} failed with {error.gist}{place}"
        hint = f"its traceback is in the logs folder; `t5panel resume {evidence.run_id}` tries again"
        return Diagnosis("exception", one_line(sentence), hint, suspect.rank, detail)
    words = _Words(_words(evidence, suspect))
    return Diagnosis(
        row.code, one_line(row.sentence.format_map(words)), one_line(row.hint.format_map(words)), suspect.rank, detail
    )


class _Words(dict[str, str]):
    """Words of a template; one that is not known is left out."""

    def __missing__(self, name: str) -> str:
        return ""


def _words(evidence: Evidence, suspect: Suspect) -> dict[str, str]:
    """All that a row's templates may say."""
    found = suspect.groups
    shortage, cure = _gpu_memory(evidence, suspect)
    last_error = re.search(r"Last error:\s*\n([^\n]+)", suspect.error.text)
    words = {
        "who": _who(evidence, suspect),
        "run": evidence.run_id,
        "gist": suspect.error.gist if suspect.error.name else suspect.error.message,
        "words": suspect.error.gist if suspect.error.name else suspect.error.message,
        "where": suspect.error.where,
        "memory": memory_now(evidence),
        "free": "" if evidence.free_disk is None else f", {gib(evidence.free_disk)} are free now",
        "shortage": shortage,
        "smaller": cure,
        "seconds": f"{int(found['milliseconds']) / 1000:,.0f} s" if "milliseconds" in found else "",
        "bytes_words": f", {gib(int(found['bytes'][:25]))} were asked for" if "bytes" in found else "",
        "extension_words": f" ({found['extension']})" if "extension" in found else "",
        "last_error": f" ({last_error[1].strip()})" if last_error else "",
        "signal": signal_name(int(found["number"][:3])) if "number" in found else "",
        "address": "its address",
        "logout": logout_hint(evidence) if evidence.login.kill_user_processes else resume(evidence),
    }
    if "operation" in found and "milliseconds" in found:
        words["operation_words"] = f" in {found['operation']} for {words['seconds']}"
    return words | found


def _who(evidence: Evidence, suspect: Suspect) -> str:
    return suspect.origin + (at_step(evidence) if suspect.rank is not None else "")


def _gpu_memory(evidence: Evidence, suspect: Suspect) -> tuple[str, str]:
    """What was asked for and held, and what needs less; both empty for another death."""
    if suspect.row is None or suspect.row.code != "cuda-out-of-memory":
        return "", ""
    failure = suspect.failure
    held = (failure.vram_allocated, failure.vram_reserved) if failure else (None, None)
    seen = read_shortage(suspect.error.text, allocated=held[0], reserved=held[1])
    figures = (
        ("{} asked for", seen.requested),
        ("{} allocated", seen.allocated),
        ("{} reserved", seen.reserved),
        ("{} used by another process", seen.others),
        ("of {}", seen.total),
    )
    said = ", ".join(words.format(gib(size)) for words, size in figures if size is not None).replace(", of ", " of ")
    card = f" on its card {seen.card}" if seen.card is not None else ""
    return card + (f": {said}" if said else ""), _cure(evidence, fragmented=seen.fragmented, shared=bool(seen.others))


def _cure(evidence: Evidence, *, fragmented: bool, shared: bool) -> str:
    parts = []
    if shared:
        parts.append("another process holds memory of this card: `t5panel doctor` names it")
    if evidence.batch is None:
        parts.append("halve `train.per_device_train_batch_size`, double `train.gradient_accumulation_steps`")
    elif less := smaller(evidence.batch):
        parts.append(f"`{as_flags(evidence.batch, less)}` needs less for the same {less.effective:,} rows per step")
    else:
        parts.append("the batch is 1 and activations are recomputed: shorten `--set data.max_source_length=…`")
    if fragmented:
        parts.append("PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True in the environment avoids the fragmentation")
    return "; ".join(parts)


def by_signal(evidence: Evidence, name: str, number: int, *, code: str = "") -> Diagnosis:
    """Somebody or something ended a process: the kernel only where there is evidence for it."""
    rank = int(name[5:]) if name.startswith("rank ") and name[5:].isdigit() else None
    subject = name + (at_step(evidence) if name != "the preparation" else "")
    what = signal_name(-number)
    if number != -signal.SIGKILL:
        crashed = number in (-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGABRT, -signal.SIGFPE)
        how = "crashed with" if crashed else "was ended by"
        outside = "" if crashed else " from outside"
        memory = memory_now(evidence) if number == -signal.SIGBUS else ""
        sentence = f"{subject} {how} {what}{outside}{memory}"
        return Diagnosis(code or ("crashed" if crashed else "killed"), one_line(sentence), resume(evidence), rank)
    if kill := kernel_kill(evidence):
        sentence = f"{subject} was killed by SIGKILL, {kill}{memory_now(evidence)}"
        return Diagnosis("host-out-of-memory", one_line(sentence), memory_hint(evidence), rank)
    if is_tight(evidence):
        sentence = f"{subject} was killed by SIGKILL, most likely for want of host memory{memory_now(evidence)}"
        return Diagnosis("host-memory-pressure", one_line(sentence), memory_hint(evidence), rank)
    sentence = f"{subject} was killed by SIGKILL, by whom is unknown{memory_now(evidence)}"
    return Diagnosis(code or "killed", one_line(sentence), resume(evidence), rank)


def kernel_kill(evidence: Evidence) -> str:
    """What the kernel says about having killed for want of memory; empty without evidence."""
    for line in evidence.kernel:
        if found := _KERNEL_KILL.search(line):
            size = gib(int(found["kilobytes"][:18]) * 1024)
            return f"the kernel ran out of host memory and killed process {found['pid']} ({found['name']}, {size})"
    before, after = evidence.host.kills_before, evidence.host.kills_after
    for name, then, now in (("cgroup", before.cgroup, after.cgroup), ("machine", before.machine, after.machine)):
        if then is not None and now is not None and now > then:
            return f"the kernel ran out of host memory (it counted {now - then} such kills in the {name})"
    if any(_KERNEL_OUT_OF_MEMORY.search(line) for line in evidence.kernel):
        return "the kernel ran out of host memory"
    return ""


def is_tight(evidence: Evidence) -> bool:
    """Whether a kill from outside is most likely one for want of memory, though the kernel does not say so."""
    host = evidence.host
    full = host.full is not None and host.full >= TIGHT_PRESSURE
    return full or (host.limit > 0 and host.used >= TIGHT_SHARE * host.limit)


def memory_now(evidence: Evidence) -> str:
    """`: memory was at 11.8 of 12.0 GiB`, with the pressure when there was some."""
    host = evidence.host
    if host.limit <= 0:
        return ""
    pressure = f", pressure {host.full:.0f} %" if host.full else ""
    return f": memory was at {host.used / 2**30:.1f} of {host.limit / 2**30:.1f} GiB{pressure}"


def memory_hint(evidence: Evidence) -> str:
    """How to go on with less host memory."""
    return (
        f"{resume(evidence)}; fewer ranks (`--set num_gpus=…`) or "
        "`--set train.dataloader_num_workers=0` need less host memory"
    )


def resume(evidence: Evidence) -> str:
    """How to go on."""
    return f"`t5panel resume {evidence.run_id}` goes on from its newest complete checkpoint"


def logout_hint(evidence: Evidence) -> str:
    """How a run outlives a logout."""
    return (
        "`loginctl enable-linger` and a start under `systemd-run --user --scope`, or KillUserProcesses=no in "
        f"logind.conf, keep a run alive; `t5panel resume {evidence.run_id}` goes on"
    )


def at_step(evidence: Evidence) -> str:
    """` at step 1,240`, empty before the first one."""
    return f" at step {evidence.step:,}" if evidence.step is not None else ""


def doing(evidence: Evidence) -> str:
    """`running at step 40`: the run's last message, which continues "the run was"."""
    return evidence.doing or ("running" + at_step(evidence))


def one_line(text: str) -> str:
    """A text as one line of bounded length."""
    one = re.sub(r"\s+([,;:.])(?=\s|$)", r"\1", " ".join(text.split()))
    return one if len(one) <= LONGEST_SENTENCE else one[: LONGEST_SENTENCE - 1].rstrip() + "…"
