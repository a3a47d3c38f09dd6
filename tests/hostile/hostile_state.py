"""Everything that a node remembers, as octets: two pictures are equal exactly when nothing has changed in between.

The whole graph of objects is written down, so that state nobody thought of is watched too. Left out is only what may change with any
datagram: counters, and memories of what was said to the log.
"""

import io
import pickle
from collections import Counter
from types import BuiltinFunctionType, BuiltinMethodType, FunctionType, MethodType
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from groupvpn.crypto.rsa import RsaPrivateKey
from groupvpn.crypto.secret import Secret
from groupvpn.gdoi.keyserver import KeyServer
from groupvpn.gdoi.member import GroupMember
from groupvpn.gdoi.member_pull import MemberPull
from groupvpn.gdoi.policy import KeyServerGroup, MemberGroup
from groupvpn.ike.custody import Custody
from groupvpn.ike.endpoint import IkeEndpoint
from groupvpn.ike.exchange import Exchange
from groupvpn.ike.nat_keepalive import NatKeepalives
from groupvpn.ike.policy import IkeConfiguration
from groupvpn.ike.restraint import Restraint
from groupvpn.ike.sa import IkeSa
from groupvpn.node.router import Router

BOOKKEEPING = {
    KeyServer: {"counters", "_now"},
    GroupMember: {"counters", "_last_report"},
    IkeEndpoint: {"counters"},
    Custody: {"_gone"},
    NatKeepalives: {"received"},
    IkeSa: {"_arrival"},
    MemberPull: {"_trouble"},
    Exchange: {"_failure", "_has_complained", "_derived", "_is_refused", "_guesses"},
}
"""Attributes that a dropped datagram may change: figures, the present time, what is told in words, work that need not be done twice,
and SAs that are over and wait to be wiped."""
_UNCHANGING = (IkeConfiguration, KeyServerGroup, MemberGroup, RsaPrivateKey, EllipticCurvePrivateKey)
_CALLS = (BuiltinFunctionType, BuiltinMethodType, FunctionType, MethodType, type(object().__str__))


class _Picture(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        """What never changes inside stands for itself; of functions the name is enough."""
        if isinstance(value, _UNCHANGING):
            return id(value)
        if isinstance(value, _CALLS):
            return value.__qualname__
        if isinstance(value, Restraint):
            return "restraint"
        return None

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Secret):
            return bytes, (value.reveal(),)
        left_out = BOOKKEEPING.get(type(value))
        if left_out is not None:
            names = getattr(type(value), "__slots__", None) or vars(value)
            state = {name: getattr(value, name) for name in names if name not in left_out}
            if isinstance(value, KeyServer):  # a place for registrations without any in it is as good as none
                state["_registrars"] = {key: held for key, held in value._registrars.items() if held.pull._exchanges}
            return _stand_in, (), state
        return NotImplemented


def _stand_in() -> Any:
    """Never called: pictures are compared, not read."""
    raise NotImplementedError


def picture(router: Router) -> bytes:
    """All state of the node's protocol cores."""
    stream = io.BytesIO()
    _Picture(stream, protocol=5).dump(
        (router.ike, router.cores.key_server, router.cores.members, sorted(Counter(router.enforcement.faults)))
    )
    return stream.getvalue()
