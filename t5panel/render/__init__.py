"""Plans, runs and comparisons as plain text or JSON values, for both fronts. Prints nothing."""
