"""What a run that was killed has left, taken over by the next one: nothing that it has protected passes in the clear meanwhile."""

from groupvpn.config import Configuration, Role
from groupvpn.gdoi.protection import EVERYTHING
from groupvpn.ipsec.sa import TrafficRule
from groupvpn.node import messages
from groupvpn.node.cores import Cores, places_of
from groupvpn.node.enforcement import Enforcement, LeftBehind, is_needed_by
from groupvpn.node.in_force import InForce
from groupvpn.node.syslog import Log


def take_over(configuration: Configuration, cores: Cores, in_force: InForce, enforcement: Enforcement, log: Log) -> None:
    """What a run that was killed has protected holds until its groups are registered, if its filters still hold it. Where it is not known
    what that was, nothing passes until then but to the key servers, as with `fail-close`."""
    is_unknown = in_force.is_unknown
    is_server = configuration.role is Role.KEY_SERVER and not configuration.has_manual_entries
    if is_server and not in_force.last_rules and not is_unknown:
        return  # it never steers, and has no use for what it takes to ask
    members = list(configuration.members())
    opening = [bound for bound in members if bound.group.fail_close is None]
    asked = enforcement.left_behind([interface.device for bound in opening for interface in bound.interfaces])
    left = asked or LeftBehind()
    places = places_of(members)
    kept = {place: rules for place, rules in in_force.last_rules.items() if place in places}
    if is_unknown:
        kept = {place: (TrafficRule(EVERYTHING),) for place in places_of(opening)}
    if kept and (left.ours or left.others or asked is None):
        cores.keep(kept)
        what = "all traffic of its groups' interfaces" if is_unknown else "traffic of its groups"
        log.write(messages.POLICY_KEPT(what=what))
    elif left.others:
        log.write(messages.POLICY_LOST(devices=", ".join(sorted(left.others))))
    if is_unknown:
        in_force.note_rules(cores.kept)
    if left.ours and not is_needed_by(configuration):
        for device in enforcement.lift():
            log.write(messages.POLICY_LIFTED(device=device))
