"""Topologies in network namespaces, and large fleets in deterministic simulation."""
