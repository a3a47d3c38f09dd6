"""The small key server and member that tests of the model begin with, and what `parse` makes of a text."""

from groupvpn.config import Configuration, Severity, parse, render

KEY_SERVER = """
crypto ipsec transform-set t esp-gcm 256
crypto ipsec profile p
 set transform-set t
access-list 101 permit ip any any
crypto gdoi group G
 identity number 1
 server local
  address ipv4 10.0.0.1
  sa ipsec 1
   profile p
   match address ipv4 101
"""
MEMBER = """
crypto gdoi group G
 identity number 1
 server address ipv4 10.0.0.1
crypto map m 10 gdoi
 set group G
interface GigabitEthernet0/0
 ip address 10.0.1.1 255.255.255.0
 crypto map m
"""


def good(text: str, **options: object) -> Configuration:
    result = parse(text, "test.conf", **options)  # type: ignore[arg-type]
    assert result.configuration is not None, render(result.errors)
    return result.configuration


def said(text: str, severity: Severity = Severity.WARNING, **options: object) -> str:
    result = parse(text, "test.conf", **options)  # type: ignore[arg-type]
    return "\n".join(f"{item.line}: {item.message}" for item in result.diagnostics if item.severity is severity)


def wrong(text: str, **options: object) -> str:
    return said(text, Severity.ERROR, **options)
