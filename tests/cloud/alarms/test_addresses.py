"""A receiver that nobody could reach is refused with one clear line when it is added."""

from email.message import EmailMessage

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.alarms.addresses import check_address, check_name
from cloud.problems import Invalid

GOOD = [
    ("webhook", "https://example.org/hook?access_token=a%20b"),
    ("webhook", "http://127.0.0.1:8080/"),
    ("webhook", "http://[::1]:8080/hook"),
    ("webhook", "http://robot/"),
    ("webhook", "https://监测.example.cn/告警"),
    ("webhook", "https://xn--fiq228c.example/"),
    ("webhook", "http://user:secret@example.org./"),
    ("smtp", "li@example.org"),
    ("smtp", "li.wang+duty@localhost"),
    ("smtp", "李@农业.example"),
    ("log", "duty officer"),
    ("log", "值班室　一组"),
]
BAD = [
    *("http://[::1", "http://1.2.3.4:port/", "http://..", "http://xn--/", f"http://{70 * 'a'}.com/", "http://"),
    *("http://a\u2028b/", "http://a\u0000b/", "http://a:99999/", "http://a:0/", "http:///path", "http://a b/"),
    *("http://-a/", "http://a..b/", f"http://{'a.' * 130}b/", "ftp://a/", "//a", "a", "http://a/\r\nHost: b"),
]
BAD_MAIL = [
    *("a@b\u0085", "a@b\u2028c", "a@[b", "a@b;c@d", "@", "a@", "@b", "a@b,c@d", "a b@c", "a@b\nBcc: c@d", "<a@b>"),
    *(".a@b", "a..b@c", "a@b@c", "a@-b", f"{65 * 'a'}@b", "a@b\ud800", '"a"@b', "a@[127.0.0.1]", "a:b@c"),
]


@pytest.mark.parametrize(("kind", "address"), GOOD)
def test_an_address_that_can_be_told_is_taken(kind, address):
    check_address(kind, address)


@pytest.mark.parametrize(
    ("kind", "address"),
    [*(("webhook", one) for one in BAD), *(("smtp", one) for one in BAD_MAIL), ("log", "a\nb"), ("log", "a\u2029b")],
)
def test_an_address_that_nobody_could_be_told_by_is_refused_in_one_line(kind, address):
    with pytest.raises(Invalid) as refused:
        check_address(kind, address)
    assert (refused.value.code, refused.value.pointer) == ("bad_address", "/address")
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["a\nb", "a\u2028b", "a\u0000", "\x1b[31m"])
def test_a_name_that_is_not_one_line_is_refused(name):
    with pytest.raises(Invalid) as refused:
        check_name(name)
    assert (refused.value.code, refused.value.pointer) == ("bad_name", "/name")


def taken(kind, address):
    try:
        check_address(kind, address)
    except Invalid:
        return False
    return True


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=40), st.sampled_from([".", "@", ":", "[", "xn--", "%", "/", "#", "?", "\\"]))
def test_whatever_is_taken_can_be_put_into_a_request_or_a_mail(text, mark):
    for address in (f"http://{text}", f"http://a{mark}{text}/", f"http://{text}{mark}80"):
        if taken("webhook", address):
            httpx.Request("POST", address)
    for address in (f"{text}@example.org", f"a@{text}", f"a{mark}{text}@b{mark}{text}"):
        if taken("smtp", address):
            mail = EmailMessage()
            mail["To"] = address
            assert mail["To"].addresses[0].addr_spec == address
