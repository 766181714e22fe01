"""Bodies that are rendered here come out as Jinja would have them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfailover.providers.http import template

VALUES = {"shares": {"trunk_7": 70, "a<b": 30, "é'&": 0}, "ref": 'a"b{{ key }}', "key": "r1-ab/x",
          "version": None, "open": True}

PIECES = ["{", "}", "{{", "}}", "{%", "%}", "{#", "#}", " ", "\n", "\r\n", "\t", "-", "+", "'", '"',
          "shares", "ref", "key", "version", "open", "none", "raw", "endraw", "|", "tojson",
          "{{ shares | tojson }}", "{{shares|tojson}}", "{{ ref }}", "{{ key | tojson }}",
          "{{- ref -}}", "{{ version }}", "{{ version | tojson }}", "{{ other }}", "ä", "#", "##"]


@settings(max_examples=1500, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=7).map("".join))
def test_a_plain_body_is_what_jinja_makes_of_it(body: str) -> None:
    """Whatever is not left to Jinja is rendered to the same text."""
    mine = template._plain(body, VALUES)
    if mine is not None:
        assert mine == template._jinja(body, VALUES)


@pytest.mark.parametrize(("body", "text"), [
    ('{"shares": {{ shares | tojson }}}',
     '{"shares": {"a\\u003cb": 30, "trunk_7": 70, "\\u00e9\\u0027\\u0026": 0}}'),
    ('{"key": {{key|tojson}}, "v": {{ version | tojson }}}', '{"key": "r1-ab/x", "v": null}'),
    ("{{ ref }}", 'a"b{{ key }}'),
    ("no mark", "no mark"),
])
def test_the_usual_bodies_need_no_jinja(body: str, text: str) -> None:
    """In a process of its own: the text, and no Jinja imported."""
    program = ("import sys\nfrom ccfailover.providers.http.template import render\n"
               f"print(render({body!r}, {VALUES!r}).decode(), 'jinja2' in sys.modules)")
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          timeout=60, check=True, env={"PYTHONIOENCODING": "utf-8"}).stdout
    assert said == f"{text} False\n"
    assert template._jinja(body, VALUES) == text


@pytest.mark.parametrize(("body", "kind"), [
    ("{{ other | tojson }}", "TypeError"), ("{{ other }}", "UndefinedError"),
    ("{{ shares.x.y }}", "UndefinedError"),
    ("{{ 1 / 0 }}", "ZeroDivisionError"), ("{{", "TemplateSyntaxError"),
    ("{{ ref.__class__ }}", "SecurityError"),
])
def test_a_fault_is_told_by_its_kind_alone(body: str, kind: str) -> None:
    """Nothing of a template or a value gets into the error."""
    with pytest.raises(ValueError, match=rf"^{kind}$"):
        template.render(body, VALUES)


def test_half_a_character_is_a_fault_and_not_shown() -> None:
    """A lone surrogate cannot be sent, and is no part of the message."""
    with pytest.raises(ValueError, match=r"^UnicodeEncodeError$"):
        template.render("{{ ref }}", {"ref": "\ud800"})
