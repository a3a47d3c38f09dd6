"""Makes a `groupvpn.ipsec.sa.DesiredState` true on Linux: TAP devices, nftables, tc and the ESP engine."""
