"""The system around a run, read before every start: files of the kernel only, some milliseconds."""

from __future__ import annotations

from t5panel.plan.planning import Finding
from t5panel.preflight.limits import limit_findings, read_limits
from t5panel.preflight.logout import logout_findings, read_logout
from t5panel.preflight.loopback import loopback_fault, loopback_findings
from t5panel.preflight.memory import host_findings, read_host
from t5panel.preflight.shm import read_shm, shm_findings


def system_findings(cards: int) -> tuple[Finding, ...]:
    """What the system holds against ranks on this many cards, 0 for the CPU; what is only good to know is the doctor's.

    Shared memory counts for NCCL between several cards: ranks on the CPU talk over the loopback.
    """
    found = (
        *host_findings(read_host()),
        *(shm_findings(read_shm()) if cards > 1 else ()),
        *limit_findings(read_limits()),
        *logout_findings(read_logout()),
        *loopback_findings(loopback_fault()),
    )
    return tuple(finding for finding in found if finding.severity != "info")
