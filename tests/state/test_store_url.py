"""URLs of stores: every form is understood, and what is not is told without the URL, which holds a password."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.state.store.url import BadUrl, Host, Login, Where, bad_urls, parse

SECRET = "hunter2-4711"


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("redis://h", Where("single", (Host("h"),))),
        ("redis://h:7000/3", Where("single", (Host("h", 7000),), Login(database=3))),
        ("redis://:p%40ss@[::1]:7", Where("single", (Host("::1", 7),), Login(password="p@ss"))),
        ("rediss://u:p@h?ca=/a%20b.pem", Where("single", (Host("h"),), Login("u", "p"), tls=True, ca="/a b.pem")),
        ("unix:///run/a%20b/socket", Where("single", (Host("", 0, "/run/a b/socket"),))),
        ("unix://u:p@/run/socket?db=2", Where("single", (Host("", 0, "/run/socket"),), Login("u", "p", 2))),
        (
            "redis+sentinel://:p@a,b:7/limits/1?sentinel_password=s",
            Where("sentinel", (Host("a", 26379), Host("b", 7)), Login("", "p", 1), service="limits", sentinels=Login("", "s")),
        ),
        ("rediss+cluster://u:p@a,b", Where("cluster", (Host("a"), Host("b")), Login("u", "p"), tls=True)),
    ],
)
def test_every_form_is_understood(url: str, where: Where) -> None:
    assert parse(url) == where


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (f"http://:{SECRET}@h", "begins like none"),
        (f"redis+magic://:{SECRET}@h", "begins like none"),
        (f"redis:/{SECRET}", "begins like none"),
        (f"redis://:{SECRET}@a,b", "several hosts"),
        (f"redis://:{SECRET}@h:port", "host in its URL"),
        (f"redis://:{SECRET}@h:70000", "host in its URL"),
        (f"redis://:{SECRET}@", "host in its URL"),
        (f"redis://:{SECRET}@[::1", "can't be read"),
        (f"redis://user@h/{SECRET}", "not a number"),
        (f"redis://:{SECRET}@h/1/2", "too many parts"),
        (f"redis://{SECRET}@h", "without a password"),
        (f"redis://h?password={SECRET}", "means nothing here"),
        (f"rediss://h?ssl_cert_reqs={SECRET}", "`rediss` asks for TLS"),
        (f"redis://h?{SECRET}", "can't be read"),
        (f"redis://h?ca=/{SECRET}", "no TLS"),
        (f"redis+sentinel://:{SECRET}@a", "name the service"),
        (f"redis+cluster://:{SECRET}@a/0", "one only"),
        (f"unix://{SECRET}/socket", "whole path"),
        (f"unix:///socket?ca={SECRET}", "means nothing here"),
    ],
)
def test_what_is_wrong_is_told_without_the_url(url: str, why: str) -> None:
    (line,) = bad_urls({"cache": url})
    assert line.startswith("the store `cache` can't be used: ") and why in line
    assert SECRET not in line


def test_the_file_of_an_authority_must_be_one(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    for name in ("ca.pem", "absent.pem"):
        (line,) = bad_urls({"state": f"rediss://:{SECRET}@h?ca={tmp_path}/{name}"})
        assert f"`{tmp_path}/{name}`" in line and "a PEM file is wanted" in line and SECRET not in line
    assert bad_urls({"state": "rediss://h", "cache": "redis://h"}) == []


def test_no_repr_shows_a_password() -> None:
    assert SECRET not in repr(parse(f"redis+sentinel://u:{SECRET}@a/limits?sentinel_password={SECRET}"))


@given(st.text(max_size=40), st.sampled_from(["", "redis://", "rediss://:p@", "unix://", "redis+sentinel://a,", "redis+cluster://"]))
def test_whatever_is_written_is_understood_or_told(text: str, before: str) -> None:
    try:
        found: object = parse(before + text).hosts
    except BadUrl as error:
        found = str(error)
    assert found
