"""IKEv1 phase 1 (RFC 2409) and what lives beside it: notifies, deletes, dead peer detection, NAT traversal. Sans-IO.

`endpoint.IkeEndpoint` is the door; `sa.IkeSa` is what comes out; `events` are the effects beyond `groupvpn.effects`. Inside, `machine` is
the table of states, `main_mode` and `aggressive_mode` are its steps, `context` is what a step knows, `exchange` runs one phase 1,
`negotiations` holds those under way, `custody` and `upkeep` look after SAs.
"""
