"""Redaction: what must go, what must stay, and that no text, however odd, takes long."""

from __future__ import annotations

import ipaddress
import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import MissingExtra, MissingWeights
from potstill.teachers.redact import RedactedText, redact, redactor

WORDS = st.sampled_from(["please", "write to", "my data:", "(", ")", "and", "–", "für", "是", ", ", ";", "\n", "'"])
AROUND = st.lists(WORDS, max_size=4).map(" ".join)

FOUND = {
    "email": [
        "jo@example.com",
        "a.b+c@mail.example.co.uk",
        "x_1@sub.domain-name.org",
        "jürgen@müller.de",
        "o'neil@x.ie",
    ],
    "iban": [
        "DE89370400440532013000",
        "DE89 3704 0044 0532 0130 00",
        "de89-3704-0044-0532-0130-00",
        "GB29 NWBK 6016 1331 9268 19",
        "FR14 2004 1010 0505 0001 3M02 606",
        "NO93 8601 1117 947",
    ],
    "card": [
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "5555 5555 5555 4444",
        "2223003122003222",
        "378282246310005",
        "3782 822463 10005",
        "30569309025904",
        "6011111111111117",
        "3530111333300000",
        "4222222222222",
        "４１１１ １１１１ １１１１ １１１１",
    ],
    "ipv4": ["192.168.1.1", "8.8.8.8", "255.255.255.255"],
    "ipv6": [
        "2001:db8::1",
        "fe80::1ff:fe23:4567:890a",
        "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
        "::ffff:192.168.1.1",
    ],
    "phone": [
        "+49 170 1234567",
        "+442079460958",
        "+1 (212) 555-0123",
        "+33 6 12 34 56 78",
        "+55 (11) 91234-5678",
        "0049 170 1234567",
        "(212) 555-0123",
        "212-555-0123",
        "212.555.0123",
        "1-800-555-0199",
        "030 1234567",
        "(0171) 1234567",
        "0171/1234567",
        "020 7946 0958",
        "01 23 45 67 89",
        "01.23.45.67.89",
        "0612345678",
        "07911123456",
        "(11) 91234-5678",
        "98765 43210",
    ],
}
KEPT = [
    "in 2024 and 1999-2003",
    "$1,299.00 or 12.345,67 or 1 234 567,89",
    "order 1234567890",
    "order #0123456789",
    "Order no. 2125550123",
    "Rechnungsnummer 030 1234567",
    "01.02.2024",
    "08.11.2023 - 09.11.2023",
    "2024-01-02 09:30:15",
    "3.14159265358979",
    "0.123456789012345",
    "std::vector<int> face::bad Foo1::f2",
    "12:34:56",
    "v1.2.3.4 and 1.2.3",
    "build 10.0.19045.3803",
    "256.1.1.1",
    "1700000000000",
    "isbn 978-0-306-40615-7 or 9780306406157",
    "SKU 4006381333931",
    "4111111111111112",
    "0000000000000000",
    "DE88370400440532013000",
    "XX89370400440532013000",
    "100 000 000 people",
    "@handle met foo@bar",
    "+1000 points",
    "10-12-2023 11-12-2023",
    "score 21-17, 19-21, 15-13",
    "room 212, seat 555, row 0123",
    "a1b2c3d4e5f60718293a4b5c6d7e8f90",
]


@pytest.mark.parametrize(("kind", "planted"), [(kind, each) for kind, found in FOUND.items() for each in found])
def test_personal_data_become_a_placeholder(kind: str, planted: str) -> None:
    for text in (planted, f"It is {planted}.", f"({planted}), thanks", f"id:\n{planted}\nbye"):
        redacted = redact(text)
        assert redacted.text == text.replace(planted, f"[{kind.upper()}]")
        assert redacted.counts == {kind: 1}


@pytest.mark.parametrize("text", KEPT)
def test_years_prices_dates_and_order_numbers_stay(text: str) -> None:
    assert redact(text) == RedactedText(text)


@pytest.mark.parametrize(
    "text", ["call 2125550123", "Tel.: 555-0123", "my phone number is 2125550123", "WhatsApp 612345678", "Fax 1234567"]
)
def test_a_bare_number_is_a_phone_number_after_a_word_such_as_phone(text: str) -> None:
    assert redact(text).counts == {"phone": 1}
    assert redact(text.split()[-1]).counts == {}


def test_several_are_counted_and_the_rest_of_the_text_stays() -> None:
    redacted = redact(
        "jo@x.org, al@y.net: pay DE89370400440532013000 from 10.0.0.1 with 4111111111111111 12/27 +4917012345678"
    )
    assert redacted.text == "[EMAIL], [EMAIL]: pay [IBAN] from [IPV4] with [CARD] 12/27 [PHONE]"
    assert redacted.counts == {"email": 2, "iban": 1, "ipv4": 1, "card": 1, "phone": 1}


@given(AROUND, st.from_regex(r"[a-z0-9]{1,12}([._+-][a-z0-9]{1,8})?", fullmatch=True), AROUND)
def test_every_address_goes(before: str, name: str, after: str) -> None:
    planted = f"{name}@example.org"
    assert planted not in redact(f"{before} {planted} {after}").text
    assert name + "@" not in redact(f"{before} {planted} {after}").text


@given(AROUND, st.integers(0, 10**14 - 1), st.sampled_from(["", " ", "-"]), AROUND)
def test_every_valid_card_goes(before: str, middle: int, gap: str, after: str) -> None:
    digits = f"4{middle:014d}"
    total = sum(sum(divmod(int(d) * (1 + (i % 2 == 0)), 10)) for i, d in enumerate(digits))
    whole = digits + str(-total % 10)
    planted = gap.join(whole[i : i + 4] for i in range(0, 16, 4))
    assert planted not in redact(f"{before} {planted} {after}").text


@given(AROUND, st.integers(0, 10**18 - 1), AROUND)
def test_every_valid_iban_goes_and_one_wrong_digit_keeps_it(before: str, account: int, after: str) -> None:
    body = f"{account:018d}"
    check = 98 - int(f"{body}131400") % 97  # D and E are 13 and 14
    assert redact(f"{before} DE{check:02d}{body} {after}").counts.get("iban") == 1
    wrong = check + 1 if check < 97 else check - 1
    assert "iban" not in redact(f"{before} DE{wrong:02d}{body} {after}").counts


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**32 - 1))
def test_every_ip_address_goes(six: int, four: int) -> None:
    planted = ipaddress.IPv6Address(six)
    assert redact(f"from {planted.exploded} now").text == "from [IPV6] now"
    assert redact(f"from {ipaddress.IPv4Address(four)} now").text == "from [IPV4] now"


@given(st.text(alphabet=st.sampled_from("aA1 0+-.@:/()[]#\u0661\ud800é9f4"), max_size=60) | st.text())
def test_any_text_can_be_redacted_and_each_count_is_a_placeholder(text: str) -> None:
    redacted = redact(text)
    added = sum(redacted.text.count(f"[{kind.upper()}]") - text.count(f"[{kind.upper()}]") for kind in redacted.counts)
    assert added == sum(redacted.counts.values())
    if not redacted.counts:
        assert redacted.text == text


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "a.",
        "a@",
        "a@b.",
        "1@1.1",
        "x@y.z.",
        "1",
        "1 ",
        "0 ",
        "(0",
        "1.",
        "12-",
        "+",
        "+1",
        "00 1",
        "DE89 ",
        "4111 ",
        "::",
        "1:",
        "f:",
        "ab12",
        "tel 1",
        "call ",
        " ",
        "١",
        "[EMAIL]",
    ],
)
def test_long_hostile_texts_end(unit: str) -> None:
    """A search that goes back over what it has read would take hours here; the suite's timeout ends it."""
    long = (unit * 100_000)[:100_000]
    assert redact(f"{long} jo@example.com").counts.get("email") == 1 or "@" in unit


def test_presidio_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(MissingExtra, match=r"potstill\[pii\]"):
        redactor("presidio")


class _Engine:
    """What Presidio's analyser does, as far as it is used: it finds Jo, and the placeholder of an address."""

    def __init__(self, nlp_engine: object) -> None:
        pass

    def analyze(self, text: str, language: str) -> list[types.SimpleNamespace]:
        at, mail = text.index("Jo"), text.find("[EMAIL]")
        found = [types.SimpleNamespace(start=at, end=at + 2, entity_type="PERSON")]
        inside = types.SimpleNamespace(start=mail + 1, end=mail + 6, entity_type="ORGANIZATION")
        shorter = types.SimpleNamespace(start=at, end=at + 1, entity_type="LOCATION")
        return [shorter, *found, *([inside] if mail >= 0 else [])]


class _Provider:
    def __init__(self, nlp_configuration: object) -> None:
        pass

    def create_engine(self) -> None:
        pass


@pytest.mark.parametrize("model", ["en_core_web_sm", None])
def test_presidio_comes_on_top_and_spares_placeholders(monkeypatch: pytest.MonkeyPatch, model: str | None) -> None:
    modules = {
        "presidio_analyzer": {"AnalyzerEngine": _Engine},
        "presidio_analyzer.nlp_engine": {"NlpEngineProvider": _Provider},
        "spacy": {},
        "spacy.util": {"is_package": lambda name: name == model},
    }
    for name, content in modules.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    if model is None:
        with pytest.raises(MissingWeights, match="spacy download"):
            redactor("presidio")
        return
    redacted = redactor("presidio")("Jo is jo@example.com")
    assert redacted.text == "[PERSON] is [EMAIL]"
    assert redacted.counts == {"person": 1, "email": 1}
