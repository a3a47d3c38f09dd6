"""The typed model from the tree of statements: every reference checked, every remark with its place."""

from collections.abc import Collection, Mapping
from types import MappingProxyType

from groupvpn.config.build.access_lists import build_access_lists
from groupvpn.config.build.context import Context
from groupvpn.config.build.groups import build_groups
from groupvpn.config.build.interfaces import build_crypto_maps, build_interfaces
from groupvpn.config.build.phase1 import build_ike
from groupvpn.config.build.registration import check_registration
from groupvpn.config.build.roles import check_role
from groupvpn.config.build.transforms import build_transforms
from groupvpn.config.diagnostics import Diagnostic, Severity
from groupvpn.config.model import Configuration
from groupvpn.config.section import Section
from groupvpn.ipsec.sa import DontFragment, Fragmentation


def build(
    root: Section,
    lines: Mapping[int, str],
    devices: Mapping[str, str] | None = None,
    present: Collection[str] | None = None,
    refused: Collection[str] = (),
) -> tuple[Configuration, list[Diagnostic]]:
    """The model that `root` describes, and what there is to say of it; the model is of use only if no diagnostic is an error.

    `refused` are words of lines that have an error already: what such a line names is not said to be missing.
    """
    context = Context(root, lines, devices or {}, present, refused=set(refused))
    hostname = root.statement("hostname")
    domain = root.statement("ip domain name")
    name = hostname.value("name") if hostname else "Router"
    suffix = domain.value("name") if domain else ""
    context.hosts = {item.value("name").lower(): item.all("address") for item in root.statements("ip host")}
    build_access_lists(context)
    build_transforms(context)
    interfaces = build_interfaces(context)
    served, joined = build_groups(context, interfaces)
    crypto_maps = build_crypto_maps(context, interfaces, joined)
    df_bit, fragmentation = root.statement("crypto ipsec df-bit"), root.statement("crypto ipsec fragmentation")
    configuration = Configuration(
        sections=root,
        hostname=name,
        domain=suffix,
        hosts=MappingProxyType(context.hosts),
        ike=build_ike(context, f"{name}.{suffix}" if suffix else name),
        access_lists=MappingProxyType(context.access_lists),
        transform_sets=MappingProxyType(context.transform_sets),
        profiles=MappingProxyType(context.profiles),
        key_server_groups=served,
        member_groups=MappingProxyType(joined),
        crypto_maps=MappingProxyType(crypto_maps),
        interfaces=interfaces,
        df=df_bit.value("action") if df_bit else DontFragment.COPY,
        fragmentation=fragmentation.value("when") if fragmentation else Fragmentation.BEFORE,
    )
    if not any(item.severity is Severity.ERROR for item in context.diagnostics):
        # Else what a registration lacks may be what was refused.
        check_registration(configuration, context)
        check_role(configuration, context)
    return configuration, context.diagnostics
