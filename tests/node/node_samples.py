"""Configurations that several tests of the node begin with."""

KEY_SERVER = """
crypto ipsec transform-set T esp-aes esp-sha256-hmac
crypto ipsec profile P
 set transform-set T
crypto gdoi group G
 identity number 1
 server local
  sa ipsec 1
   profile P
   match address ipv4 101
access-list 101 permit ip any any
"""
