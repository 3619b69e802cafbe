"""What the panel and the trainers share: the spec, the records, the run directory. No torch, no textual."""
