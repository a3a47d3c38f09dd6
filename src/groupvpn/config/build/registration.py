"""What registrations need of phase 1 and of addresses: a node without it runs, and no registration ever succeeds."""

from ipaddress import IPv4Address

from groupvpn.config.build.context import Context
from groupvpn.config.model import Configuration
from groupvpn.config.section import Section, Statement
from groupvpn.crypto.registry import IkeAuthentication


def check_registration(configuration: Configuration, context: Context) -> None:
    """Warn of groups that this node cannot join, or that nobody can join here."""
    served = {group.name for group in configuration.key_server_groups}
    joined = {member.group.name for member in configuration.members()}
    sections = {section.header.value("name"): section for section in context.root.sections("crypto gdoi group") if section.header}
    own = own_addresses(configuration)
    for name, section in sections.items():
        if name in joined:
            _check_policies(configuration, section, f"group `{name}` cannot be joined", context)
            for statement in section.statements("server address ipv4"):
                _check_server(configuration, statement, own, context)
        elif name in served:
            _check_policies(configuration, section, f"nobody can join group `{name}`", context)
            if not configuration.ike.keys:
                hint = "`crypto isakmp key KEY address A.B.C.D` for each member"
                context.warn(section.place, f"there is no `crypto isakmp key`: nobody can join group `{name}`", hint)
            _check_own(section, own, context)


def own_addresses(configuration: Configuration) -> frozenset[IPv4Address]:
    """Every address that the configuration gives an interface."""
    given = (item for interface in configuration.interfaces for item in (interface.address, *interface.secondary))
    return frozenset(item.ip for item in given if item)


def _check_policies(configuration: Configuration, section: Section, effect: str, context: Context) -> None:
    if not any(policy.authentication is IkeAuthentication.PRE_SHARED_KEY for policy in configuration.ike.policies):
        hint = "`crypto isakmp policy 10` with `authentication pre-share`, `encryption aes 256`, `hash sha256`, `group 19`"
        context.warn(section.place, f"no `crypto isakmp policy` has `authentication pre-share`: {effect}", hint)


def _check_server(configuration: Configuration, statement: Statement, own: frozenset[IPv4Address], context: Context) -> None:
    """Whether this node could register with a key server that it names."""
    value = statement.value("address")
    address = value if isinstance(value, IPv4Address) else next(iter(context.hosts.get(str(value).lower(), ())), None)
    if address is None:
        return
    if address.is_multicast or int(address) == 0:
        context.warn(statement.where("address"), f"{address} is not the address of a key server")
    elif address in own:
        context.warn(statement.where("address"), f"{address} is an address of this node, which is no key server")
    elif configuration.ike.preshared_key(address) is None:
        hint = f"`crypto isakmp key KEY address {address}`"
        context.warn(statement.where("address"), f"no `crypto isakmp key` is for {address}: this node cannot register with it", hint)


def _check_own(section: Section, own: frozenset[IPv4Address], context: Context) -> None:
    """A key server that speaks from an address no interface has is most likely a mistake."""
    local = section.section("server local")
    statement = local.statement("address ipv4") if local else None
    if statement is not None and own and statement.value("address") not in own:
        context.warn(statement.where("address"), f"no interface of this configuration has the address {statement.value('address')}")
