from observations import assert_lossless, shown, streams
from tests.waiting import until

from groupvpn.lab.lab import Lab


def sender_ids(lab: Lab, member: str) -> list[str]:
    return shown(lab.node(member), "show crypto gdoi gm", "Sender IDs").partition(" (")[0].split(", ")


def test_each_worker_has_a_sender_id(lab: Lab) -> None:
    first, second = sender_ids(lab, "gm1"), sender_ids(lab, "gm2")
    assert (len(first), len(second)) == (2, 1)
    assert len({*first, *second}) == 3
    assert f"Sender IDs        : {', '.join(first)}" in lab.node("ks").show("show crypto gdoi ks members")


def test_the_threads_are_told(lab: Lab) -> None:
    engine = lab.node("gm1").show("show crypto engine")
    assert "Threads                  : 2 out, " in engine
    assert "Threads are bound to     : processors 0" in engine
    assert "Threads                  : 1 out, 1 in" in lab.node("gm2").show("show crypto engine")


def test_flows_cross_several_workers_and_a_rekey_without_a_loss(lab: Lab) -> None:
    pairs = (("h1", "h2"), ("h2", "h1"))
    with streams(lab, *pairs, *pairs) as flows:
        before = shown(lab.node("gm1"), "show crypto gdoi gm", "Sender IDs")
        lab.node("ks").show("crypto gdoi ks rekey activation-delay 1")
        until(lambda: "RECV_REKEY" in lab.node("gm1").show("show logging"), "the rekey arrived")
        assert shown(lab.node("gm1"), "show crypto gdoi gm", "Sender IDs") == before
    assert_lossless(flows)
