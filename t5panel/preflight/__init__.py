"""Reads the real machine and the real files before a start; decides nothing."""
