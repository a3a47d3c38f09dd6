"""Benchmarks: groupvpn beside other user-space VPNs, on one machine, in one run (`bench/README.md`)."""
