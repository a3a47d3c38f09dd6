"""`debug crypto`, `no debug crypto`, `undebug`, `show debugging`, `terminal monitor`."""

from groupvpn.config.arguments import OneOf
from groupvpn.console.exec import Answer, ExecCommand, Request
from groupvpn.node.debugging import Topic
from groupvpn.node.router import Router

_TOPIC = {"topic": OneOf({topic.value: topic for topic in Topic}, "whose datagrams are logged")}
_OF_GDOI = "crypto gdoi {{gm | ks} [detail | event | rekey | replay] | detail | event | rekey | replay}"
_SAME = "The same as without options: each datagram is logged"
_WORDS = {"gdoi": "Registrations, rekeys and their acknowledgements", "isakmp": "Phase 1, and what is no message"}


def _switch(*, on: bool, chosen: Topic | None = None) -> Answer:
    def answer(router: Router, request: Request) -> str:
        topic = request.get("topic") or chosen
        topics = [topic] if isinstance(topic, Topic) else list(Topic)
        router.debugging.switch(topics, on=on)
        if len(topics) > 1:
            return "All possible debugging has been turned off"
        return "\n".join(
            [f"Crypto {topics[0].value.upper()} debugging is {'on' if on else 'off'}", *([_follow(router, request)] if on else [])]
        )

    return answer


def _show(router: Router, request: Request) -> str:
    return "\n".join(f"Crypto {topic.value.upper()} debugging is on" for topic in Topic if topic in router.debugging.topics)


def _follow(router: Router, request: Request) -> str:
    return f"% Follow the log with `groupvpn log {router.name}`; `show logging` has the last lines"


COMMANDS = (
    ExecCommand("debug crypto <topic>", "Log each datagram of registrations and rekeys, or of phase 1", _switch(on=True), _TOPIC, _WORDS),
    ExecCommand(f"debug {_OF_GDOI}", _SAME, _switch(on=True, chosen=Topic.GDOI)),
    ExecCommand(f"no debug {_OF_GDOI}", "Log them no longer", _switch(on=False, chosen=Topic.GDOI)),
    ExecCommand(f"undebug {_OF_GDOI}", "Log them no longer", _switch(on=False, chosen=Topic.GDOI)),
    ExecCommand("no debug crypto <topic>", "Log them no longer", _switch(on=False), _TOPIC, _WORDS),
    ExecCommand("undebug crypto <topic>", "Log them no longer", _switch(on=False), _TOPIC, _WORDS),
    ExecCommand("undebug all", "Log no datagrams any more", _switch(on=False)),
    ExecCommand("no debug all", "Log no datagrams any more", _switch(on=False)),
    ExecCommand("show debugging", "What is debugged", _show),
    ExecCommand("terminal monitor", "How to follow the log", _follow),
)
