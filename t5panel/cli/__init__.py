"""The command line: parse, call, print, exit. The only place that makes exit codes."""

from t5panel.cli.console import display_options
from t5panel.cli.control import attach, resume, stop
from t5panel.cli.history import compare, export, note_on, runs
from t5panel.cli.machine import doctor, setup
from t5panel.cli.plans import estimate, plan, presets, show
from t5panel.cli.start import main

__all__ = ["main"]

for each in (plan, estimate, presets, show, runs, attach, note_on, stop, resume, compare, export, doctor, setup):
    main.add_command(each)
for each in (main, *main.commands.values()):
    display_options(each)
