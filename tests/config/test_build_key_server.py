"""Groups that are served here, from their statements: values, defaults, references, and what is said of them."""

from ipaddress import IPv4Address

import pytest
from build_samples import KEY_SERVER, MEMBER, good, said, wrong

from groupvpn.config import Severity, parse, running_config
from groupvpn.crypto.registry import KekCipher, SignatureHash
from groupvpn.gdoi.policy import Replay, ReplayMethod


class TestKeyServer:
    def test_defaults(self) -> None:
        (group,) = good(KEY_SERVER).key_server_groups
        assert group.rekey.cipher is KekCipher.TRIPLE_DES_CBC
        assert group.rekey.signature_hash is SignatureHash.SHA1
        assert (group.rekey.lifetime, group.rekey.retransmit_period, group.rekey.retransmit_count) == (86400, 10, 2)
        assert (group.rekey.unicast, group.rekey.key_label, group.rekey.acknowledge) == (False, None, True)
        assert group.teks[0].replay == Replay(ReplayMethod.COUNTER, 64)
        assert group.sender_id_bits == 24

    def test_everything_a_key_server_can_say(self) -> None:
        text = (
            "access-list 5 permit 10.0.0.0 0.0.0.255\naccess-list 121 permit udp host 10.0.0.1 eq 848 host 239.0.1.2 eq 848\n"
            + KEY_SERVER
            + "   replay counter window-size 512\n  rekey algorithm aes 256\n  rekey sig-hash algorithm sha256\n"
            "  rekey lifetime seconds 300\n"
            "  rekey retransmit 20 number 5\n  rekey authentication mypubkey rsa K\n  rekey address ipv4 121\n"
            "  no rekey acknowledgement\n  authorization address ipv4 5\n  sa receive-only\n  group size small 16\n"
        )
        (group,) = good(text).key_server_groups
        assert (group.rekey.cipher, group.rekey.signature_hash) == (KekCipher.AES_256_CBC, SignatureHash.SHA2_256)
        assert (group.rekey.lifetime, group.rekey.retransmit_period, group.rekey.retransmit_count) == (300, 20, 5)
        assert group.rekey.key_label == "K"
        assert group.rekey.multicast_acl is not None
        assert str(group.rekey.multicast_acl.entries[0].destination.address) == "239.0.1.2"
        assert not group.rekey.acknowledge
        assert group.authorization is not None
        assert group.receive_only
        assert group.sender_id_bits == 16
        assert group.teks[0].replay == Replay(ReplayMethod.COUNTER, 512)

    def test_replay_of_one_kind_pushes_out_the_other(self) -> None:
        counter, time = "   replay counter window-size 512\n", "   replay time window-size 5\n"
        assert good(KEY_SERVER + counter + time).key_server_groups[0].teks[0].replay == Replay(ReplayMethod.TIME, 5)
        assert good(KEY_SERVER + time + counter).key_server_groups[0].teks[0].replay == Replay(ReplayMethod.COUNTER, 512)
        assert good(KEY_SERVER + time + "   replay counter window-size 64\n").key_server_groups[0].teks[0].replay == Replay(
            ReplayMethod.COUNTER, 64
        )
        assert good(KEY_SERVER + "   no replay counter window-size\n").key_server_groups[0].teks[0].replay == Replay(ReplayMethod.DISABLED)

    @pytest.mark.parametrize("lines", ["{time}{no}", "{no}{time}", "{time}{no}{no}"])
    def test_no_counter_says_nothing_where_replay_is_by_time(self, lines: str) -> None:
        text = lines.format(time="   replay time window-size 5\n", no="   no replay counter window-size\n")
        configuration = good(KEY_SERVER + text)
        assert configuration.key_server_groups[0].teks[0].replay == Replay(ReplayMethod.TIME, 5)
        assert good(running_config(configuration)) == configuration
        assert "no replay" not in running_config(configuration)

    @pytest.mark.parametrize("keywords", ["esp-aes 256 esp-sha256-hmac", "esp-3des esp-sha-hmac", "esp-null esp-sha-hmac"])
    def test_a_replay_window_needs_packets_that_name_their_sender(self, keywords: str) -> None:
        """With these transforms one window would serve all senders, and drop what the second of them sends."""
        text = KEY_SERVER.replace("esp-gcm 256", keywords)
        (tek,) = good(text).key_server_groups[0].teks
        assert tek.replay == Replay(ReplayMethod.DISABLED)
        assert "window" not in said(text)
        asked_for = text + "   replay counter window-size 64\n"
        (tek,) = good(asked_for).key_server_groups[0].teks
        assert tek.replay == Replay(ReplayMethod.COUNTER, 64)
        (warning,) = (item for item in parse(asked_for, "f").diagnostics if "groups of two members only" in item.message)
        assert warning.line == len(asked_for.splitlines())
        assert "remove the line" in warning.hint
        assert "two members" not in said(text + "   no replay counter window-size\n")
        assert "two members" not in said(KEY_SERVER + "   replay counter window-size 64\n")

    @pytest.mark.parametrize(
        ("keywords", "hint"),
        [
            ("esp-aes 256 esp-sha256-hmac", "`replay time window-size 5` gives one, and so does `esp-gcm`"),
            ("esp-null esp-sha-hmac", "`esp-gmac` gives one"),
            ("ah-sha-hmac", "`esp-gmac` gives one"),
        ],
    )
    def test_a_window_that_nobody_switched_off_and_that_is_not_there_is_told(self, keywords: str, hint: str) -> None:
        """The manuals' default is a window of 64 packets, and a global line names another: such a group has none all the same."""
        text = "crypto ipsec security-association replay window-size 1024\n" + KEY_SERVER.replace("esp-gcm 256", keywords)
        (notice,) = (item for item in parse(text).diagnostics if item.severity is Severity.NOTICE)
        assert (notice.line, notice.hint) == (11, hint)
        assert "`sa ipsec 1` of group `G` has no anti-replay" in notice.message
        assert "has no anti-replay" in said(text.partition("\n")[2], Severity.NOTICE)
        switched_off = ("   no replay counter window-size\n", " set security-association replay disable\n")
        assert "no anti-replay" not in said(text.replace("replay window-size 1024", "replay disable"), Severity.NOTICE)
        profile = text.replace(" set transform-set t\n", f" set transform-set t\n{switched_off[1]}")
        assert "no anti-replay" not in said(text + switched_off[0], Severity.NOTICE)
        assert "no anti-replay" not in said(profile, Severity.NOTICE)
        assert said(KEY_SERVER, Severity.NOTICE) == "", "here each sender has a window"

    def test_further_transform_sets_of_a_group_are_told(self) -> None:
        text = "crypto ipsec transform-set u esp-gcm\n" + KEY_SERVER.replace(" set transform-set t", " set transform-set u t")
        second = "  sa ipsec 2\n   profile p\n   match address ipv4 101\n"
        message = "5: a group has one transform set, since members do not negotiate: of profile `p` it uses `u`"
        assert [line for line in said(text + second).splitlines() if "transform set" in line] == [message]
        assert "negotiate" not in said(text[: text.index("crypto gdoi")]), "no group uses it"

    def test_a_replay_window_without_its_size_is_the_routers_default(self) -> None:
        for line, replay in (("counter", Replay(ReplayMethod.COUNTER, 64)), ("time", Replay(ReplayMethod.TIME, 100))):
            for text in (f"   replay {line}\n", f"   replay {line} window-size\n"):
                configuration = good(KEY_SERVER.replace("esp-gcm 256", "esp-aes esp-sha-hmac") + text)
                assert configuration.key_server_groups[0].teks[0].replay == replay
                assert f"   replay {line} window-size {replay.window}\n" in running_config(configuration)
        for line in ("   replay time\n   no replay time\n", "   replay time 5\n"):
            parsed = parse(KEY_SERVER + line).configuration
            assert (parsed is None) == line.endswith("5\n")
            assert parsed is None or parsed == good(KEY_SERVER)

    @pytest.mark.parametrize(
        ("everywhere", "profile", "policy", "counter_mode", "other"),
        [
            ("", "", "", 64, 0),
            ("window-size 1024", "", "", 1024, 0),
            ("window-size", "", "", 64, 0),
            ("disable", "", "", 0, 0),
            ("window-size 1024", "window-size 256", "", 256, 256),
            ("disable", "window-size", "", 64, 64),
            ("window-size 1024", "disable", "", 0, 0),
            ("disable", "window-size 128", "replay counter window-size 512", 512, 512),
            ("window-size 128", "window-size 128", "no replay counter window-size", 0, 0),
        ],
    )
    def test_the_window_of_a_group(self, everywhere: str, profile: str, policy: str, counter_mode: int, other: int) -> None:
        """What `sa ipsec` says counts before its profile, and that before the global setting, which gives no window where senders mix."""
        text = f"crypto ipsec security-association replay {everywhere}\n" if everywhere else ""
        text += KEY_SERVER + (f"   {policy}\n" if policy else "")
        if profile:
            text = text.replace(" set transform-set t\n", f" set transform-set t\n set security-association replay {profile}\n")
        for keywords, packets in (("esp-gcm 256", counter_mode), ("esp-aes 256 esp-sha256-hmac", other)):
            (tek,) = good(text.replace("esp-gcm 256", keywords)).key_server_groups[0].teks
            assert tek.replay == (Replay(ReplayMethod.COUNTER, packets) if packets else Replay(ReplayMethod.DISABLED)), keywords
            printed = running_config(good(text.replace("esp-gcm 256", keywords)))
            assert good(printed).key_server_groups[0].teks == (tek,)

    @pytest.mark.parametrize("size", ["0", "63", "100", "2048"])
    def test_a_window_is_a_power_of_two_from_64_to_1024(self, size: str) -> None:
        assert f"`{size}` is none of 64, 128, 256, 512, 1024" in wrong(f"crypto ipsec security-association replay window-size {size}\n")

    @pytest.mark.parametrize(("everywhere", "profile", "seconds"), [(None, None, 3600), (7200, None, 7200), (7200, 900, 900)])
    def test_the_lifetime_of_a_profile(self, everywhere: int | None, profile: int | None, seconds: int) -> None:
        text = f"crypto ipsec security-association lifetime seconds {everywhere}\n" if everywhere else ""
        text += "crypto ipsec security-association lifetime kilobytes 100000\n" + KEY_SERVER
        if profile:
            said_here = f" set transform-set t\n set security-association lifetime seconds {profile}\n"
            text = text.replace(" set transform-set t\n", said_here)
        assert good(text).key_server_groups[0].teks[0].profile.lifetime == seconds

    @pytest.mark.parametrize("keywords", ["esp-gcm 256", "esp-aes 256 esp-sha256-hmac"])
    @pytest.mark.parametrize("line", ["", "   replay counter window-size 64\n", "   no replay counter window-size\n"])
    def test_replay_survives_the_running_configuration(self, keywords: str, line: str) -> None:
        before = good(KEY_SERVER.replace("esp-gcm 256", keywords) + line)
        printed = running_config(before)
        assert ("replay counter" in printed) == bool(line)
        assert good(printed).key_server_groups == before.key_server_groups

    def test_traffic_policies_come_by_number(self) -> None:
        text = KEY_SERVER.replace("sa ipsec 1\n", "sa ipsec 9\n   profile p\n   match address ipv4 101\n  sa ipsec 1\n")
        assert [tek.slot for tek in good(text).key_server_groups[0].teks] == [1, 9]

    @pytest.mark.parametrize("transform", ["esp-seal esp-sha-hmac", "ah-sha-hmac esp-aes"])
    def test_a_group_whose_transform_we_do_not_have_is_refused(self, transform: str) -> None:
        text = KEY_SERVER.replace("esp-gcm 256", transform)
        assert "members would send its traffic in the clear" in wrong(text)
        assert parse(text + "  no sa ipsec 1\n", "test.conf").errors == ()

    def test_a_mistyped_profile_or_list_would_leave_traffic_unprotected(self) -> None:
        text = KEY_SERVER.replace("access-list 101", "ip access-list extended TRAFFIC\n").replace("101", "TRAFFIC")
        text = text.replace("profile p", "profile traffic")
        good(text)
        for line, name in (("   profile traffic", "profile `trafic`"), ("   match address ipv4 TRAFFIC", "access list `TRAFIC`")):
            mistyped = text.replace(line, line.replace("ff", "f").replace("FF", "F"))
            assert f"{name}, which does not exist" in wrong(mistyped)
            (error,) = parse(mistyped).errors
            assert error.hint.lower() == "did you mean `traffic`?"

    @pytest.mark.parametrize(
        ("gone", "lacks", "adds"),
        [
            (["   profile p\n"], "no `profile`", "`profile NAME`"),
            (["   match address ipv4 101\n"], "no `match address`", "`match address ipv4 LIST`"),
            (
                ["   profile p\n", "   match address ipv4 101\n"],
                "no `profile` and no `match address`",
                "`profile NAME` and `match address ipv4 LIST`",
            ),
        ],
    )
    def test_an_unfinished_traffic_policy_would_be_taken_for_a_removed_one(self, gone: list[str], lacks: str, adds: str) -> None:
        text = KEY_SERVER
        for line in gone:
            text = text.replace(line, "")
        message = f"10: `sa ipsec 1` of group `G` has {lacks}: members would send its traffic in the clear"
        assert wrong(text) == message
        assert wrong(KEY_SERVER + "  sa ipsec 2\n") == message.replace("10:", "13:").replace("ipsec 1", "ipsec 2").replace(
            lacks, "no `profile` and no `match address`"
        )
        (error,) = parse(text).errors
        assert error.hint == f"add {adds}, or remove it with `no sa ipsec 1`"
        assert good(text + "  no sa ipsec 1\n").key_server_groups[0].teks == (), "as the hint says"
        excerpt = text[text.index("crypto gdoi") :]
        assert f"5: {message.partition(': ')[2]}" in said(excerpt)
        assert wrong(excerpt) == ""

    def test_a_group_without_identity_would_be_taken_for_a_removed_one(self) -> None:
        text = KEY_SERVER.replace(" identity number 1\n", "")
        assert wrong(text) == "6: group `G` has no identity: it would be served no more, and its members and keys forgotten"
        (error,) = parse(text).errors
        assert error.hint == "add `identity number N`, or remove the group with `no crypto gdoi group G`"
        assert good(text + "no crypto gdoi group G\n").key_server_groups == (), "as the hint says"
        excerpt = "crypto gdoi group G\n server local\n"
        assert "group `G` has no identity: it is incomplete and left out" in said(excerpt)
        assert wrong(excerpt) == wrong("crypto gdoi group G\n") == "", "neither served nor joined yet"
        assert "group `G` has no identity: it is incomplete and left out" in said("crypto gdoi group G\n")

    def test_a_profile_without_transform_set_would_leave_traffic_unprotected(self) -> None:
        assert "which has no transform set" in wrong(KEY_SERVER.replace(" set transform-set t\n", ""))
        assert "whose transform set `tt` does not exist" in wrong(KEY_SERVER.replace("set transform-set t\n", "set transform-set tt\n"))

    def test_an_excerpt_without_profiles_or_lists_leaves_the_policy_out(self) -> None:
        without_profile = KEY_SERVER[KEY_SERVER.index("access-list") :]
        assert "profile `p`, which does not exist" in said(without_profile)
        text = KEY_SERVER.replace("access-list 101 permit ip any any\n", "")
        assert "access list `101`, which does not exist" in said(text)
        assert good(text).key_server_groups[0].teks == ()

    def test_a_missing_authorization_list_would_let_everyone_in(self) -> None:
        assert "could refuse nobody" in wrong(KEY_SERVER + "  authorization address ipv4 7\n")

    def test_what_rekeys_need_is_said(self) -> None:
        assert "nowhere to send" in said(KEY_SERVER + "  rekey authentication mypubkey rsa K\n")
        unicast = "  rekey authentication mypubkey rsa K\n  rekey transport unicast\n"
        assert "nowhere" not in said(KEY_SERVER + unicast)
        assert "no address to send" in said(KEY_SERVER.replace("  address ipv4 10.0.0.1\n", "") + unicast)

    @pytest.mark.parametrize(
        ("entries", "message"),
        [
            ("permit udp host 10.0.0.1 eq 848 host 239.0.1.2 eq 848", ""),
            ("permit ip any host 239.0.1.2", ""),
            ("deny ip any any\naccess-list 121 permit udp any host 239.0.1.2", ""),
            ("deny ip any any", "has no permit"),
            ("permit ip any 239.0.0.0 0.255.255.255", "the first permit names no single destination"),
            ("permit udp host 10.0.0.1 eq 848 any", "the first permit names no single destination"),
            ("permit udp host 239.0.1.2 eq 848 host 10.0.0.1 eq 848", "10.0.0.1 is not a multicast address"),
            ("permit ip any any\naccess-list 121 permit udp any host 239.0.1.2", "the first permit names no single destination"),
        ],
    )
    def test_a_list_that_names_no_multicast_group_for_rekeys_is_told(self, entries: str, message: str) -> None:
        text = f"access-list 121 {entries}\n" + KEY_SERVER + "  rekey authentication mypubkey rsa K\n  rekey address ipv4 121\n"
        found = [item for item in parse(text, "f").diagnostics if "access list `121`" in item.message]
        assert [message in item.message for item in found] == ([True] if message else [])
        assert all(item.line == len(text.splitlines()) and "host G eq 848" in item.hint for item in found)
        assert "access list `121`" not in said(text + "  rekey transport unicast\n"), "the list is not used"

    def test_authorization_by_identity_looks_protected_and_is_not(self) -> None:
        text = KEY_SERVER + "  authorization identity NAMES\n"
        assert "refuses nobody" in said(text)
        assert "authorization" not in said(text, Severity.NOTICE)

    def test_an_extended_list_for_authorization_is_told(self) -> None:
        """Only sources are compared; a destination or a port that somebody wrote would be thought to count."""
        extended = "access-list 102 permit udp 10.0.0.0 0.0.0.255 host 10.0.0.1 eq 848\n" + KEY_SERVER
        assert "only its sources are compared" in said(extended + "  authorization address ipv4 102\n")
        for header in ("access-list 5", "ip access-list standard S\n"):
            text = f"{header} permit 10.0.0.0 0.0.0.255\n" + KEY_SERVER + f"  authorization address ipv4 {header.split()[-1]}\n"
            assert "sources" not in said(text)

    @pytest.mark.parametrize(
        ("line", "seconds"), [("seconds 300", 300), ("seconds 2592000", 2592000), ("days 1", 86400), ("days 30", 2592000)]
    )
    def test_the_lifetime_of_the_kek(self, line: str, seconds: int) -> None:
        text = KEY_SERVER + f"  rekey lifetime {line}\n"
        configuration = good(text)
        assert configuration.key_server_groups[0].rekey.lifetime == seconds
        assert good(running_config(configuration)) == configuration
        for taken_back in ("no rekey lifetime", f"no rekey lifetime {line}", "default rekey lifetime"):
            assert good(text + taken_back + "\n").key_server_groups[0].rekey.lifetime == 86400

    def test_a_day_of_lifetime_is_the_default_and_not_printed(self) -> None:
        for line in ("days 1", "seconds 86400"):
            assert "rekey lifetime" not in running_config(good(KEY_SERVER + f"  rekey lifetime {line}\n"))

    @pytest.mark.parametrize("line", ["seconds 299", "seconds 2592001", "days 0", "days 31"])
    def test_what_is_no_lifetime_of_a_kek(self, line: str) -> None:
        assert "is outside" in wrong(KEY_SERVER + f"  rekey lifetime {line}\n")

    def test_a_kek_that_does_not_outlive_the_teks_is_told(self) -> None:
        rekeys = KEY_SERVER + "  rekey transport unicast\n  rekey authentication mypubkey rsa K\n"
        profile = "crypto ipsec profile p\n set security-association lifetime seconds {}\n"
        assert "the KEK lives 3600 s and a TEK 3600 s: a KEK should outlive" in said(rekeys + "  rekey lifetime seconds 3600\n")
        assert "10799 s and a TEK 3600 s: at least 3 times as long is recommended" in said(rekeys + "  rekey lifetime seconds 10799\n")
        assert "the KEK" not in said(rekeys + "  rekey lifetime seconds 10800\n")
        assert "the KEK lives 86400 s and a TEK 86400 s" in said(rekeys + profile.format(86400))
        assert "the KEK" not in said(KEY_SERVER + "  rekey lifetime seconds 300\n"), "without a signing key there is no KEK"
        longest = parse(rekeys + "  rekey lifetime days 30\n" + profile.format(2592000))
        assert [item.hint for item in longest.diagnostics if "the KEK" in item.message] == ["a shorter lifetime in the profile"]

    @pytest.mark.parametrize(
        ("seconds", "retransmit", "transport", "enough"),
        [
            (120, "retransmit 10", "transport unicast", 180),
            (120, "retransmit 60 number 10", "transport unicast", 960),
            (900, "retransmit 60 number 10", "transport unicast", 960),
            (960, "retransmit 60 number 10", "transport unicast", None),
            (120, "retransmit 60 number 10", "address ipv4 121", 960),
            (180, "retransmit 10", "transport unicast", None),
            (180, "retransmit 30 number 10", "address ipv4 121", 540),
        ],
    )
    def test_a_tek_that_has_no_time_for_its_rekey_is_told(self, seconds: int, retransmit: str, transport: str, enough: int | None) -> None:
        text = KEY_SERVER + f"  rekey {transport}\n  rekey authentication mypubkey rsa K\n  rekey {retransmit}\n"
        text += "access-list 121 permit udp host 10.0.0.1 eq 848 host 239.0.1.2 eq 848\n"
        text += f"crypto ipsec profile p\n set security-association lifetime seconds {seconds}\n"
        found = [item.hint for item in parse(text).diagnostics if "too short for a rekey" in item.message]
        assert found == ([] if enough is None else [f"a lifetime of {enough} s in the profile, or fewer retransmissions"])
        assert "too short" not in said(text.replace("  rekey authentication mypubkey rsa K\n", ""))

    def test_a_rekey_without_retransmissions_may_come_too_late_too(self) -> None:
        text = KEY_SERVER + "  rekey transport unicast\n  rekey authentication mypubkey rsa K\n  no rekey retransmit\n"
        text += "crypto ipsec profile p\n set security-association lifetime seconds 120\n"
        assert "a TEK lives 120 s, which is too short for a rekey: it comes when members register again already" in said(text)

    @pytest.mark.parametrize("line", ["rekey algorithm aes 256", "rekey transport unicast", "no rekey retransmit", "rekey lifetime days 2"])
    def test_lines_about_rekeys_without_the_key_that_signs_them_are_told(self, line: str) -> None:
        message = (
            f"{len(KEY_SERVER.splitlines()) + 1}: group `G` has no `rekey authentication`: no rekeys are sent, whatever this line says"
        )
        text = f"{KEY_SERVER}  {line}\n"
        assert message in said(text)
        assert "no `rekey authentication`" not in said(text + "  rekey authentication mypubkey rsa K\n")
        assert "no `rekey authentication`" not in said(text + "  rekey authentication pubkey rsa K\n"), "which has a word of its own"
        assert "no `rekey authentication`" not in said(KEY_SERVER), "a group may have no rekeys"

    def test_a_group_without_a_traffic_policy_is_told(self) -> None:
        text = KEY_SERVER[: KEY_SERVER.index("  sa ipsec")]
        assert "8: group `G` has no `sa ipsec`: there is nothing to encrypt, and registrations are refused" in said(text)
        assert "has no `sa ipsec`" not in said(KEY_SERVER)

    def test_of_several_groups_each_needs_to_know_its_members(self) -> None:
        second = KEY_SERVER[KEY_SERVER.index("crypto gdoi group") :].replace("group G", "group H").replace("number 1", "number 2")
        listed = "  authorization address ipv4 5\naccess-list 5 permit 10.0.0.0 0.0.0.255\n"
        assert "no `authorization address`" not in said(KEY_SERVER)
        assert [line[: line.index("has no")] for line in said(KEY_SERVER + second).splitlines() if "authorization" in line] == [
            "8: group `G` is one of 2 and ",
            "15: group `H` is one of 2 and ",
        ]
        assert [line[: line.index("has no")] for line in said(KEY_SERVER + second + listed).splitlines() if "authorization" in line] == [
            "8: group `G` is one of 2 and "
        ]

    @pytest.mark.parametrize(
        ("line", "short"),
        [
            ("rekey transport unicast", "rekey transport"),
            ("rekey lifetime seconds 600", "rekey lifetime"),
            ("address ipv4 10.0.0.9", "address"),
            ("address ipv4 10.0.0.9", "address ipv4"),
            ("address ipv4 10.0.0.9", "address 10.0.0.9"),
            ("authorization address ipv4 5", "authorization address"),
            ("rekey address ipv4 121", "rekey address"),
        ],
    )
    def test_a_line_of_a_key_server_is_taken_back_by_its_beginning(self, line: str, short: str) -> None:
        lists = "access-list 5 permit any\naccess-list 121 permit ip any host 239.0.1.2\n"
        text = lists + KEY_SERVER.replace("  address ipv4 10.0.0.1\n", "")
        before = good(text).key_server_groups
        assert good(text + f"  {line}\n").key_server_groups != before
        assert good(text + f"  {line}\n  no {short}\n").key_server_groups == before

    def test_a_list_that_encrypts_nothing_is_told(self) -> None:
        """An empty list is a policy that members take for `deny ip any any`: everything is sent in the clear."""
        for text in (
            KEY_SERVER.replace("permit ip any any", "remark to be done"),
            KEY_SERVER.replace("access-list 101 permit ip any any\n", "ip access-list extended 101\n"),
        ):
            assert "`sa ipsec 1` of group `G` names access list `101`, which has no entries: nothing is encrypted" in said(text)
        assert "nothing is encrypted" in said(KEY_SERVER.replace("permit ip any any", "deny ip any any"))
        assert "nothing is encrypted" not in said(KEY_SERVER)

    def test_a_list_whose_entries_are_refused_is_not_told_to_be_empty(self) -> None:
        for entry in ("permit tcp any any range 1 9", "permit ip any any dscp ef"):
            text = KEY_SERVER.replace("permit ip any any", entry)
            assert "cannot be part of a group policy" in wrong(text)
            assert "nothing is encrypted" not in said(text)
            assert "nothing is encrypted" not in said(text.replace("crypto gdoi", "access-list 101 deny ip any any\ncrypto gdoi", 1))

    def test_an_error_elsewhere_does_not_hide_that_a_list_is_empty(self) -> None:
        text = KEY_SERVER.replace("permit ip any any", "remark to be done") + "crypto isakmp key 6 abc address 10.0.0.9\n"
        assert wrong(text)
        assert "nothing is encrypted" in said(text)

    def test_registration_interfaces_are_their_addresses(self) -> None:
        interfaces = (
            "interface GigabitEthernet0/0\n ip address 10.0.0.1 255.255.255.0\n ip address 10.0.7.1 255.255.255.0 secondary\n"
            "interface GigabitEthernet0/1\n ip address 10.0.1.1 255.255.255.0\n"
            "interface GigabitEthernet0/2\n ip address 10.0.2.1 255.255.255.0\n shutdown\n"
            "interface GigabitEthernet0/3\n ip address dhcp\n"
        )

        def chosen(*names: str) -> list[str] | None:
            text = KEY_SERVER + "".join(f"  registration interface {name}\n" for name in names) + interfaces
            (group,) = good(text).key_server_groups
            assert ("nobody can register there" in said(text)) == bool({"gi0/2", "gi0/3", "gi0/9"} & set(names))
            assert "not yet in effect" not in said(text, Severity.NOTICE)
            return None if group.registration_addresses is None else [str(address) for address in group.registration_addresses]

        assert chosen() is None
        assert chosen("gi0/0") == ["10.0.0.1", "10.0.7.1"]
        assert chosen("gi0/1", "gi0/0") == ["10.0.1.1", "10.0.0.1", "10.0.7.1"]
        assert chosen("gi0/1", "gi0/9") == ["10.0.1.1"]
        for without_address in ("gi0/2", "gi0/3", "gi0/9"):
            assert chosen(without_address) == [], "not everywhere"

    def test_a_key_server_is_not_a_member_too(self) -> None:
        both = KEY_SERVER + "crypto gdoi group H\n identity number 2\n server address ipv4 10.0.0.9\n"
        assert "cannot be both" in wrong(both)
        assert "both served here and joined" in wrong(KEY_SERVER + "server address ipv4 10.0.0.9\n")

    def test_what_an_error_takes_away_is_not_said_to_be_lacking(self) -> None:
        key = "crypto isakmp policy 10\n authentication pre-share\ncrypto isakmp key 6 JDYkqyIFWeBvzpljSfWmRZrmRSRE8 address 10.0.0.1\n"
        both = KEY_SERVER + MEMBER.replace("group G", "group H").replace("number 1", "number 2").replace("10.0.1.1", "10.0.0.1")
        for text in (key + MEMBER, both):
            assert wrong(text)
            assert not [line for line in said(text).splitlines() if "isakmp" in line or "no key server" in line]

    def test_two_groups_served_here_do_not_share_an_identity(self) -> None:
        second = KEY_SERVER[KEY_SERVER.index("crypto gdoi group") :].replace("group G", "group H")
        assert "`G` has the identity 1 already" in wrong(KEY_SERVER + second)
        assert wrong(KEY_SERVER + second.replace("number 1", "number 2")) == ""
        assert wrong(KEY_SERVER + second.replace("number 1", "address ipv4 0.0.0.1")) == "", "an address is no number"

    def test_cooperation_is_not_yet_in_effect(self) -> None:
        text = KEY_SERVER + " redundancy\n local priority 10\n peer address ipv4 10.0.0.2\n peer address ipv4 10.0.0.1\n"
        assert "its own peer" in said(text)
        assert "not yet in effect" in said(text, Severity.NOTICE)

    def test_identity_may_be_an_address(self) -> None:
        (group,) = good(KEY_SERVER.replace("number 1", "address ipv4 10.7.7.7")).key_server_groups
        assert group.identity == IPv4Address("10.7.7.7")
