"""Words of a spec that plans and records share; without pydantic, for a panel that only looks at runs."""

from __future__ import annotations

from typing import Literal

Method = Literal["manual", "trainer", "deepspeed", "llamafactory"]
Launcher = Literal["accelerate", "torchrun", "llamafactory-cli", "deepspeed"]
Device = Literal["auto", "cuda", "cpu"]
