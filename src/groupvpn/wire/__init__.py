"""Wire formats: octets to frozen dataclasses and back. No state, no keys, no I/O.

Every decoder is total: it returns a value or raises `DecodeError`, in time and memory bounded by the named limits of its module.

- `isakmp`: the header and whole messages; `chain`: the payloads of a message with their exact octets for hashes
- `payloads`: the simple payloads; `sa`: proposals and transforms; `attributes`: TV and TLV
- `gdoi_sa`: SA of GDOI with SAK, GAP and SAT; `gdoi_keys`: KD
- `natt`: NAT-D, NAT-OA and the framing on port 4500; `vendor`: vendor IDs; `iana`: the numbers
"""
