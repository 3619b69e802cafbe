"""This machine, as a plan needs it."""

from __future__ import annotations

from t5panel.monitor.hardware import Nvml, cores, host_memory
from t5panel.plan.cards import short_name
from t5panel.plan.machine import CardFacts, Machine


def read_machine() -> Machine:
    """Cards by NVML and host memory by /proc and cgroup."""
    nvml = Nvml()
    found = nvml.cards()
    driver = nvml.driver() if found else None
    version = driver.version if driver else ""
    cards = tuple(
        CardFacts(card.index, short_name(nvml.name(card.index)), card.total, card.used, version) for card in found
    )
    _, limit = host_memory()
    return Machine(cards, ram_limit=limit, cores=cores())
