"""The panel: the only package that imports textual."""
