"""A rank without torch: `python light_rank.py RUN` enters the run as every rank does, then fails at step 7."""

from __future__ import annotations

from t5panel.trainers.guard import enter_rank

if __name__ == "__main__":
    me = enter_rank()
    me.witness.step = 7
    raise ValueError(f"rank {me.rank} met a bad row: \udce4")
