"""Reading the machine and the run directory: hardware, tail, history, watch."""
