"""Exec commands, their layouts, and the `groupvpn` command."""
