"""Pure arithmetic before a start: no clock, no files, no NVML."""
