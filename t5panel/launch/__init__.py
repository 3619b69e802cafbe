"""From a plan to processes: the command, the supervisor, and stopping all that belongs to a run."""
