"""The configuration language: grammar as data, parser, immutable model, diff, running-config."""
