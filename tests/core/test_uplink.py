from __future__ import annotations

import pytest

from edgeagent.core.uplink import UplinkShare, beyond_lan


@pytest.mark.parametrize(
    ("address", "outside"),
    [
        ("192.168.1.7", False),
        ("10.0.0.1", False),
        ("127.0.0.1", False),
        ("169.254.3.4", False),
        ("fe80::1%eth0", False),
        ("fd00::2", False),
        ("8.8.8.8", True),
        ("2606:4700::1", True),
        ("nonsense", True),
    ],
)
def test_private_addresses_are_the_lan(address: str, outside: bool) -> None:
    assert beyond_lan(address) is outside


def test_a_global_address_of_our_own_prefix_is_the_lan() -> None:
    assert not beyond_lan("2a02:810d:1:1::5", "2a02:810d:1:1::9")
    assert beyond_lan("2a02:810d:1:2::5", "2a02:810d:1:1::9")
    assert beyond_lan("2a02:810d:1:1::5", "192.168.1.2")
    assert beyond_lan("8.8.8.8", "2a02:810d:1:1::9")


def test_those_beyond_the_lan_share_evenly() -> None:
    share = UplinkShare(20e6)
    share.join("a")
    assert share.share_bps("a") == 20e6
    share.join("b")
    share.join("b")
    assert share.share_bps("a") == share.share_bps("b") == 10e6
    assert share.share_bps("at home") is None
    share.leave("a")
    share.leave("never came")
    assert share.share_bps("b") == 20e6
    assert UplinkShare().share_bps("b") is None
