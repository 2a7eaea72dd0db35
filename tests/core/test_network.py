"""Addresses that stand for one network."""

from __future__ import annotations

import pytest

from edgeagent.core.network import network_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("viewer.local", "viewer.local"),
    ],
)
def test_what_stands_for_a_network(address: str, network: str) -> None:
    assert network_of(address) == network
