"""Screens lay out and turn keys into messages."""
